"""A worker's finished traces, over a real channel: batches, a supervisor that does not read, and the end."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.kit import Lines
from tests.unit.observe.test_tracing_parts import exchange_of

from pymosn.api.tracing import TraceRecord
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.finished import FinishedTrace
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.records import record_of
from pymosn.observe.tracing.sampling import Sampling
from pymosn.observe.tracing.tracer import WorkerTracer
from pymosn.server import trace_report
from pymosn.server.channel import Channel
from pymosn.server.messages import COMMANDS, REPORTS, Command, Report, Traces
from pymosn.server.trace_report import BATCH, TraceReport


class Stage:
    """The tracer of a worker, and what its supervisor receives."""

    def __init__(self, limit: int = 1000) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.received: list[Traces] = []
        self.log = Lines()
        self.metrics = Metrics()
        self.buffer = TraceBuffer(self.metrics, limit)
        self.buffer.open()
        stamps = Stamps(Clock())
        self._tracer = WorkerTracer(["w3c"], Sampling(), self.buffer, stamps)
        self._worker: Channel[Command] = Channel(loop, theirs, COMMANDS, lambda command, fds: None, lambda reason: None)
        self._ours = ours
        self._supervisor: Channel[Report] | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.report = TraceReport(
            self.buffer, self._worker, stamps, loop, lambda work: self.tasks.append(asyncio.ensure_future(work)), self.log
        )

    def finish(self, count: int) -> None:
        """Exchanges end."""
        for _ in range(count):
            exchange = exchange_of()
            self._tracer.begin(exchange, "l").end(exchange)

    def read(self) -> None:
        """The supervisor begins to read."""
        loop = asyncio.get_running_loop()
        self._supervisor = Channel(loop, self._ours, REPORTS, self._on_report, lambda reason: None)

    def _on_report(self, report: Report, descriptors: list[int]) -> None:
        assert isinstance(report, Traces)
        self.received.append(report)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(len(message.traces) for message in self.received) < count:
                await asyncio.sleep(0.005)

    def counter(self, key: str) -> int:
        return int(self.metrics.group("tracing", ("side", "worker")).counter(key).value)

    def close(self) -> None:
        self._worker.close()
        if self._supervisor is not None:
            self._supervisor.close()


def test_traces_are_sent_in_batches() -> None:
    async def scenario() -> None:
        stage = Stage()
        stage.read()
        stage.finish(2 * BATCH + 1)
        assert stage.tasks == [], "they wait for more"
        await stage.until(2 * BATCH + 1)
        assert [len(message.traces) for message in stage.received] == [BATCH, BATCH, 1]
        assert len({record.trace_id for message in stage.received for record in message.traces}) == 2 * BATCH + 1
        assert stage.counter("traces_sent_total") == 2 * BATCH + 1
        stage.finish(1)  # another timer
        await stage.until(2 * BATCH + 2)
        stage.close()

    asyncio.run(scenario())


def test_a_supervisor_that_does_not_read_costs_bounded_memory() -> None:
    async def scenario() -> None:
        stage = Stage()
        sending = asyncio.ensure_future(stage.report.send_all())
        for _ in range(80):
            stage.finish(250)
            await asyncio.sleep(0.001)
        assert len(stage.buffer) == 1000
        assert stage.counter("traces_dropped_total") > 0
        stage.read()
        sent = 20_000 - stage.counter("traces_dropped_total")
        await stage.until(sent)
        await sending
        assert stage.counter("traces_sent_total") == sent
        stage.close()

    asyncio.run(scenario())


def test_what_cannot_be_sent_is_dropped_and_does_not_end_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(trace: FinishedTrace, offset: float, ids: IdSource) -> TraceRecord:
        if not stage.log.lines:
            raise ValueError("x")
        return record_of(trace, offset, ids)

    monkeypatch.setattr(trace_report, "record_of", broken)

    async def scenario() -> None:
        nonlocal stage
        stage = Stage()
        stage.read()
        stage.finish(BATCH + 5)
        await stage.until(5)
        await asyncio.gather(*stage.tasks)
        assert stage.counter("traces_dropped_total") == BATCH
        assert stage.counter("traces_sent_total") == 5
        [line] = stage.log.lines
        assert f"{BATCH} traces could not be sent" in line
        stage.close()

    stage: Stage
    asyncio.run(scenario())
