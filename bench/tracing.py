"""`python -m bench.tracing`: the CPU that tracing adds to a request, without sockets, in the pymosn that is imported.

A GET of HTTP/1 goes through the real layers (`pymosn.kit.bench_rig`), alternately without tracing and with it: unsampled and
sampled, with new traces and with received ones. Two lines without tracing show the accuracy. What happens later, outside of
requests, making a record of a sampled trace and encoding it for the supervisor, is measured apart; the target is for both.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Sequence

import msgspec

from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.stamps import Stamps
from pymosn.kit.bench_rig import Line
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.finished import FinishedTrace
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.records import record_of
from pymosn.observe.tracing.sampling import Sampling
from pymosn.observe.tracing.tracer import WorkerTracer
from pymosn.server.messages import Traces
from pymosn.server.resources import settle
from pymosn.version import build

#: Rounds per line, of which the best counts, and requests per round.
ROUNDS = 40
REQUESTS = 1000
#: Targets in microseconds.
UNSAMPLED_TARGET = 0.5
SAMPLED_TARGET = 3.0

_FIELDS = (
    b"Host: bench.example\r\nUser-Agent: pymosn-bench\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-User: alice\r\n"
)
_RESPONSE = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 60\r\n\r\n" + b"x" * 60
_PARENT = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-%s\r\n"


class Traced:
    """A line with tracing. `name`: of the row; empty formats: tracing is off."""

    def __init__(self, name: str, formats: Sequence[str] = (), rate: float = 0.0, fields: bytes = b"") -> None:
        self.name = name
        self.is_traced = bool(formats)
        self.is_sampled = bool(formats) and (fields.endswith(b"-01\r\n") if fields else rate > 0)
        self._buffer = TraceBuffer(Metrics(), 2 * REQUESTS)
        tracer: WorkerTracer | None = None
        if formats:
            self._buffer.open()
            tracer = WorkerTracer(list(formats), Sampling(rate), self._buffer, Stamps(Clock()), "proxy", "machine")
        request = b"GET /items/7?full=1 HTTP/1.1\r\n" + _FIELDS + fields + b"\r\n"
        self._line = Line({}, request, _RESPONSE, tracer)
        self.best = float("inf")
        #: Seconds for each trace outside of requests.
        self.later = 0.0 if not self.is_sampled else float("inf")

    async def round(self, count: int) -> list[FinishedTrace]:
        """Sends requests, and returns their traces."""
        gc.collect()
        self.best = min(self.best, await self._line.run(count))
        found = self._buffer.take(len(self._buffer))
        assert len(found) == (count if self.is_sampled else 0), f"{self.name}: {len(found)} traces"
        return found


def lines() -> list[Traced]:
    """The rows, of which the first two are without tracing."""
    every = ("w3c", "b3", "b3multi", "jaeger", "sw8", "sofa")
    return [
        Traced("off"),
        Traced("off, again"),
        Traced("unsampled, new (w3c)", ["w3c"]),
        Traced("unsampled, received (w3c)", ["w3c"], 1.0, _PARENT % b"00"),
        Traced("off, with a received context", fields=_PARENT % b"01"),
        Traced("sampled, received (w3c)", ["w3c"], 0.0, _PARENT % b"01"),
        *(Traced(f"sampled, new ({name})", [name], 1.0) for name in every),
        Traced("sampled, new (b3, b3multi)", ["b3", "b3multi"], 1.0),
    ]


async def measure(rows: Sequence[Traced]) -> None:
    """Runs all rows."""
    ids = IdSource()
    for row in rows:
        for trace in await row.round(REQUESTS // 10):
            trace.release()
    settle()
    try:
        for _ in range(ROUNDS):
            for row in rows:
                traces = await row.round(REQUESTS)
                count = len(traces)
                if count:
                    started = time.process_time()
                    for at in range(0, len(traces), 64):
                        msgspec.msgpack.encode(Traces([record_of(trace, 0.0, ids) for trace in traces[at : at + 64]]))
                    del traces  # which takes time, too
                    row.later = min(row.later, (time.process_time() - started) / count)
    finally:
        gc.unfreeze()


def main() -> int:
    """Prints the table; 1 if a target is missed on the compiled build."""
    import uvloop

    rows = lines()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(rows))
    base, with_context = rows[0].best, rows[4].best
    print(f"microseconds of CPU per request ({build()} build), the best of {ROUNDS} rounds of {REQUESTS}")
    print(f"{'':32}{'request':>8}{'added':>8}{'later':>8}{'in all':>8}")
    missed = False
    for row in rows:
        added = (row.best - (with_context if "received" in row.name else base)) * 1e6
        later = row.later * 1e6
        text = f"{row.name:32}{row.best * 1e6:8.2f}{added:+8.2f}"
        print(f"{text}{later:8.2f}{added + later:8.2f}" if row.is_sampled else text)
        if row.is_traced:
            missed = missed or added + later > (SAMPLED_TARGET if row.is_sampled else UNSAMPLED_TARGET)
    return int(missed and build() == "compiled")


if __name__ == "__main__":
    sys.exit(main())
