"""From updates of a control plane to what is activated, with small converters and a fake target."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener as ListenerMessage
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.message import Message
from msgspec.structs import replace
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import (
    Cluster,
    FilterChain,
    Host,
    Listener,
    MosnConfig,
    Route,
    RouterConfiguration,
    Server,
    TlsContext,
)
from pymosn.config.schema.network_filters import ProxyConfig, ProxyFilter
from pymosn.config.schema.router import RouteAction, VirtualHost
from pymosn.config.schema.tls import SecretSource, SecretSources
from pymosn.control.xds.convert.kinds import KINDS, Convert, Item, Need
from pymosn.control.xds.convert.view import View
from pymosn.control.xds.layer import Layer, Merger, Owner
from pymosn.control.xds.state import GRACE, GUARDED, State
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Rejected, Resource, Update

SDS = SecretSources(CertificateConfig=SecretSource(name="cert", sdsConfig={"ads": {}}))


def cluster(view: View) -> Item:
    """An EDS cluster; `alt_stat_name` stands for any other content."""
    message = view.message
    if message.alt_stat_name == "invalid":
        view.fault("alt_stat_name", "is invalid")
    block = Cluster(name=message.name, connect_timeout=float(len(message.alt_stat_name)))
    needs = (Need(ENDPOINTS, message.name, timeout=15.0),) if message.type == ClusterMessage.EDS else ()
    return Item(message.name, block, needs=needs, joined=lambda hosts: replace(block, hosts=hosts))


def endpoints(view: View) -> Item:
    message = view.message
    ends = [end.endpoint.address.socket_address for group in message.endpoints for end in group.lb_endpoints]
    return Item(message.cluster_name, [Host(address=f"{end.address}:{end.port_value}") for end in ends])


def listener(view: View) -> Item:
    """A listener whose `stat_prefix` is the name of its table; with TLS if that begins with `tls`."""
    message = view.message
    if message.stat_prefix == "invalid":
        view.fault("stat_prefix", "is invalid")
    address = message.address.socket_address
    context = TlsContext(status=True, sds_source=SDS) if message.stat_prefix == "tls" else None
    proxy = ProxyConfig(downstream_protocol="Http1", router_config_name=message.stat_prefix or "none")
    chains = [FilterChain(tls_context=context, filters=[ProxyFilter(config=proxy)])]
    block = Listener(
        name=message.name, address=f"{address.address}:{address.port_value}", bind_port=True, filter_chains=chains
    )
    needs = (Need(ROUTES, message.stat_prefix, timeout=15.0),) if message.stat_prefix.startswith("r") else ()
    return Item(message.name, block, needs=needs)


def table(view: View) -> Item:
    """A table with a virtual host for each cluster that it names."""
    message = view.message
    hosts = [
        VirtualHost(domains=[host.domains[0]], routers=[Route(route=RouteAction(cluster_name=host.name))])
        for host in message.virtual_hosts
    ]
    return Item(message.name, RouterConfiguration(router_config_name=message.name, virtual_hosts=hosts))


FAKES: Mapping[str, Convert] = {
    CLUSTER: cluster,
    ENDPOINTS: endpoints,
    LISTENER: listener,
    ROUTES: table,
    SECRET: KINDS[SECRET],
}


class Result(NamedTuple):
    applied: bool = True
    rejected: Mapping[Owner, str] = {}
    message: str = ""


class Target:
    """The active configuration; items in `unusable` cannot be activated."""

    def __init__(self) -> None:
        self.layer = Layer()
        self._merger = Merger()
        self.own = MosnConfig(servers=[Server()])
        self.merged = self._merger.merge(self.own, self.layer)
        self.unusable: dict[Owner, str] = {}
        self.fault = ""
        self.changes = 0

    def item_path_errors(self, item: MosnConfig) -> list[Diagnostic]:
        return []

    async def apply_layer(self, layer: Layer) -> Result:
        if self.fault:
            return Result(False, {}, self.fault)
        before = self.layer
        for owner in self.unusable:
            layer = layer.reverted(owner, before)
        merged = self._merger.merge(self.own, layer)
        self.changes += merged.config != self.merged.config
        self.layer, self.merged = layer, merged
        return Result(True, {owner: why for owner, why in self.unusable.items() if owner not in before})


class Rig:
    def __init__(self, *, is_wildcard: bool = True, guard: int = GUARDED) -> None:
        self.time = 100.0
        self.log = Lines()
        self.target = Target()
        self.state = State(
            self.target, FAKES, self.log, is_wildcard=is_wildcard, now=lambda: self.time, pause=0.0, guard=guard
        )

    async def give(self, kind: str, *messages: Message, version: str = "1", **update: Any) -> Rejected:
        resources = [
            Resource(getattr(m, "cluster_name", "") or m.name, version, m.SerializeToString())  # type: ignore[attr-defined]
            for m in messages
        ]
        rejected = await self.state.accept(Update(kind, version, resources, **update))
        self.delay = await self.state.step()
        return rejected

    async def after(self, seconds: float) -> None:
        self.time += seconds
        self.delay = await self.state.step()

    @property
    def clusters(self) -> dict[str, list[str]]:
        return {name: [host.address for host in found.hosts] for name, found in self.target.layer.clusters.items()}

    def waits(self) -> list[str]:
        return [f"{wait.owner.name}: {wait.reason}" for wait in self.state.plan.waits]


def eds(name: str, note: str = "") -> ClusterMessage:
    return ClusterMessage(name=name, type=ClusterMessage.EDS, alt_stat_name=note)


def static(name: str, note: str = "") -> ClusterMessage:
    return ClusterMessage(name=name, alt_stat_name=note)


def hosts(name: str, *ports: int) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    group = message.endpoints.add()
    for port in ports:
        address = group.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "10.0.0.1", port
    return message


def listens(name: str, port: int, needs: str = "") -> ListenerMessage:
    message = ListenerMessage(name=name, stat_prefix=needs)
    message.address.socket_address.address, message.address.socket_address.port_value = "127.0.0.1", port
    return message


def routes(name: str, *clusters: str) -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    for i, target in enumerate(clusters):
        message.virtual_hosts.add(name=target, domains=[f"d{i}"])
    return message


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_bad_resource_costs_no_other_and_keeps_its_last_content() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, static("a"), static("b", "old"), version="1")
        rejected = await rig.give(
            CLUSTER, static("a", "new"), static("b", "invalid"), static("c"), version="2", is_full=True
        )
        assert rejected == {"b": "alt_stat_name: is invalid"}
        timeouts = {name: found.connect_timeout for name, found in rig.target.layer.clusters.items()}
        assert timeouts == {"a": 3.0, "b": 3.0, "c": 0.0}
        assert rig.state.versions[CLUSTER] == "1"
        assert rig.state.faults[CLUSTER] == rejected
        await rig.give(CLUSTER, static("b", "fine"), version="3")
        assert rig.state.faults[CLUSTER] == {}

    run(scenario())


def test_the_checks_of_files_apply() -> None:
    async def scenario() -> None:
        rig = Rig()
        twice = routes("r")
        for _ in range(2):
            twice.virtual_hosts.add(name="c", domains=["same"])
        rejected = await rig.give(ROUTES, twice)
        assert "duplicate domain" in rejected["r"]
        assert rejected["r"].startswith("virtual_hosts[1].domains[0]: ")

    run(scenario())


def test_a_cluster_waits_for_its_endpoints() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"), static("b"))
        assert rig.clusters == {"b": []}
        assert rig.waits() == ["a: endpoints a"]
        assert rig.state.wants()["ads"][ENDPOINTS] == {"a": 15.0}
        await rig.give(ENDPOINTS, hosts("a", 1, 2))
        assert rig.clusters["a"] == ["10.0.0.1:1", "10.0.0.1:2"]

    run(scenario())


def test_a_cluster_keeps_its_hosts_when_only_the_cluster_changes() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"))
        await rig.give(ENDPOINTS, hosts("a", 1))
        await rig.give(CLUSTER, eds("a", "other"), version="2")
        assert rig.target.layer.clusters["a"].connect_timeout == 5.0
        assert rig.clusters["a"] == ["10.0.0.1:1"]

    run(scenario())


def test_a_new_cluster_whose_endpoints_never_come_is_active_without_hosts_after_the_timeout() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"))
        assert rig.delay == 15.0
        await rig.after(15.0)
        assert rig.clusters == {"a": []}
        assert any("its endpoints did not arrive in time" in line for line in rig.log.lines)
        await rig.give(ENDPOINTS, hosts("a", 1))
        assert rig.clusters == {"a": ["10.0.0.1:1"]}

    run(scenario())


def test_endpoints_that_do_not_exist_are_not_waited_for() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"))
        await rig.give(ENDPOINTS, absent=("a",))
        assert rig.clusters == {"a": []}

    run(scenario())


def test_an_update_whose_endpoints_never_come_keeps_the_old_cluster() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, static("a"))
        await rig.give(CLUSTER, eds("a", "other"), version="2")
        await rig.after(15.0)
        assert rig.target.layer.clusters["a"].connect_timeout == 0.0

    run(scenario())


def test_endpoints_are_emptied_and_filled_again() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"))
        for ports in ((1,), (), (2,)):
            assert await rig.give(ENDPOINTS, hosts("a", *ports)) == {}
            assert rig.clusters == {"a": [f"10.0.0.1:{port}" for port in ports]}

    run(scenario())


def test_a_new_listener_waits_for_its_table_and_the_old_version_of_an_updated_one_stays() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, listens("l", 1, "r1"))
        assert rig.target.layer.listeners == {}
        assert rig.state.wants()["ads"][ROUTES] == {"r1": 15.0}
        await rig.give(ROUTES, routes("r1"))
        assert rig.target.layer.listeners["l"].address == "127.0.0.1:1"
        await rig.give(LISTENER, listens("l", 2, "r2"), version="2")
        assert rig.target.layer.listeners["l"].address == "127.0.0.1:1"
        assert list(rig.target.layer.tables) == ["r1"]
        await rig.give(ROUTES, routes("r2"))
        assert rig.target.layer.listeners["l"].address == "127.0.0.1:2"
        assert list(rig.target.layer.tables) == ["r2"]

    run(scenario())


def test_a_table_waits_a_moment_for_the_clusters_that_it_names() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, listens("l", 1, "r"))
        await rig.give(CLUSTER, static("old"))
        await rig.give(ROUTES, routes("r", "old"))
        await rig.give(ROUTES, routes("r", "old", "new"), version="2")
        assert len(rig.target.layer.tables["r"].virtual_hosts) == 1
        assert rig.waits() == ["r: cluster new"]
        await rig.give(CLUSTER, static("new"))
        assert len(rig.target.layer.tables["r"].virtual_hosts) == 2
        await rig.give(ROUTES, routes("r", "old", "new", "never"), version="3")
        await rig.after(1.0)
        assert len(rig.target.layer.tables["r"].virtual_hosts) == 3

    run(scenario())


def test_a_removed_cluster_stays_while_a_table_names_it_but_not_for_ever() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, listens("l", 1, "r"))
        await rig.give(CLUSTER, static("a"), static("b"))
        await rig.give(ROUTES, routes("r", "a"))
        await rig.give(CLUSTER, removed=("a", "b"))
        assert list(rig.clusters) == ["a"]
        await rig.give(ROUTES, routes("r"), version="2")
        assert rig.clusters == {}
        await rig.give(CLUSTER, static("a"))
        await rig.give(ROUTES, routes("r", "a"), version="3")
        await rig.give(CLUSTER, removed=("a",))
        await rig.after(59.0)
        assert list(rig.clusters) == ["a"]
        await rig.after(1.0)
        assert rig.clusters == {}

    run(scenario())


def test_a_control_plane_that_has_just_restarted_does_not_remove_everything_at_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        messages = [static(f"c{i}") for i in range(GUARDED)]
        await rig.give(CLUSTER, *messages, is_full=True, is_first=True)
        await rig.give(CLUSTER, version="2", is_full=True, is_first=True)
        assert len(rig.clusters) == GUARDED
        await rig.give(CLUSTER, *messages[:-1], version="3", is_full=True)
        assert len(rig.clusters) == GUARDED  # the last one is still guarded
        await rig.after(GRACE)
        assert len(rig.clusters) == GUARDED - 1
        await rig.give(CLUSTER, version="4", is_full=True)
        assert rig.clusters == {}

    run(scenario())


@pytest.mark.parametrize(("guard", "count", "stays"), [(3, 3, True), (3, 2, False), (0, 20, False)])
def test_row_4_the_guard_of_removals_is_a_setting(guard: int, count: int, stays: bool) -> None:
    async def scenario() -> None:
        rig = Rig(guard=guard)
        await rig.give(CLUSTER, *(static(f"c{i}") for i in range(count)), is_full=True, is_first=True)
        await rig.give(CLUSTER, version="2", is_full=True, is_first=True)
        assert len(rig.clusters) == (count if stays else 0)

    run(scenario())


def test_what_nothing_needs_any_more_is_forgotten() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"), eds("b"), is_full=True)
        await rig.give(ENDPOINTS, hosts("a", 1), hosts("b", 2))
        await rig.give(LISTENER, listens("l", 80, "r1"), is_full=True)
        await rig.give(ROUTES, routes("r1", "a"))
        await rig.give(CLUSTER, eds("a"), is_full=True)
        assert list(rig.state.store[ENDPOINTS]) == ["a"]
        # The old version of the listener still uses its table.
        await rig.give(LISTENER, listens("l", 80, "r2"), is_full=True)
        assert list(rig.target.layer.tables) == list(rig.state.store[ROUTES]) == ["r1"]
        await rig.give(ROUTES, routes("r2", "a"))
        assert list(rig.target.layer.tables) == list(rig.state.store[ROUTES]) == ["r2"]
        await rig.give(LISTENER, listens("l", 80, "tls"), is_full=True)
        await rig.give(SECRET, secret(made.server()))
        assert list(rig.state.store[ROUTES]) == []
        assert len(rig.state.secrets) == 1
        await rig.give(LISTENER, is_full=True)
        assert rig.state.secrets == {}
        assert rig.state.store[SECRET] == {}

    run(scenario())


def test_the_last_accepted_content_again_ends_a_fault() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, static("a", "good"))
        await rig.give(CLUSTER, static("a", "invalid"))
        assert rig.state.faults[CLUSTER]
        assert await rig.give(CLUSTER, static("a", "good")) == {}
        assert rig.state.faults[CLUSTER] == {}

    run(scenario())


def test_a_fault_is_logged_once() -> None:
    async def scenario() -> None:
        rig = Rig()
        for _ in range(3):
            await rig.give(CLUSTER, static("a", "invalid"))
        assert sum("a is rejected" in line for line in rig.log.lines) == 1
        await rig.give(CLUSTER, static("a", "good"))
        await rig.give(CLUSTER, static("a", "invalid"))
        assert sum("a is rejected" in line for line in rig.log.lines) == 2
        assert rig.state.rejected == 4

    run(scenario())


def test_two_listeners_on_one_address() -> None:
    async def scenario() -> None:
        rig = Rig()
        rejected = await rig.give(LISTENER, listens("a", 1), listens("b", 1))
        assert rejected == {"b": "address: 127.0.0.1:1 is the address of listener a"}
        assert list(rig.target.layer.listeners) == ["a"]

    run(scenario())


def test_the_same_content_is_no_change() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"))
        await rig.give(ENDPOINTS, hosts("a", 1))
        changes, block = rig.target.changes, rig.target.layer.clusters["a"]
        for version in map(str, range(20)):
            await rig.give(CLUSTER, eds("a"), version=version, is_full=True)
            await rig.give(ENDPOINTS, hosts("a", 1), version=version)
        assert rig.target.changes == changes
        assert rig.target.layer.clusters["a"] is block

    run(scenario())


def test_an_item_that_cannot_be_activated_is_not_tried_again_until_it_changes() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.target.unusable = {Owner("cluster", "a"): "does not build"}
        await rig.give(CLUSTER, static("a"), static("b"))
        assert list(rig.clusters) == ["b"]
        assert rig.state.unusable[Owner("cluster", "a")][0] == "does not build"
        rig.target.unusable = {}
        await rig.give(CLUSTER, static("c"))
        assert list(rig.clusters) == ["b", "c"]
        await rig.give(CLUSTER, static("a", "other"), version="2")
        assert sorted(rig.clusters) == ["a", "b", "c"]
        assert rig.state.unusable == {}

    run(scenario())


def test_what_cannot_be_activated_is_reported_to_the_control_plane_also_if_it_is_sent_again() -> None:
    async def scenario() -> None:
        rig = Rig()
        reported: list[tuple[str, Mapping[str, str]]] = []
        rig.state.on_unusable = lambda kind, faults: reported.append((kind, faults))
        rig.target.unusable = {Owner("cluster", "a"): "does not build"}
        fault = {"a": "cannot be activated: does not build"}
        assert await rig.give(CLUSTER, static("a"), static("b")) == {}
        assert reported == [(CLUSTER, fault)]
        assert rig.state.unusable_resources(CLUSTER) == fault
        assert await rig.give(CLUSTER, static("a"), static("b"), version="2") == fault
        rig.target.unusable = {}
        assert await rig.give(CLUSTER, static("a", "other"), version="3") == {}
        assert rig.state.unusable_resources(CLUSTER) == {}

    run(scenario())


def test_what_a_change_from_elsewhere_finds_unusable_is_reported_and_not_tried_again() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, static("a"), static("b"))
        reported: list[tuple[str, Mapping[str, str]]] = []
        rig.state.on_unusable = lambda kind, faults: reported.append((kind, faults))
        rig.target.layer = rig.target.layer.with_item(Owner("cluster", "a"), None)
        rig.state.on_rejected({Owner("cluster", "a"): "does not build"})
        assert reported == [(CLUSTER, {"a": "cannot be activated: does not build"})]
        await rig.after(1.0)
        assert list(rig.clusters) == ["b"]

    run(scenario())


def test_a_change_that_fails_as_a_whole_is_tried_again() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.target.fault = "a worker does not answer"
        await rig.give(CLUSTER, static("a"))
        assert rig.delay == 5.0
        assert rig.state.apply_fault == "a worker does not answer"
        rig.target.fault = ""
        await rig.after(5.0)
        assert list(rig.clusters) == ["a"]

    run(scenario())


def secret(pair: made.Issued) -> Secret:
    message = Secret(name="cert")
    message.tls_certificate.certificate_chain.inline_bytes = pair.certificate
    message.tls_certificate.private_key.inline_bytes = pair.key
    return message


def test_a_secret_is_waited_for_a_moment_and_a_broken_one_keeps_the_old_pair() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(LISTENER, listens("l", 1, "tls"))
        assert rig.waits() == ["l: secret cert"]
        assert rig.state.wants()["ads"][SECRET] == {"cert": 15.0}
        await rig.after(3.0)
        assert list(rig.target.layer.listeners) == ["l"]
        assert [key.name for key in rig.target.merged.missing] == ["cert"]
        one, two = made.server(), made.other_ca()
        assert await rig.give(SECRET, secret(one)) == {}
        assert not rig.target.merged.missing
        rejected = await rig.give(SECRET, secret(one._replace(key=two.key)), version="2")
        assert list(rejected) == ["cert"]
        context = rig.target.merged.config.servers[0].listeners[0].filter_chains[0].tls_context
        assert context is not None
        assert context.private_key.encode() == one.key

    run(scenario())


def test_a_type_without_a_converter_is_rejected() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.state = State(rig.target, {}, rig.log, pause=0.0)
        assert await rig.give(CLUSTER, static("a")) == {"a": "envoy.config.cluster.v3.Cluster is not supported"}

    run(scenario())
