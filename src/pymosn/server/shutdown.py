"""Shutdown requests received as signals."""

import asyncio
import signal
from typing import Final

#: Signals that the supervisor handles; Ctrl-C in a terminal reaches the workers too, which must ignore them.
SUPERVISOR_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
_GRACEFUL: Final = (signal.SIGTERM,)
_IMMEDIATE: Final = (signal.SIGINT, signal.SIGQUIT)


class ShutdownSignals:
    """`requested`: the process must stop; `now`: without waiting for requests in flight."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.now = asyncio.Event()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handles SIGTERM (drain; a second one: stop now), SIGINT and SIGQUIT (stop now)."""
        for signum in _GRACEFUL:
            loop.add_signal_handler(signum, self.request_drain)
        for signum in _IMMEDIATE:
            loop.add_signal_handler(signum, self.request_stop)

    def request_drain(self) -> None:
        """Requests a drain the first time, an immediate stop the second time."""
        if self.requested.is_set():
            self.now.set()
        self.requested.set()

    def request_stop(self) -> None:
        """Requests an immediate stop."""
        self.requested.set()
        self.now.set()
