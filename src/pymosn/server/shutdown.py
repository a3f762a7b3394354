"""What signals have asked of the supervisor."""

import asyncio
import signal
from typing import Final

_GENTLE: Final = (signal.SIGTERM,)
_AT_ONCE: Final = (signal.SIGINT, signal.SIGQUIT)


class ShutdownSignals:
    """`asked`: the process shall stop; `now`: without waiting for what is in flight."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes over SIGTERM (drain; a second one: now), SIGINT and SIGQUIT (now)."""
        for number in _GENTLE:
            loop.add_signal_handler(number, self.gently)
        for number in _AT_ONCE:
            loop.add_signal_handler(number, self.at_once)

    def gently(self) -> None:
        """Asks for a drain the first time, for the end the second time."""
        if self.asked.is_set():
            self.now.set()
        self.asked.set()

    def at_once(self) -> None:
        """Asks for the end."""
        self.asked.set()
        self.now.set()
