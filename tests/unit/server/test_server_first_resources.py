"""A successor waits for what control planes send first, within a time."""

import asyncio
from collections.abc import Collection

import pytest
from tests.kit import Lines

from pymosn.server.run_options import StartError
from pymosn.server.upgrade.first_resources import PERIOD, TIME, FirstResources


class Stage:
    """The service with a control plane that has sent everything after `looks`."""

    def __init__(self, looks: int, lost: Collection[str] = ()) -> None:
        self.log = Lines()
        self.told: list[str] = []
        self.slept = 0.0
        self._looks = looks
        self.service = FirstResources(self._missing, lambda: lost, self.told.append, self.log, self._sleep)

    def _missing(self) -> str:
        self._looks -= 1
        return "its listeners" if self._looks >= 0 else ""

    async def _sleep(self, seconds: float) -> None:
        self.slept += seconds

    def start(self) -> "Stage":
        asyncio.run(self.service.start())
        return self


def test_it_waits_only_until_everything_is_there() -> None:
    assert Stage(0).start().told == []
    stage = Stage(3).start()
    assert stage.told == ["waiting for the control plane: its listeners"]
    assert stage.slept == pytest.approx(3 * PERIOD)
    assert stage.log.lines == []


def test_a_process_that_would_lose_listeners_does_not_take_over() -> None:
    stage = Stage(10_000, lost=[f"l{number:02}" for number in range(11)])
    with pytest.raises(StartError) as caught:
        stage.start()
    (line,) = caught.value.lines
    assert line.startswith("the control plane has not sent within 30 s: its listeners; without: l00, l01, ")
    assert line.endswith("l09, ...")
    assert stage.slept == pytest.approx(TIME)


def test_without_such_listeners_it_takes_over_when_the_time_has_passed() -> None:
    stage = Stage(10_000).start()
    line = "xDS: the control plane has not sent within 30 s: its listeners; taking over without it"
    assert stage.log.lines == [line]
