"""What a process still misses of its control planes: before it has that, it does not take over from another one."""

import asyncio
from pathlib import Path

import msgspec
from test_xds_state import SDS, Rig, eds, hosts, listens, routes, secret
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.config.schema import FilterChain, Listener, MosnConfig, Server, TlsContext
from pymosn.control.xds.service import XdsService
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET


def service_of(rig: Rig, folder: Path, *, is_dynamic: bool = True) -> XdsService:
    """The service of a rig. `is_dynamic`: whether the control plane sends listeners; otherwise only secrets."""
    raw = {"dynamic_resources": {}, "static_resources": {}} if is_dynamic else {}
    service = XdsService(msgspec.convert(raw, MosnConfig), str(folder), rig.target, Lines())
    service.state = rig.state
    return service


def test_listeners_and_all_that_they_wait_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig()
        service = service_of(rig, tmp_path)
        assert service.missing() == "its listeners"
        await rig.give(CLUSTER, eds("c"))
        assert service.missing() == "cluster c waits for endpoints c"
        await rig.give(ENDPOINTS, hosts("c", 1))
        assert service.missing() == "its listeners"
        await rig.give(LISTENER, listens("l", 80, "r"))
        assert service.missing() == "listener l waits for table r"
        await rig.give(ROUTES, routes("r", "c"))
        assert service.missing() == ""
        # It has begun to serve: later resources concern no upgrade.
        await rig.give(CLUSTER, eds("later"))
        assert service.missing() == ""

    asyncio.run(scenario())


def test_a_control_plane_without_listeners_misses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig()
        service = service_of(rig, tmp_path)
        await rig.give(LISTENER)
        assert service.missing() == ""

    asyncio.run(scenario())


def test_what_cannot_be_activated_is_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig()
        service = service_of(rig, tmp_path)
        rig.target.fault = "a worker did not answer"
        await rig.give(LISTENER, listens("l", 80))
        assert service.missing() == "its listeners"
        rig.target.fault = ""
        await rig.after(1.0)
        assert service.missing() == ""

    asyncio.run(scenario())


def test_at_most_three_waits_are_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig()
        service = service_of(rig, tmp_path)
        await rig.give(CLUSTER, *(eds(f"c{number}") for number in range(9)))
        assert service.missing().count("waits for") == 3

    asyncio.run(scenario())


def test_with_listeners_in_the_file_only_their_secrets_are_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(is_wildcard=False)
        service = service_of(rig, tmp_path, is_dynamic=False)
        assert service.missing() == ""
        chain = FilterChain(tls_context=TlsContext(status=True, sds_source=SDS))
        rig.target.own = MosnConfig(servers=[Server(listeners=[Listener(name="l", filter_chains=[chain])])])
        await rig.state.step()
        assert service.missing() == "cert from ads"
        await rig.give(SECRET, secret(made.server()))
        assert service.missing() == ""

    asyncio.run(scenario())
