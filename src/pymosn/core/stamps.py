"""What the exchanges of one worker get from it on demand: the time, an id of their stream, and one of their trace."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.clock import Clock

#: Numbers of connections and of streams that belong to one worker process. Each process that the supervisor has started
#: has a range of its own, so that its ids are unique in the logs of all workers, also of those that it has replaced.
IDS_PER_WORKER: Final[i64] = 1_000_000_000_000
#: The counter in trace ids runs between these; the second one is excluded.
FIRST_TRACE: Final[i64] = 1000
LAST_TRACE: Final[i64] = 10000


class Stamps:
    """Nothing is made for an exchange that does not ask."""

    def __init__(self, clock: Clock, incarnation: i64 = 0, machine: str = "", process: str = "") -> None:
        """`incarnation`: how many workers were started before this one. `machine`, `process`: for trace ids."""
        self._clock = clock
        self._machine = machine
        self._process = process
        self._last_stream: i64 = incarnation * IDS_PER_WORKER
        self._next_trace: i64 = FIRST_TRACE

    def now(self) -> float:
        """The present time, by `Clock.now`: not that of the event."""
        return self._clock.tick()

    def offset(self) -> float:
        """What to add to a time of `Clock.now` to get seconds since 1970."""
        return self._clock.wall() - self._clock.tick()

    def stream_id(self) -> str:
        """The next id of a stream whose protocol has none."""
        self._last_stream += 1
        return str(self._last_stream)

    def trace_id(self) -> str:
        """A new trace id in MOSN's form: address of the machine, milliseconds since 1970, a counter, the process."""
        number = self._next_trace
        self._next_trace = number + 1 if number + 1 < LAST_TRACE else FIRST_TRACE
        return f"{self._machine}{int(self._clock.wall() * 1000.0)}{number}{self._process}"
