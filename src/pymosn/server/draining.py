"""Drains listeners while the process keeps running: `/drain_listeners` and `/healthcheck/fail` of Envoy's admin API.

Istio's agent drains so before it ends the process: connections that are in use are asked to finish (`Connection: close`,
GOAWAY), and new ones, which still arrive until all clients know, are served once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.log import INFO, Log
from pymosn.server.messages import Command, SetDrain

#: Calls a function after some seconds.
CallLater = Callable[[float, Callable[[], None]], object]
#: The type of listeners for the traffic to this machine.
INBOUND = "ingress"


class CarriedDrain(msgspec.Struct, frozen=True):
    """What is drained and closed, for the next generation: None for nothing, or whether it is inbound listeners only.

    `ends`: what is closed after `left` seconds.
    """

    is_failing: bool = False
    drained: bool | None = None
    closed: bool | None = None
    ends: bool | None = None
    left: float = 0.0


class Draining(Service):
    """Follows the configuration: listeners that are added later are drained too."""

    name = "draining"

    def __init__(
        self,
        send: Callable[[Command], None],
        close: Callable[[Collection[str]], None],
        call_later: CallLater,
        log: Log,
        clock: Clock | None = None,
    ) -> None:
        """`send`: to all workers. `close`: closes the sockets of listeners in this process."""
        self._send = send
        self._close = close
        self._call_later = call_later
        self._log = log
        self._clock = clock or Clock()
        self._listeners: dict[str, str] = {}
        self._drain_time = 0.0
        self._is_failing = False
        # What is drained, and what is closed: None for nothing, or whether it is inbound listeners only.
        self._drained: bool | None = None
        self._closed: bool | None = None
        # What is closed when the drain time is over, and that time on the clock.
        self._ends: bool | None = None
        self._end_time = 0.0

    @property
    def is_active(self) -> bool:
        """Whether clients are asked to go to another server."""
        return self._is_failing or self._drained is not None

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    def follow(self, config: MosnConfig) -> None:
        server = config.servers[0]
        self._listeners = {listener.known_name(): listener.type for listener in server.listeners}
        self._drain_time = server.graceful_timeout
        if self.is_active:
            self._apply()

    def drain(self, inbound_only: bool, is_graceful: bool, stays: bool) -> None:
        """See `ControlPlane.drain_listeners`. A second call may drain more, or close at once."""
        which = "inbound listeners" if inbound_only else "all listeners"
        is_new = self._drained is None
        self._drained = inbound_only and self._drained is not False
        if not is_graceful:
            self._log.write(INFO, f"closing {which}")
            self._closed = inbound_only and self._closed is not False
        elif is_new:
            self._log.write(INFO, f"draining {which}" + ("" if stays else f" for {self._drain_time:g} s"))
            if not stays:
                self._end_later(inbound_only, self._drain_time)
        self._apply()

    def set_failing(self, is_failing: bool) -> None:
        """See `ControlPlane.set_failing`."""
        self._is_failing = is_failing
        self._apply()

    def command(self) -> SetDrain:
        """What the workers have to do now."""
        drained = self._names(False if self._is_failing else self._drained)
        return SetDrain(drained, self._names(self._closed))

    def export(self) -> bytes | None:
        """What is drained and closed, for the next generation; None for nothing."""
        if not self.is_active and self._closed is None:
            return None
        left = max(0.0, self._end_time - self._clock.tick()) if self._ends is not None else 0.0
        return msgspec.msgpack.encode(CarriedDrain(self._is_failing, self._drained, self._closed, self._ends, left))

    def adopt(self, content: bytes) -> None:
        """Drains and closes what the generation before does."""
        found = msgspec.msgpack.decode(content, type=CarriedDrain)
        self._is_failing, self._drained, self._closed = found.is_failing, found.drained, found.closed
        if found.ends is not None and self._ends is None:
            self._end_later(found.ends, found.left)
        self._apply()

    def _end_later(self, inbound_only: bool, seconds: float) -> None:
        self._ends, self._end_time = inbound_only, self._clock.tick() + seconds
        self._call_later(seconds, lambda: self._end(inbound_only))

    def _end(self, inbound_only: bool) -> None:
        self._ends = None
        self._log.write(INFO, "drained; the listeners are closed")
        self._closed = inbound_only and self._closed is not False
        self._apply()

    def _apply(self) -> None:
        command = self.command()
        # A socket is open until its last copy is closed; the workers' are closed after this one.
        self._close(command.closed)
        self._send(command)

    def _names(self, scope: bool | None) -> list[str]:
        if scope is None:
            return []
        return [name for name, kind in self._listeners.items() if not scope or kind == INBOUND]
