"""The secret of session tickets: made once, sent to all, and replaced by the clock."""

import asyncio

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
