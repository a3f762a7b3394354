"""The queue of traces, and the pipeline that sends them, with a collector and a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.kit import FakeClock, Lines
from tests.kit.traces import server_span, trace

from pymosn.api.tracing import TraceRecord
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.observability import Tracing
from pymosn.config.typed import typed
from pymosn.control.tracing import pipeline
from pymosn.control.tracing.exporter import Exporter, ExportError, Facts, number_of_spans
from pymosn.control.tracing.pipeline import Counts, Pipeline
from pymosn.control.tracing.queue import TraceQueue, size_of
from pymosn.control.tracing.service import TraceExport
from pymosn.core.log import Log

ONE = trace(server_span())


def numbered(number: int) -> TraceRecord:
    return trace(server_span(), trace_id=f"{number:032x}")


class Pauses:
    """Pauses that the test ends. While `is_open`, each ends at once, and the clock goes forward by it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[float] = []
        self.is_open = False
        self._waiting: list[asyncio.Event] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if self.is_open:
            self._clock.now += seconds
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        self._waiting.append(event)
        await event.wait()
        self._clock.now += seconds

    def end(self) -> None:
        for event in self._waiting:
            event.set()
        self._waiting.clear()


class Recorder(Exporter):
    """Keeps what it is sent, or fails as told."""

    batch_spans = 4
    queue_spans = 10
    interval = 1.0
    timeout = 0.05

    def __init__(self) -> None:
        self.batches: list[Sequence[TraceRecord]] = []
        self.error: Exception | None = None
        self.hangs = False
        self.too_large = 0
        self.closed = 0
        self.reopened = 0
        self.tries = 0

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.batches.append(batch)
        return self.too_large

    def reopen(self) -> None:
        self.reopened += 1

    async def close(self) -> None:
        self.closed += 1
        if self.hangs:
            await asyncio.Event().wait()


class World:
    """A pipeline at work."""

    def __init__(self, make: Callable[[], Exporter] | None = None) -> None:
        self.clock = FakeClock()
        self.log = Lines()
        self.pauses = Pauses(self.clock)
        self.exporter = Recorder()
        self.counts = Counts()
        self.pipeline = Pipeline("test", make or (lambda: self.exporter), self.counts, self.clock, self.log, self.pauses)

    def add(self, count: int) -> None:
        for number in range(count):
            self.pipeline.add(numbered(number))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def ready(self) -> None:
        self.pipeline.start()
        await self.until(lambda: self.pipeline._exporter is not None or self.pipeline.is_off)


def run(play: Callable[[World], Coroutine[Any, Any, None]], make: Callable[[], Exporter] | None = None) -> World:
    async def all_of_it() -> World:
        world = World(make)
        await play(world)
        return world

    return asyncio.run(all_of_it())


def test_a_queue_is_bounded_by_number() -> None:
    queue = TraceQueue(3)
    assert [queue.add(numbered(i)) for i in range(4)] == [True, True, True, False]
    assert queue.spans == 3
    assert [each.trace_id for each in queue.take(2)] == [f"{i:032x}" for i in range(2)]
    assert queue.spans == 1
    assert queue.add(ONE)


def test_a_queue_is_bounded_by_size() -> None:
    large = trace(server_span(text="x" * 10_000))
    assert size_of(large) > 10_000
    queue = TraceQueue(1000, 2 * size_of(large))
    assert [queue.add(large) for _ in range(3)] == [True, True, False]
    queue.take(10)
    assert (queue.spans, queue.bytes) == (0, 0)


def test_traces_stay_whole_in_batches() -> None:
    queue = TraceQueue(100)
    queue.add(trace())
    queue.add(trace())
    assert number_of_spans(queue.take(1)) == 4
    assert queue.spans == 4


def test_a_large_batch_is_sent_at_once() -> None:
    async def play(world: World) -> None:
        await world.ready()
        world.add(4)
        await world.until(lambda: world.counts.exported == 4)

    world = run(play)
    assert [len(batch) for batch in world.exporter.batches] == [4]


def test_a_small_batch_waits_for_the_interval() -> None:
    async def play(world: World) -> None:
        await world.ready()
        world.add(2)
        await world.until(lambda: world.pauses.asked == [1.0])
        assert not world.exporter.batches
        world.pauses.end()
        await world.until(lambda: world.counts.exported == 2)
        await world.pipeline.stop(5)

    assert run(play).exporter.closed == 1


def test_what_waits_is_sent_at_the_end() -> None:
    async def play(world: World) -> None:
        await world.ready()
        world.add(3)
        await world.pipeline.stop(5)

    world = run(play)
    assert world.counts.exported == 3
    assert not world.counts.dropped


def test_a_dead_collector_costs_bounded_memory_and_counted_drops() -> None:
    async def play(world: World) -> None:
        world.exporter.error = ExportError("refused")
        await world.ready()
        world.add(4)
        await world.until(lambda: world.exporter.tries == 1)
        world.add(30)
        assert world.pipeline.waiting == 4 + 10
        assert world.counts.dropped == {"queue_full": 20}
        # The first batch is given up after RETRY_TIME, and the next one is tried.
        world.pauses.is_open = True
        world.pauses.end()
        await world.until(lambda: world.counts.dropped["unavailable"] >= 8)
        # It recovers.
        world.exporter.error = None
        await world.until(lambda: world.pipeline.waiting == 0)

    world = run(play)
    counts = world.counts
    assert counts.exported + sum(counts.dropped.values()) == 34
    assert counts.retries > 5
    delays = [pause for pause in world.pauses.asked if pause != 1.0]
    assert delays[:6] == [0.5, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert any("tracing by test: refused" in line for line in world.log.lines)
    # One line a minute, not one for each failure.
    assert len(world.log.lines) < 6


def test_a_hanging_collector_is_left_alone_after_a_while() -> None:
    async def play(world: World) -> None:
        world.exporter.hangs = True
        await world.ready()
        world.add(4)
        await world.until(lambda: world.counts.retries == 1)
        world.exporter.hangs = False
        world.pauses.end()
        await world.until(lambda: world.counts.exported == 4)

    world = run(play)
    assert "no answer within 0.05 s" in world.log.lines[0]
    assert "works again; 0 spans were dropped" in world.log.lines[-1]


def test_refused_spans_are_not_sent_again() -> None:
    async def play(world: World) -> None:
        world.exporter.error = ExportError("status 400", may_retry=False)
        await world.ready()
        world.add(4)
        await world.until(lambda: world.counts.dropped["refused"] == 4)

    assert run(play).exporter.tries == 1


def test_a_mistake_of_an_exporter_costs_one_batch() -> None:
    async def play(world: World) -> None:
        world.exporter.error = KeyError("x")
        await world.ready()
        world.add(4)
        await world.until(lambda: world.counts.dropped["refused"] == 4)
        world.exporter.error = None
        world.add(4)
        await world.until(lambda: world.counts.exported == 4)

    assert "could not be written: KeyError" in run(play).log.lines[0]


def test_an_exporter_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CLOSE_TIME", 0.01)

    async def play(world: World) -> None:
        await world.ready()
        world.exporter.hangs = True
        async with asyncio.timeout(5):
            await world.pipeline.stop(60.0)

    assert run(play).exporter.closed == 1


def test_too_large_spans_are_counted() -> None:
    async def play(world: World) -> None:
        world.exporter.too_large = 1
        await world.ready()
        world.add(4)
        await world.until(lambda: world.counts.exported == 3)

    assert run(play).counts.dropped == {"too_large": 1}


def test_the_end_is_bounded_when_the_collector_is_dead() -> None:
    async def play(world: World) -> None:
        world.exporter.error = ExportError("no")
        await world.ready()
        world.add(6)
        await world.pipeline.stop(0.05)

    world = run(play)
    assert world.counts.dropped == {"stopped": 6}
    assert "6 spans were not exported before the end" in world.log.lines[-1]
    assert world.exporter.closed == 1


def test_an_exporter_that_cannot_be_made_turns_tracing_off() -> None:
    def make() -> Exporter:
        raise OSError(13, "Permission denied")

    async def play(world: World) -> None:
        world.add(2)
        await world.ready()
        world.add(1)
        await world.pipeline.stop(5)

    world = run(play, make)
    assert world.counts.dropped == {"off": 3}
    assert "tracing by test is off" in world.log.lines[0]


# ---- the service


def config(**tracing: object) -> MosnConfig:
    listener = {"name": "in", "type": "ingress", "address": "127.0.0.1:1"}
    return typed({"servers": [{"listeners": [listener]}], "tracing": tracing}, MosnConfig)


class Drivers:
    """Makes recorders, and keeps them by driver."""

    def __init__(self) -> None:
        self.made: dict[str, Recorder] = {}
        self.facts: Facts | None = None

    def __call__(self, tracing: Tracing, facts: Facts, log: Log) -> Callable[[], Exporter]:
        self.facts = facts
        recorder = self.made[tracing.driver] = Recorder()
        recorder.interval = 0.0
        return lambda: recorder


def test_a_reload_switches_drivers_without_loss() -> None:
    drivers = Drivers()

    async def play() -> TraceExport:
        service = TraceExport(FakeClock(), Lines(), drivers)
        await service.start()
        service.follow(config(enable=True, driver="a"))
        service.receive([ONE, ONE])
        # The same settings again change nothing, and other ones leave the first driver what it has.
        service.follow(config(enable=True, driver="a"))
        service.follow(config(enable=True, driver="b"))
        service.receive([ONE])
        service.reopen_logs()
        service.follow(config(enable=False, driver="b"))
        service.receive([ONE])
        await service.stop()
        return service

    service = asyncio.run(play())
    assert sum(len(batch) for batch in drivers.made["a"].batches) == 2
    assert sum(len(batch) for batch in drivers.made["b"].batches) == 1
    assert [made.closed for made in drivers.made.values()] == [1, 1]
    assert drivers.facts is not None
    assert drivers.facts.listener_types == {"in": "ingress"}
    found = {dict(group["labels"])["driver"]: group for group in service.metrics()}
    assert found["a"]["counters"]["spans_exported_total"] == 2
    assert found["b"]["counters"] | {"spans_dropped_off_total": 1} == found["b"]["counters"]
    assert found["b"]["gauges"] == {"spans_waiting": 0}


def test_a_reload_tries_an_exporter_again_that_could_not_be_made() -> None:
    faults: list[OSError] = [OSError(2, "No such file", "/ca.pem")]
    good = Recorder()

    def make(tracing: Tracing, facts: Facts, log: Log) -> Callable[[], Exporter]:
        def made() -> Exporter:
            if faults:
                raise faults.pop()
            return good

        return made

    async def play() -> TraceExport:
        service = TraceExport(FakeClock(), Lines(), make)
        service.follow(config(enable=True, driver="a"))
        async with asyncio.timeout(5):
            while service._active is None or not service._active.is_off:
                await asyncio.sleep(0.001)
        service.follow(config(enable=True, driver="a"))
        service.receive([ONE])
        await service.stop()
        return service

    [group] = asyncio.run(play()).metrics()
    assert group["counters"]["spans_exported_total"] == 1


def test_without_tracing_nothing_is_made() -> None:
    drivers = Drivers()

    async def play() -> TraceExport:
        service = TraceExport(FakeClock(), Lines(), drivers)
        service.follow(config())
        service.receive([ONE])
        await service.stop()
        return service

    assert asyncio.run(play()).metrics() == []
    assert not drivers.made
