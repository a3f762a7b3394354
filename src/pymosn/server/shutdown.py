"""Shutdown requests received as signals, or through the admin API."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from pymosn.server.upgrade.tether import Tether

#: Signals that the supervisor handles; Ctrl-C in a terminal reaches the workers too, which must ignore them.
SUPERVISOR_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Those that would end a process without handlers: they wait until the services run.
LATER_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class ShutdownSignals:
    """`requested`: the process must stop; `now`: without waiting for requests in flight."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tether: Tether) -> None:
        """Handles SIGTERM (drain; a second one: stop now), SIGINT and SIGQUIT (stop now), unless a successor gets them."""
        self.requested = asyncio.Event()
        self.now = asyncio.Event()
        tether.handle(loop, signal.SIGTERM, self.request_drain)
        tether.handle(loop, signal.SIGINT, self.request_stop)
        tether.handle(loop, signal.SIGQUIT, self.request_stop)

    def request_drain(self) -> None:
        """Requests a drain the first time, an immediate stop the second time."""
        if self.requested.is_set():
            self.now.set()
        self.requested.set()

    def request_stop(self) -> None:
        """Requests an immediate stop."""
        self.requested.set()
        self.now.set()

    def pass_on(self, forward: Callable[[signal.Signals], object]) -> None:
        """Gives a successor that has just taken over what was requested before; later signals are forwarded as they come."""
        if self.requested.is_set():
            forward(signal.SIGINT if self.now.is_set() else signal.SIGTERM)

    def request(self, now: bool) -> None:
        """Requests a drain, or an immediate stop. Unlike a second signal, a second request for a drain changes nothing."""
        self.requested.set()
        if now:
            self.now.set()
