"""The taps of all workers: their lines, ends and bounds, and the outbox of a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from tests.kit.fakes import FakeClock, Lines

from pymosn.api.stream import StreamProtocol
from pymosn.control.plane import TooManyTaps
from pymosn.core.counters import Metrics
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.observe.tap_options import TapOptions
from pymosn.proxy.runtime import Runtime
from pymosn.server import tap_outbox, taps
from pymosn.server.channel import Channel
from pymosn.server.messages import Command, StartTap, StopTap, Tapped
from pymosn.server.tap_outbox import TapOutbox
from pymosn.server.taps import MOST_TAPS, FleetTaps
from pymosn.upstream.clusters import Clusters


class Workers:
    """Two workers that answer each start."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.taps = FleetTaps(self._send, lambda: 2)

    def _send(self, command: Command) -> None:
        self.sent.append(command)
        if isinstance(command, StartTap):
            for _ in range(2):
                asyncio.get_running_loop().call_soon(self.taps.on_report, Tapped(command.tap, [], 0, True))

    def report(self, *records: bytes, dropped: int = 0) -> None:
        self.taps.on_report(Tapped(1, list(records), dropped))


async def next_values(lines: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await anext(lines)).splitlines()]


def test_the_lines_of_a_tap() -> None:
    async def scenario() -> None:
        workers = Workers()
        lines = workers.taps.open(TapOptions(count=2, seconds=50.0))
        assert await next_values(lines) == [{"tap": {"seconds": 50.0, "bodies": 0}}]
        assert workers.taps.commands() == workers.sent == [StartTap(1, TapOptions(count=2, seconds=50.0))]
        workers.report(b'{"n":1}', dropped=3)
        assert await next_values(lines) == [{"exchange": {"n": 1}}, {"dropped": 3}]
        workers.report(b'{"n":2}', b'{"n":3}')
        assert await next_values(lines) == [{"exchange": {"n": 2}}]
        assert await next_values(lines) == [{"done": "count", "exchanges": 2}]
        with pytest.raises(StopAsyncIteration):
            await anext(lines)
        assert workers.sent[-1] == StopTap(1)
        assert workers.taps.commands() == []
        workers.report(b'{"n":4}')  # comes late

    asyncio.run(scenario())


def test_a_tap_ends_after_its_time_and_with_its_reader() -> None:
    async def scenario() -> None:
        workers = Workers()
        short = workers.taps.open(TapOptions(seconds=0.001))
        assert [next(iter(item)) async for line in short for item in [json.loads(line)]][-1] == "done"
        lines = cast("Any", workers.taps.open(TapOptions()))
        await anext(lines)
        await lines.aclose()
        assert workers.sent[-1] == StopTap(2)

    asyncio.run(scenario())


def test_too_many_taps() -> None:
    async def scenario() -> None:
        workers = Workers()
        opened = [cast("Any", workers.taps.open(TapOptions())) for _ in range(MOST_TAPS)]
        for lines in opened:
            await anext(lines)
        with pytest.raises(TooManyTaps):
            workers.taps.open(TapOptions())
        await opened[0].aclose()
        workers.taps.open(TapOptions())
        for lines in opened[1:]:
            await lines.aclose()

    asyncio.run(scenario())


def test_taps_that_are_opened_at_the_same_time() -> None:
    async def scenario() -> None:
        workers = Workers()
        opened = [cast("Any", workers.taps.open(TapOptions())) for _ in range(MOST_TAPS + 1)]
        firsts = [(await next_values(lines))[0] for lines in opened]
        assert firsts[MOST_TAPS] == {"done": "too many taps", "exchanges": 0}
        assert sum(isinstance(command, StartTap) for command in workers.sent) == MOST_TAPS
        for lines in opened:
            await lines.aclose()

    asyncio.run(scenario())


def test_a_tap_whose_reader_does_not_read_ends_in_the_workers_too() -> None:
    async def scenario() -> None:
        workers = Workers()
        lines = cast("Any", workers.taps.open(TapOptions(seconds=0.01)))
        await anext(lines)
        while workers.sent[-1] != StopTap(1):
            await asyncio.sleep(0)
        assert workers.taps.commands() == []
        await lines.aclose()
        assert workers.sent.count(StopTap(1)) == 1

    asyncio.run(scenario())


def test_all_taps_end_with_a_word_after_what_waits() -> None:
    async def scenario() -> None:
        workers = Workers()
        lines = workers.taps.open(TapOptions())
        await anext(lines)
        workers.report(b'{"n":1}')
        workers.taps.end_all("upgrade")
        assert await next_values(lines) == [{"exchange": {"n": 1}}]
        assert await next_values(lines) == [{"done": "upgrade", "exchanges": 1}]
        other = workers.taps.open(TapOptions())
        await anext(other)
        idle = asyncio.ensure_future(anext(other))
        await asyncio.sleep(0)
        workers.taps.end_all("stopping")
        assert json.loads(await idle) == {"done": "stopping", "exchanges": 0}

    asyncio.run(scenario())


@pytest.mark.parametrize("client", ["10.0.0.x", "10.0.0.0/33", "10.0.0.0/"])
def test_a_client_that_is_no_address(client: str) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0"):
        TapOptions(client=client)


def test_what_a_slow_reader_does_not_take_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        workers = Workers()
        monkeypatch.setattr(taps, "WAITING_BYTES", 20)
        lines = cast("Any", workers.taps.open(TapOptions()))
        await anext(lines)
        workers.report(*[b'{"n":%d}' % number for number in range(9)])
        found = await next_values(lines)
        assert found == [{"exchange": {"n": 0}}, {"exchange": {"n": 1}}, {"dropped": 7}]
        await lines.aclose()

    asyncio.run(scenario())


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_flushed = True

    def send(self, message: object) -> None:
        self.sent.append(message)


def outbox(scenario: Callable[[TapOutbox, Runtime, FakeChannel], Any]) -> None:
    async def run() -> None:
        clock = FakeClock()
        protocols: Registry[StreamProtocol] = Registry("protocol")
        runtime = Runtime(clock, TimerWheel(clock), Metrics(), Lines(), protocols, Clusters())
        channel = FakeChannel()
        box = TapOutbox(asyncio.get_running_loop(), runtime, cast("Channel[Command]", channel), 3)
        await scenario(box, runtime, channel)

    asyncio.run(run())


def test_an_outbox_sends_batches_and_ends() -> None:
    async def scenario(box: TapOutbox, runtime: Runtime, channel: FakeChannel) -> None:
        assert runtime.taps is None
        for number in (1, 2):
            box.start(StartTap(number, TapOptions(headers=[("X-A", "b")], statuses=["5xx"])))
        box.start(StartTap(1, TapOptions()))
        assert channel.sent == [Tapped(1, [], 0, True), Tapped(2, [], 0, True)]
        assert runtime.taps is not None
        first = runtime.taps.taps[0]
        assert (first.rule.headers, first.rule.statuses) == ([("x-a", "b")], ["5xx"])
        first.take({"n": 1, "body": b"\xff"})
        channel.is_flushed = False
        await asyncio.sleep(2.5 * tap_outbox.DELAY)
        assert len(channel.sent) == 2
        channel.is_flushed = True
        first.dropped = 4
        while len(channel.sent) == 2:
            await asyncio.sleep(0)
        assert channel.sent[2:] == [Tapped(1, [b'{"worker":3,"n":1,"body":"/w=="}'], 4)]
        box.stop(2)
        box.stop(2)
        assert runtime.taps is not None
        box.stop(1)
        assert runtime.taps is None

    outbox(scenario)


def test_an_outbox_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(box: TapOutbox, runtime: Runtime, channel: FakeChannel) -> None:
        monkeypatch.setattr(tap_outbox, "WAITING_BYTES", 50)
        box.start(StartTap(1, TapOptions()))
        assert runtime.taps is not None
        [tap] = runtime.taps.taps
        for number in range(5):
            tap.take({"n": number})
        assert tap.dropped == 3
        box.stop(1)

    outbox(scenario)
