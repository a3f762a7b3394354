"""The longest time that a connection of `tcp_proxy` may last."""

from __future__ import annotations

from pymosn.api.network import Connection
from pymosn.core.failure import MAX_AGE
from pymosn.core.timers import Alarm, TimerWheel


class AgeLimit(Alarm):
    """Closes a client's connection after some time, whatever it does then."""

    def __init__(self, connection: Connection, wheel: TimerWheel, seconds: float) -> None:
        super().__init__()
        self._connection = connection
        self._wheel = wheel
        wheel.set(self, seconds)

    def on_alarm(self) -> None:
        self._connection.close(MAX_AGE)

    def clear(self) -> None:
        """The connection has ended."""
        self._wheel.clear(self)
