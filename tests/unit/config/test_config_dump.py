"""A configuration goes to the workers and to the admin port unharmed, without its secrets to the latter."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from pymosn.assembly.clusters import host_plans
from pymosn.assembly.packed_config import (
    PackedTable,
    Parts,
    decode,
    encode,
    unpack_cluster,
    unpack_hosts,
    unpack_pieces,
    unpack_table,
)
from pymosn.assembly.packer import pack
from pymosn.config.compatibility import PAGE, page
from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.dump import dump
from pymosn.config.load import load_file, load_text
from pymosn.config.schema import Cluster, Host, Listener, MosnConfig, RouterConfiguration, Server, TlsContext
from pymosn.config.schema.cluster import IstioFacts
from pymosn.config.schema.router import VirtualHost
from pymosn.core.redaction import redacted
from pymosn.core.secrets import REDACTED

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*/*.[jy]*"))


def test_a_list_of_mirror_policies_is_dumped_like_one() -> None:
    config = json.loads(DEFAULT_CONFIG)
    route = config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"][0]
    route["request_mirror_policies"] = [{"cluster": config["cluster_manager"]["clusters"][0]["name"], "percent": 5}]
    loaded = load_text(json.dumps(config), "f").config
    assert loaded is not None
    shown = json.loads(json.dumps(dump(loaded)))["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"][0]
    assert shown["request_mirror_policies"] == route["request_mirror_policies"]


def test_a_dump_loads_as_the_same_configuration() -> None:
    config = load_text(DEFAULT_CONFIG, "f").config
    assert config is not None
    assert load_text(json.dumps(dump(config)), "f").config == config
    assert load_text(json.dumps(dump(config, defaults=True)), "f").config == config


def test_durations_are_written_as_go_writes_them() -> None:
    assert dump(Listener(connection_idle_timeout=60.0)) == {"connection_idle_timeout": "1m0s"}
    assert dump(Listener(), defaults=True)["write_timeout"] == "1m0s"


def test_secrets_are_redacted() -> None:
    assert dump(TlsContext(private_key="key.pem", cert_chain="c.pem")) == {"private_key": REDACTED, "cert_chain": "c.pem"}
    assert redacted({"a": [{"Client_Secret": "x", "token": {"b": 1}, "user": "u"}], "password": ""}) == {
        "a": [{"Client_Secret": REDACTED, "token": REDACTED, "user": "u"}],
        "password": "",
    }


def travelled(config: MosnConfig) -> MosnConfig:
    """What a worker can make of a configuration again."""
    packed = pack(config)
    parcel = decode(encode(packed), packed.parts)
    assert parcel == packed
    server, parts = parcel.rest.servers[0], parcel.parts
    assert server.routers == []
    assert parcel.rest.cluster_manager.clusters == []
    routers = [whole_table(parcel.tables[table.router_config_name], parts) for table in config.servers[0].routers]
    clusters = []
    for cluster in config.cluster_manager.clusters:
        entry = parcel.clusters[cluster.name]
        plans = [plan for digest in entry.hosts for plan in unpack_hosts(parts[digest])]
        assert plans == list(host_plans(cluster))
        clusters.append(replace(unpack_cluster(entry, parts), hosts=cluster.hosts))
    manager = replace(parcel.rest.cluster_manager, clusters=clusters)
    return replace(parcel.rest, servers=[replace(server, routers=routers)], cluster_manager=manager)


def whole_table(packed: PackedTable, parts: Parts) -> RouterConfiguration:
    """A router table of its parts."""
    hosts: list[VirtualHost] = []
    for starts, host in (piece for digest in packed.pieces for piece in unpack_pieces(parts[digest])):
        if starts:
            hosts.append(host)
        else:
            hosts[-1] = replace(hosts[-1], routers=[*hosts[-1].routers, *host.routers])
    return replace(unpack_table(packed, parts), virtual_hosts=hosts)


def test_a_configuration_travels_as_bytes() -> None:
    config = load_text(DEFAULT_CONFIG, "f").config
    assert config is not None
    assert travelled(config) == config
    with pytest.raises(msgspec.DecodeError):
        decode(b"\xc1", {})


def test_numbers_beyond_64_bits_in_free_values_travel_as_floats() -> None:
    text = '{"servers": [{}], "node": {"n": 100000000000000000000000, "m": -5}}'
    config = load_text(text, "f").config
    assert config is not None
    assert travelled(config).node == {"n": 1e23, "m": -5}


def test_the_facts_of_a_mesh_travel_and_hosts_of_one_workload_share_its_text() -> None:
    names = ["a;default;a;v1;c", "b;default;b;v1;c"]
    hosts = [Host(address=f"10.0.0.{n}:80", priority=n % 3, locality="z", workload=names[n % 2]) for n in range(9)]
    facts = IstioFacts(service="a.default.svc", name="a", namespace="default", external=True)
    config = MosnConfig(servers=[Server()])
    config.cluster_manager.clusters = [Cluster(name="c", hosts=hosts, istio=facts)]
    assert travelled(config) == config
    packed = pack(config)
    plans = [plan for digest in packed.clusters["c"].hosts for plan in unpack_hosts(packed.parts[digest])]
    assert [plan.workload for plan in plans] == [host.workload for host in hosts]
    assert len({id(plan.workload) for plan in plans}) <= 2 * len(packed.clusters["c"].hosts)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_load(path: Path) -> None:
    loaded = load_file(str(path))
    assert isinstance(loaded.config, MosnConfig)
    assert travelled(loaded.config) == loaded.config


def test_the_small_configuration_of_the_documentation_warns_and_loads() -> None:
    loaded = load_file(str(ROOT / "examples" / "http" / "small.json"))
    assert [fault.path for fault in loaded.warnings] == [
        "servers[0].listeners[0].filter_chains[0]",
        "servers[0].listeners[1].filter_chains[0]",
        "admin",
    ]
    assert loaded.config is not None
    assert loaded.config.admin is not None
    assert loaded.config.admin.endpoint() is None


def test_the_compatibility_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "run: python -m pymosn.config.compatibility --write"
