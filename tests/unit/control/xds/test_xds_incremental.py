"""What is done again only for what has changed has the same result as when all is done."""

import asyncio
import random

from google.protobuf.message import Message
from msgspec.structs import replace
from tests.unit.control.xds.test_xds_layer import KEY, OWN, PAIR, SDS
from tests.unit.control.xds.test_xds_state import Rig, eds, hosts, listens, routes

from pymosn.assembly.packed_config import encode
from pymosn.assembly.packer import Packer
from pymosn.assembly.packer import pack as pack_all
from pymosn.config.schema import Cluster, Host, RouterConfiguration, TlsContext
from pymosn.config.schema.router import VirtualHost
from pymosn.control.xds.layer import Layer, Merger
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from pymosn.control.xds.warming import Planner


def cluster(name: str, port: int, *, tls: bool = False) -> Cluster:
    context = TlsContext(status=True, sds_source=SDS) if tls else None
    return Cluster(name=name, hosts=[Host(address=f"127.0.0.1:{port}")], tls_context=context)


def table(name: str, domain: str) -> RouterConfiguration:
    return RouterConfiguration(router_config_name=name, virtual_hosts=[VirtualHost(domains=[domain])])


def test_exchanged_blocks_are_merged_and_packed_as_if_all_were() -> None:
    chance = random.Random(1)
    secrets = {KEY: PAIR}
    layer = Layer(
        tables={name: table(name, "a") for name in ("s", "t")},
        clusters={f"c{i}": cluster(f"c{i}", 1, tls=i % 2 == 0) for i in range(8)},
        secrets=secrets,
    )
    merger, packer = Merger(), Packer()
    packer.pack(merger.merge(OWN, layer).config)
    for _ in range(60):
        name = f"c{chance.randrange(8)}"
        # Few different ports, so that clusters share parts.
        clusters = {**layer.clusters, name: cluster(name, chance.randrange(1, 4), tls=chance.random() < 0.5)}
        tables = {**layer.tables, "t": table("t", f"d{chance.randrange(3)}")} if chance.random() < 0.3 else layer.tables
        layer = layer._replace(tables=tables, clusters=clusters)
        merged = merger.merge(OWN, layer)
        assert merged == Merger().merge(OWN, layer)
        packed, whole = packer.pack(merged.config), pack_all(merged.config)
        assert encode(packed) == encode(whole)
        assert packed.parts == whole.parts


def test_only_the_block_that_has_changed_is_packed() -> None:
    layer = Layer(clusters={name: cluster(name, 1) for name in ("x", "y")})
    merger, packer = Merger(), Packer()
    before = packer.pack(merger.merge(OWN, layer).config)
    layer = layer._replace(clusters={**layer.clusters, "y": cluster("y", 2)})
    after = packer.pack(merger.merge(OWN, layer).config)
    assert after.rest is before.rest
    assert after.clusters["x"] is before.clusters["x"]
    assert after.clusters["y"] != before.clusters["y"]


def test_a_block_with_a_missing_secret_is_reported() -> None:
    layer = Layer(clusters={"x": cluster("x", 1)})
    merger = Merger()
    merger.merge(OWN, layer)
    merged = merger.merge(OWN, layer._replace(clusters={"x": cluster("x", 1, tls=True)}))
    assert merged.missing == {KEY: ["x"]}


def test_plans_of_changes_are_those_of_everything() -> None:
    async def scenario() -> None:
        chance = random.Random(2)
        rig = Rig()
        await rig.give(CLUSTER, *(eds(f"c{i}") for i in range(5)))
        await rig.give(ENDPOINTS, *(hosts(f"c{i}", 1) for i in range(5)))
        await rig.give(LISTENER, *(listens(f"l{i}", 80 + i, f"r{i}") for i in range(2)))
        await rig.give(ROUTES, *(routes(f"r{i}", "c0") for i in range(3)))
        alone = 0
        for _ in range(80):
            kinds: dict[str, Message] = {
                CLUSTER: eds(f"c{chance.randrange(6)}", "x" * chance.randrange(3)),
                ENDPOINTS: hosts(f"c{chance.randrange(6)}", chance.randrange(1, 4)),
                ROUTES: routes(f"r{chance.randrange(3)}", f"c{chance.randrange(8)}"),
            }
            kind = chance.choice(list(kinds))
            before = rig.state.plan
            await rig.give(kind, kinds[kind])
            alone += rig.state.plan.layer.listeners is before.layer.listeners
            if not rig.state.plan.waits:
                whole = Planner().plan(rig.state.store, Layer(), {}, rig.time + 100.0)
                assert rig.state.plan.layer == whole.layer
            await rig.after(2.0)
        assert alone > 20  # the others wait for something, or add something

    asyncio.run(scenario())


def test_other_endpoints_cost_no_plan_of_everything() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.give(CLUSTER, eds("a"), eds("b"))
        await rig.give(ENDPOINTS, hosts("a", 1), hosts("b", 2))
        listeners, block = rig.state.plan.layer.listeners, rig.state.plan.layer.clusters["b"]
        wants = 0

        def count(found: object) -> None:
            nonlocal wants
            wants += 1

        rig.state.on_wants = count
        await rig.give(ENDPOINTS, hosts("a", 3))
        assert rig.clusters == {"a": ["10.0.0.1:3"], "b": ["10.0.0.1:2"]}
        assert rig.state.plan.layer.listeners is listeners
        assert rig.state.plan.layer.clusters["b"] is block
        assert wants == 0

    asyncio.run(scenario())


def test_a_cluster_of_the_file_that_changes_is_packed_again() -> None:
    merger, packer = Merger(), Packer()
    layer = Layer(clusters={"x": cluster("x", 1)})
    packer.pack(merger.merge(OWN, layer).config)
    own = replace(OWN, cluster_manager=replace(OWN.cluster_manager, clusters=[cluster("c", 9)]))
    merged = merger.merge(own, layer)
    assert packer.pack(merged.config).parts == pack_all(merged.config).parts
