"""Finds workers that beat but serve nothing, because a filter broke their event loop.

Each second a running worker is handed one end of a socket pair, which it serves like an accepted connection: registered with
the event loop, read by a `TcpConnection` of a listener, answered by a task and a timer. Nothing of it is configured, nothing
can connect to it, and it appears in no metric or log. The answer is empty text or what the worker itself finds wrong.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from pymosn.api.network import STOP, Connection, FilterChainFactory, NetworkFilter
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.failure import CLOSED_BY_PEER
from pymosn.core.log import Log
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.listener import ConnectionIds, Listener

#: What the supervisor asks, and the first byte of each answer.
QUESTION: Final = b"?"
ANSWER: Final = b"!"
#: Probes that must be missed within the limit.
PROBES: Final = 3
#: Seconds between two probes of a healthy worker, at least.
PROBE_PERIOD: Final = 1.0
#: Seconds of the timer in a worker's answer.
TIMER: Final = 0.01


class ProbeSender:
    """The supervisor's side, for one worker. `answered`: the time of the last good answer; at first, of `Ready`."""

    def __init__(self, send: Callable[[int], None], is_flushed: Callable[[], bool]) -> None:
        """`send` hands the worker a descriptor, which stays open until `is_flushed`."""
        self.answered = 0.0
        #: What the worker last found wrong.
        self.fault = ""
        self._send = send
        self._is_flushed = is_flushed
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._sent = 0.0

    def check(self, now: float, limit: float) -> bool:
        """Reads the last answer and sends the next probe; False if none was answered for `limit` seconds. 0: no limit."""
        self._read(now)
        if limit > 0.0 and now - self.answered > limit:
            return False
        if (
            now - self._sent >= (PROBE_PERIOD if self._pair is None else max(PROBE_PERIOD, limit / PROBES))
            and self._is_flushed()
        ):
            self.close()
            self._pair = ours, theirs = socket.socketpair()
            ours.setblocking(False)
            ours.send(QUESTION)
            self._sent = now
            self._send(theirs.fileno())
        return True

    def _read(self, now: float) -> None:
        if self._pair is None:
            return
        try:
            answer = self._pair[0].recv(4096)
        except OSError:
            return
        if answer[:1] == ANSWER:
            self.fault = answer[1:].decode("utf-8", "replace")
            if not self.fault:
                self.answered = now
            self.close()

    def close(self) -> None:
        """Closes the current probe."""
        if self._pair is not None:
            for sock in self._pair:
                sock.close()
        self._pair = None


class _Answer(NetworkFilter):
    """Answers one probe, by a task and a timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, find_fault: Callable[[], str]) -> None:
        self._loop = loop
        self._find_fault = find_fault
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection

    def on_data(self, data: bytes) -> bool:
        self._task = self._loop.create_task(self._wait())
        return STOP

    async def _wait(self) -> None:
        await asyncio.sleep(0)
        if self._connection is not None:
            self._connection.set_idle(TIMER)

    def on_idle(self) -> None:
        if self._connection is not None:
            self._connection.write(ANSWER + self._find_fault().encode())

    def on_eof(self) -> None:
        if self._connection is not None:
            self._connection.close(CLOSED_BY_PEER)


class _Answers(FilterChainFactory):
    def __init__(self, loop: asyncio.AbstractEventLoop, find_fault: Callable[[], str]) -> None:
        self._loop = loop
        self._find_fault = find_fault

    def create(self) -> list[NetworkFilter]:
        return [_Answer(self._loop, self._find_fault)]


class ProbeReceiver:
    """A worker's side: a listener without a socket, and with metrics and admission of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, listeners: Callable[[], list[Listener]]) -> None:
        """`listeners`: those that should accept at the moment."""
        self._listeners = listeners
        stats = DownstreamStats(Metrics().group("probe", ("probe", "")))
        factory = _Answers(loop, self._find_fault)
        self._listener = Listener("probe", "", factory, stats, ConnectionIds(), wheel.clock, wheel, Admission(wheel, Log()))

    def serve(self, descriptor: int) -> None:
        """Serves a probe. What fails here is what a probe is to find: then there is no answer."""
        with contextlib.suppress(Exception):
            self._listener.adopt(socket.socket(fileno=descriptor))

    def _find_fault(self) -> str:
        faults = ((listener.name, listener.fault()) for listener in self._listeners())
        return next((f"listener {name}: {fault}" for name, fault in faults if fault), "")
