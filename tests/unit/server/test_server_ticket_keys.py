"""The secret of session tickets: made once, sent to all, and replaced by the clock."""

import asyncio

import msgspec
import pytest
from tests.kit import FakeClock, Lines

from pymosn.server.messages import SetTicketSecret
from pymosn.server.ticket_keys import LIFETIME, LONGEST_PAUSE, SIZE, TicketKeys


class Stage:
    """The service, whose pauses end when `pass_time` is called."""

    def __init__(self) -> None:
        self.clock = FakeClock(wall_time=1_000_000.0)
        self.log = Lines()
        self.sent: list[SetTicketSecret] = []
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self._over = asyncio.Event()
        self.keys = TicketKeys(self.sent.append, self.clock, self.log, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self._over.wait()
        self._over.clear()

    async def pass_time(self, seconds: float) -> float:
        """Returns the pause that follows."""
        assert self.clock.wall_time is not None
        self.clock.wall_time += seconds
        self._over.set()
        return await self.pause()

    async def pause(self) -> float:
        async with asyncio.timeout(10):
            return await self.pauses.get()


def test_workers_that_start_get_the_same_secret_until_it_is_replaced() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.keys.start()
        assert await stage.pause() == LONGEST_PAUSE
        first = stage.keys.command()
        assert len(first.secret) == SIZE
        assert await stage.pass_time(LIFETIME - 5) == 5
        assert stage.keys.command() == first
        assert stage.sent == []
        assert await stage.pass_time(5) == LONGEST_PAUSE
        assert stage.sent == [stage.keys.command()]
        assert stage.sent[0] != first
        assert not any(first.secret.hex() in line for line in stage.log.lines)
        await stage.keys.stop()

    asyncio.run(scenario())


def test_a_clock_that_was_set_back_does_not_make_a_secret_older() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.keys.start()
        await stage.pause()
        await stage.pass_time(-3600)
        assert len(stage.sent) == 1
        await stage.keys.stop()

    asyncio.run(scenario())


def test_two_processes_have_different_secrets() -> None:
    assert Stage().keys.command() != Stage().keys.command()


def test_the_next_generation_continues_with_the_secret_and_its_age() -> None:
    async def scenario() -> None:
        before, after = Stage(), Stage()
        assert before.clock.wall_time is not None
        assert after.clock.wall_time is not None
        before.clock.wall_time += 3600
        after.clock.wall_time += 50_000
        after.keys.adopt(before.keys.export())
        assert after.sent == [before.keys.command()]  # also to workers that are there already
        after.keys.adopt(before.keys.export())
        assert len(after.sent) == 1
        await after.keys.start()
        await after.pause()
        assert await after.pass_time(LIFETIME - 3600 - 5) == 5
        assert after.keys.command() == before.keys.command()
        await after.pass_time(5)
        assert after.keys.command() != before.keys.command()
        await after.keys.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"", b"\x01", msgspec.msgpack.encode({"secret": b"short", "age": 1.0})])
def test_an_invalid_secret_is_refused_and_not_quoted(content: bytes) -> None:
    stage = Stage()
    before = stage.keys.command()
    with pytest.raises((ValueError, msgspec.MsgspecError)) as caught:
        stage.keys.adopt(content)
    assert "short" not in str(caught.value)
    assert stage.keys.command() == before
