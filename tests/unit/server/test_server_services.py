import asyncio

import pytest
from tests.kit import Lines

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import Log
from pymosn.server.services import Services


class Noted(Service):
    """Notes what is called in `events`; `fails`: name of the method that raises."""

    def __init__(self, name: str, events: list[str], fails: str = "") -> None:
        self.name = name
        self._events = events
        self._fails = fails

    def _note(self, method: str) -> None:
        self._events.append(f"{method} {self.name}")
        if method == self._fails:
            raise OSError(f"{self.name} fails")

    async def start(self) -> None:
        self._note("start")

    def follow(self, config: MosnConfig) -> None:
        self._note("follow")

    async def stop(self) -> None:
        self._note("stop")


def test_services_start_in_order_follow_and_stop_in_reverse() -> None:
    async def scenario() -> list[str]:
        events: list[str] = []
        services = Services(Log())
        async with services.running([Noted("a", events), Noted("b", events)]):
            services.follow(MosnConfig())
        services.follow(MosnConfig())
        return events

    assert asyncio.run(scenario()) == ["start a", "start b", "follow a", "follow b", "stop b", "stop a"]


def test_a_service_that_starts_later_gets_the_configuration_after_its_start() -> None:
    async def scenario() -> list[str]:
        events: list[str] = []
        services = Services(Log())
        services.follow(MosnConfig())
        async with services.running([Noted("a", events), Noted("b", events)]):
            pass
        return events

    assert asyncio.run(scenario()) == ["start a", "follow a", "start b", "follow b", "stop b", "stop a"]


def test_a_failed_start_stops_it_and_those_before_it() -> None:
    events: list[str] = []

    async def scenario() -> None:
        async with Services(Log()).running([Noted("a", events), Noted("b", events, "start"), Noted("c", events)]):
            events.append("never")

    with pytest.raises(OSError, match="b fails"):
        asyncio.run(scenario())
    assert events == ["start a", "start b", "stop b", "stop a"]


def test_a_service_that_cannot_follow_is_named_and_does_not_affect_others() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        events: list[str] = []
        log = Lines()
        services = Services(log)
        async with services.running([Noted("a", events, "follow"), Noted("b", events)]):
            services.follow(MosnConfig())
        return events, log.lines

    events, lines = asyncio.run(scenario())
    assert events == ["start a", "start b", "follow a", "follow b", "stop b", "stop a"]
    assert lines == ["a cannot follow the new configuration: OSError: a fails"]


def test_other_hosts_alone_are_for_services_that_follow_hosts() -> None:
    class Follower(Service):
        def __init__(self, name: str, follows_hosts: bool) -> None:
            self.name = name
            self.follows_hosts = follows_hosts
            self.count = 0

        def follow(self, config: MosnConfig) -> None:
            self.count += 1

    async def scenario() -> None:
        services, some, every = Services(Log()), Follower("a", False), Follower("b", True)
        async with services.running([some, every]):
            services.follow(MosnConfig())
            services.follow(MosnConfig(), only_hosts=True)
        assert (some.count, every.count) == (1, 2)

    asyncio.run(scenario())


def test_a_service_that_cannot_be_stopped_is_named_and_the_others_are_stopped() -> None:
    async def scenario() -> tuple[list[str], list[str], bool]:
        events: list[str] = []
        log = Lines()
        services = Services(log)
        async with services.running([Noted("a", events), Noted("b", events, "stop"), Noted("c", events)]):
            assert not services.stop_failed
        return events, log.lines, services.stop_failed

    events, lines, failed = asyncio.run(scenario())
    assert events[-3:] == ["stop c", "stop b", "stop a"]
    assert failed
    assert "b cannot be stopped: OSError: b fails" in lines[0]
