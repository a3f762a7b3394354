"""What Envoy's views are given of the state of xDS: the stage of each resource."""

import asyncio

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from tests.unit.control.xds.test_xds_state import Rig

from pymosn.control.envoy.received import facts_of
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES


def stages(rig: Rig, kind: str) -> list[tuple[str, str, str, str]]:
    """Name, version, stage and fault of the resources of a type."""
    found = facts_of(rig.state, [], True, True).resources
    return [(one.name, one.version, one.stage, one.fault) for one in found if one.type_url == kind]


def test_a_resource_warms_becomes_active_and_keeps_its_last_version_meanwhile() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, Cluster(name="a", type=Cluster.EDS))
        await rig.state.step()
        assert stages(rig, CLUSTER) == [("a", "1", "warming", "")]
        await rig.give(ENDPOINTS, ClusterLoadAssignment(cluster_name="a"))
        await rig.state.step()
        assert stages(rig, CLUSTER) == [("a", "1", "active", "")]
        await rig.give(LISTENER, Listener(name="l"))
        await rig.state.step()
        await rig.give(LISTENER, Listener(name="l", stat_prefix="r1"), version="2")
        await rig.state.step()
        assert stages(rig, LISTENER) == [("l", "1", "active", ""), ("l", "2", "warming", "")]
        await rig.give(ROUTES, RouteConfiguration(name="r1"))
        await rig.state.step()
        assert stages(rig, LISTENER) == [("l", "2", "active", "")]
        assert stages(rig, ROUTES) == [("r1", "1", "active", "")]

    asyncio.run(scenario())


def test_rejected_versions_have_their_reason() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, Cluster(name="good"))
        await rig.state.step()
        bad = Cluster(name="good", alt_stat_name="invalid"), Cluster(name="never", alt_stat_name="invalid")
        await rig.give(CLUSTER, *bad, version="2")
        await rig.state.step()
        reason = "alt_stat_name: is invalid"
        assert stages(rig, CLUSTER) == [("good", "1", "active", reason), ("never", "", "rejected", reason)]
        facts = facts_of(rig.state, [], True, False)
        assert (facts.resources, facts.has_listeners, facts.is_initializing()) == ([], False, True)

    asyncio.run(scenario())


def test_the_server_is_initializing_until_the_first_listeners_are_active() -> None:
    async def scenario() -> None:
        rig = Rig()

        def is_initializing() -> bool:
            return facts_of(rig.state, [], True, False).is_initializing()

        await rig.give(CLUSTER, Cluster(name="a"))
        await rig.state.step()
        assert is_initializing(), "listeners are still to come"
        await rig.give(LISTENER, Listener(name="l", stat_prefix="r1"))
        assert is_initializing(), "they are not active yet"
        await rig.state.step()
        assert is_initializing(), "one waits for its table"
        await rig.give(ROUTES, RouteConfiguration(name="r1"))
        await rig.state.step()
        assert not is_initializing()
        await rig.give(LISTENER, Listener(name="l", stat_prefix="r2"), version="2")
        await rig.state.step()
        assert not is_initializing(), "later ones do not count"

    asyncio.run(scenario())


def test_rejected_listeners_do_not_keep_the_server_initializing() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, Listener(name="good"), Listener(name="bad", stat_prefix="invalid"))
        await rig.state.step()
        assert [name for name, *_ in stages(rig, LISTENER)] == ["good", "bad"]
        assert not facts_of(rig.state, [], True, False).is_initializing()

    asyncio.run(scenario())
