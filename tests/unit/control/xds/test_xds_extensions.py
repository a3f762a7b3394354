"""HTTP filters that are resources of their own (ECDS): what listeners do until they arrive, and when they change."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from test_xds_state import Target
from tests.kit import Lines
from tests.kit.xds_messages import message_of, view_of

from pymosn.config.schema import Listener, StreamFilter
from pymosn.config.schema.network_filters import ProxyFilter
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.convert.listeners import convert_listener
from pymosn.control.xds.layer import Owner
from pymosn.control.xds.state import State
from pymosn.control.xds.types import EXTENSION, LISTENER, Rejected, Resource, Update

TYPE = "type.googleapis.com/envoy.extensions."
RBAC = f"{TYPE}filters.http.rbac.v3.RBAC"
MANAGER = f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "router", "typed_config": {"@type": f"{TYPE}filters.http.router.v3.Router"}}
DENY = {"action": "DENY", "policies": {"p": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}
#: What answers 500 until the filter is there.
BROKEN = StreamFilter(type="fault", name="ext", config={"abort": {"status": 500, "percentage": 100.0}})


def listening(disabled: bool = False, **discovery: Any) -> dict[str, Any]:
    """A listener with a discovered filter between two others."""
    source = {"config_source": {"ads": {}, "initial_fetch_timeout": "5s"}, "type_urls": [RBAC], **discovery}
    first: dict[str, Any] = {"name": "first", "typed_config": {"@type": RBAC}}
    filters = [first, {"name": "ext", "config_discovery": source, "disabled": disabled}, ROUTER]
    manager = {"@type": MANAGER, "stat_prefix": "x", "route_config": {"name": "r"}, "http_filters": filters}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 1}}
    return {"name": "l", "address": address, "filter_chains": [{"filters": [{"name": "m", "typed_config": manager}]}]}


class Rig:
    """State with the real converters."""

    def __init__(self) -> None:
        self.time = 100.0
        self.target = Target()
        self.state = State(self.target, KINDS, Lines(), now=lambda: self.time, pause=0.0)

    async def give(self, kind: str, name: str, value: dict[str, Any], version: str = "1", **update: Any) -> Rejected:
        body = message_of(kind.rpartition("/")[2], value).SerializeToString(deterministic=True)
        rejected = await self.state.accept(Update(kind, version, [Resource(name, version, body)], **update))
        await self.state.step()
        return rejected

    async def extend(self, config: dict[str, Any], version: str = "1") -> Rejected:
        return await self.give(EXTENSION, "ext", {"name": "ext", "typed_config": config}, version)

    async def later(self, seconds: float) -> None:
        self.time += seconds
        await self.state.step()

    def filters(self) -> list[StreamFilter] | None:
        """Those of the active listener; None without one."""
        found = self.target.layer.listeners.get("l")
        return None if found is None else filters_of(found)


def filters_of(listener: Listener) -> list[StreamFilter]:
    proxy = listener.filter_chains[0].filters[0]
    assert isinstance(proxy, ProxyFilter)
    return list(proxy.config.stream_filters or ())


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_listener_waits_for_its_filter_and_follows_it() -> None:
    async def scenario() -> None:
        rig = Rig()
        assert await rig.give(LISTENER, "l", listening()) == {}
        assert rig.filters() is None
        assert [f"{wait.owner.name}: {wait.reason}" for wait in rig.state.plan.waits] == ["l: filter ext"]
        assert rig.state.wants()["ads"][EXTENSION] == {"ext": 5.0}
        assert await rig.extend({"@type": RBAC, "rules": DENY}) == {}
        (first, second) = rig.filters() or ()
        assert (first.name, second.name, second.type, second.config["rules"]) == ("first", "ext", "rbac", DENY)
        assert await rig.extend({"@type": RBAC}, "2") == {}
        (first, second) = rig.filters() or ()
        assert "rules" not in second.config
        assert rig.state.versions[EXTENSION] == "2"

    run(scenario())


def test_an_invalid_filter_keeps_the_last_one() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, "l", listening())
        await rig.extend({"@type": RBAC, "rules": DENY})
        before = rig.filters()
        rejected = await rig.extend({"@type": RBAC, "matcher": {}}, "2")
        assert rejected["ext"].startswith("typed_config.matcher: not supported")
        rejected = await rig.extend({"@type": f"{TYPE}filters.http.cors.v3.Cors"}, "3")
        assert "envoy.extensions.filters.http.cors.v3.Cors is not among type_urls of its listener" in rejected["ext"]
        assert rig.filters() == before

    run(scenario())


def test_without_its_filter_a_listener_answers_500_after_the_timeout() -> None:
    """As in Envoy: requests must not pass without it."""

    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, "l", listening())
        await rig.later(5.0)
        assert (rig.filters() or [])[1:] == [BROKEN]
        await rig.extend({"@type": RBAC})
        assert [entry.type for entry in rig.filters() or ()] == ["rbac", "rbac"]

    run(scenario())


def test_a_default_acts_until_the_filter_is_there() -> None:
    async def scenario() -> None:
        rig = Rig()
        default = {"@type": RBAC, "rules": DENY}
        await rig.give(LISTENER, "l", listening(default_config=default, apply_default_config_without_warming=True))
        assert (rig.filters() or [])[1].config["rules"] == DENY
        await rig.extend({"@type": RBAC})
        assert "rules" not in (rig.filters() or [])[1].config
        await rig.state.accept(Update(EXTENSION, "2", [], removed=("ext",)))
        await rig.state.step()
        assert (rig.filters() or [])[1].config["rules"] == DENY

    run(scenario())


def test_a_default_that_waits_first() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, "l", listening(default_config={"@type": RBAC, "rules": DENY}))
        assert rig.filters() is None
        await rig.later(5.0)
        assert (rig.filters() or [])[1].config["rules"] == DENY

    run(scenario())


def test_an_update_whose_filter_never_comes_is_not_activated() -> None:
    async def scenario() -> None:
        rig = Rig()
        plain = listening()
        plain["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"] = [ROUTER]
        await rig.give(LISTENER, "l", plain)
        await rig.give(LISTENER, "l", listening(), "2")
        await rig.later(5.0)
        assert rig.filters() == []

    run(scenario())


def test_a_filter_that_is_no_longer_named_is_forgotten() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, "l", listening())
        await rig.extend({"@type": RBAC})
        plain = listening()
        plain["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"] = [ROUTER]
        await rig.give(LISTENER, "l", plain, "2")
        assert rig.state.store[EXTENSION] == {}
        assert EXTENSION not in rig.state.wants()["ads"]

    run(scenario())


def test_filters_that_are_not_needed_here() -> None:
    """The router, and types that are left out, have no filter of ours."""

    async def scenario() -> None:
        rig = Rig()
        router = f"{TYPE}filters.http.router.v3.Router"
        await rig.give(LISTENER, "l", listening(type_urls=[RBAC, router], disabled=True))
        await rig.extend({"@type": router})
        assert [entry.name for entry in rig.filters() or ()] == ["first"]
        await rig.extend({"@type": RBAC}, "2")
        assert [(entry.name, entry.disabled) for entry in rig.filters() or ()] == [("first", False), ("ext", True)]

    run(scenario())


@pytest.mark.parametrize(
    ("discovery", "fault"),
    [
        ({"type_urls": []}, "type_urls: must not be empty"),
        ({"config_source": None}, "config_source: missing"),
        ({"apply_default_config_without_warming": True}, "apply_default_config_without_warming: there is no default_config"),
        ({"default_config": {"@type": f"{TYPE}filters.http.cors.v3.Cors"}}, "default_config: its type envoy.extensions."),
        ({"default_config": {"@type": RBAC, "matcher": {}}}, "default_config.matcher: not supported"),
    ],
)
def test_what_is_rejected(discovery: dict[str, Any], fault: str) -> None:
    view, report = view_of("envoy.config.listener.v3.Listener", listening(**discovery))
    convert_listener(view)
    (found,) = report.faults
    place = "filter_chains[0].filters[0].typed_config.http_filters[1].config_discovery."
    assert found.text().startswith(f"{place}{fault}")


def test_network_filters_are_rejected() -> None:
    source = {"config_source": {"ads": {}}, "type_urls": [MANAGER]}
    chain = {"filters": [{"name": "m", "config_discovery": source}]}
    view, report = view_of("envoy.config.listener.v3.Listener", {**listening(), "filter_chains": [chain]})
    convert_listener(view)
    assert [fault.text() for fault in report.faults] == [
        "filter_chains[0].filters[0].config_discovery: filters by ECDS are not supported"
    ]


def at(port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def test_a_listener_at_several_addresses() -> None:
    """It is a listener of ours for each of them; all follow its filters, and are removed with it."""

    async def scenario() -> None:
        rig = Rig()
        message = {**listening(), "additional_addresses": [at(2), at(3)]}
        assert await rig.give(LISTENER, "l", message) == {}
        await rig.extend({"@type": RBAC, "rules": DENY})
        found = rig.target.layer.listeners
        assert {name: one.address for name, one in found.items()} == {
            "l": "127.0.0.1:1",
            "l@127.0.0.1:2": "127.0.0.1:2",
            "l@127.0.0.1:3": "127.0.0.1:3",
        }
        assert all(filters_of(one)[1].config["rules"] == DENY for one in found.values())
        await rig.state.step()
        assert all(rig.target.layer.listeners[name] is one for name, one in found.items())
        rejected = await rig.give(LISTENER, "other", {**listening(), "name": "other", **at(3)})
        assert rejected == {"other": "address: 127.0.0.1:3 is the address of listener l"}
        owner = Owner("listener", "l@127.0.0.1:2")
        assert rig.state.resource_of(owner) == (LISTENER, "l")
        await rig.give(LISTENER, "l", {**listening(), "additional_addresses": [at(2)]}, "2")
        assert list(rig.target.layer.listeners) == ["l", "l@127.0.0.1:2"]
        await rig.state.accept(Update(LISTENER, "3", [], removed=("l",)))
        await rig.state.step()
        assert rig.target.layer.listeners == {}

    run(scenario())
