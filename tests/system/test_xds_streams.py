"""Public complaints about xDS clients, by their rows: what is asked for on a stream, and on the next one."""

from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from pymosn_process import Upstream, eventually, free_ports
from tests.kit.certificates import server
from tests.kit.xds_server import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Recorded, ServerStream
from tls_peers import answer
from xds_peers import (
    Mesh,
    Traffic,
    answers,
    certificate,
    listener,
    listens,
    manager,
    mesh_of,
    port_of,
    removed_meanwhile,
    text_of,
)

pytestmark = pytest.mark.once

TYPES = (CLUSTER, LISTENER, ENDPOINTS, ROUTES, SECRET)


@pytest.fixture(scope="module")
def sotw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    ads = {"set_node_on_first_message_only": True}
    with mesh_of(tmp_path_factory.mktemp("mesh"), ads=ads) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh_of(tmp_path_factory.mktemp("mesh"), is_delta=True) as mesh:
        yield mesh


@pytest.fixture(params=["sotw", "delta"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """A mesh of each variant for all tests; each of them removes what it has put."""
    found: Mesh = request.getfixturevalue(request.param)
    yield found
    found.clear()


def static(name: str, **more: Any) -> Cluster:
    """A cluster without endpoints, which waits for nothing."""
    return Cluster(name=name, type=Cluster.STATIC, **more)


def of(stream: ServerStream, type_url: str) -> list[Recorded]:
    return [one for one in stream.requests if one.message.type_url == type_url]


def is_delta(mesh: Mesh) -> bool:
    return mesh.control.streams[-1].is_delta


def secured(name: str, port: int, table: str, secret: str) -> Listener:
    """A listener with TLS, whose certificate is a secret from ADS."""
    made = listener(name, port, manager(name, table))
    context = DownstreamTlsContext()
    source = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret)
    source.sds_config.ads.SetInParent()
    made.filter_chains[0].transport_socket.name = "tls"
    made.filter_chains[0].transport_socket.typed_config.Pack(context)
    return made


# ---- rows 5 to 8, 30: names and versions


def test_row_5_versions_and_nonces_belong_to_a_stream(mesh: Mesh) -> None:
    [port] = free_ports(1)
    mesh.put(static("c"), listens("l", port, "r"), answers("r", "first"), version="9")
    assert eventually(lambda: text_of(port) == "first")
    mesh.control.wait(lambda: mesh.control.acks(ROUTES))
    earlier = {one.message.response_nonce for one in mesh.control.requests}
    with Traffic(port) as traffic:
        stream = mesh.reconnected(lambda: mesh.control.set(static("c"), answers("r", "second"), version="1"))
        assert eventually(lambda: text_of(port) == "second")
        mesh.control.wait(lambda: [one for one in of(stream, ROUTES) if one.message.response_nonce])
        assert traffic.goes_on()
    assert mesh.held("rds") == {"r": "1"}
    for kind, name in ((CLUSTER, "c"), (LISTENER, "l"), (ROUTES, "r")):
        first, *later = (one.message for one in of(stream, kind))
        assert first.response_nonce == ""
        if is_delta(mesh):
            assert dict(first.initial_resource_versions) == {name: "9"}
        else:
            assert first.version_info == "9"
            assert later[-1].version_info == ("9" if kind == LISTENER else "1")
        assert later
        assert not earlier & {message.response_nonce for message in later}
        assert not [one for one in of(stream, kind) if one.is_nack]


def test_row_6_what_is_removed_while_disconnected_is_removed(delta: Mesh) -> None:
    removed_meanwhile(delta)
    delta.clear()


def test_rows_7_and_30_a_wildcard_stays_one_on_the_next_stream(mesh: Mesh, upstream: Upstream) -> None:
    [port] = free_ports(1)
    mesh.serving("c", port_of(upstream))
    mesh.put(secured("s", port, "r", "pair"), answers("r", "secured"), certificate("pair", server()))
    assert eventually(lambda: answer(port) == (200, b"secured"))
    stream = mesh.reconnected()
    named = {ENDPOINTS: ["c"], ROUTES: ["c", "r"], SECRET: ["pair"]}
    mesh.control.wait(lambda: all(of(stream, kind) for kind in TYPES))
    for kind in TYPES:
        message = of(stream, kind)[0].message
        asked = message.resource_names_subscribe if is_delta(mesh) else message.resource_names
        assert sorted(asked) == named.get(kind, [])
    # Neither of the streams has ever named a cluster or listener, nor the wildcard; an empty list stays "all".
    for one in mesh.control.of(CLUSTER) + mesh.control.of(LISTENER):
        sent = one.message
        lists = (sent.resource_names_subscribe, sent.resource_names_unsubscribe) if one.is_delta else (sent.resource_names,)
        assert not any(lists)
    mesh.put(static("new"))
    assert eventually(lambda: "new" in mesh.held("cds"))
    mesh.control.remove(CLUSTER, "new")
    assert eventually(lambda: "new" not in mesh.held("cds"))


def test_row_8_what_is_gone_is_not_asked_for_any_more(mesh: Mesh, upstream: Upstream) -> None:
    mesh.serving("c", port_of(upstream))
    mesh.serving("d", port_of(upstream))
    [stream] = mesh.control.open_streams()
    mesh.control.remove(LISTENER, "c")
    mesh.control.remove(CLUSTER, "c")
    for kind in (ROUTES, ENDPOINTS):
        if is_delta(mesh):
            mesh.control.wait(lambda k=kind: ["c"] in [[*m.message.resource_names_unsubscribe] for m in of(stream, k)])
        else:
            mesh.control.wait(lambda k=kind: [*of(stream, k)[-1].message.resource_names] == ["d"])
    stream = mesh.reconnected()
    mesh.control.wait(lambda: of(stream, ROUTES) and of(stream, ENDPOINTS))
    for kind in (ROUTES, ENDPOINTS):
        first = of(stream, kind)[0].message
        assert [*(first.resource_names_subscribe if is_delta(mesh) else first.resource_names)] == ["d"]
    # The last user: an empty list would mean all of them to some servers, so nothing is sent.
    mesh.control.remove(LISTENER, "d")
    mesh.control.remove(CLUSTER, "d")
    assert eventually(lambda: mesh.held("rds") == {} == mesh.held("eds"))
    mesh.put_and_see(static("barrier"))
    if not is_delta(mesh):
        assert all(one.message.resource_names for one in mesh.control.of(ROUTES) + mesh.control.of(ENDPOINTS))
    stream = mesh.reconnected()
    mesh.put_and_see(static("another barrier"))
    assert {one.message.type_url for one in stream.requests} == {CLUSTER, LISTENER}


# ---- row 23: the node


def test_row_23_the_node_is_sent_with_the_first_request_or_with_all(mesh: Mesh, upstream: Upstream) -> None:
    mesh.serving("c", port_of(upstream))
    mesh.reconnected()
    mesh.control.wait(lambda: len(mesh.control.streams[-1].requests) >= 6)
    for stream in mesh.control.streams[-2:]:
        first, *later = ((one.message.node.id, one.message.node.user_agent_name) for one in stream.requests)
        assert first == ("node-1", "pymosn")
        assert set(later) == {("node-1", "pymosn") if is_delta(mesh) else ("", "")}
