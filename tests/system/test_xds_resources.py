"""Public complaints about xDS clients, by their rows: resources of all types, and the order in which they arrive."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import UNHEALTHY
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf import any_pb2
from pymosn_process import Upstream, eventually, free_ports
from tests.kit.xds_messages import message_of
from tests.kit.xds_server import CLUSTER, ENDPOINTS, ROUTES, packed, wrapped
from xds_peers import (
    Mesh,
    Traffic,
    answered,
    answers,
    eds,
    hosts,
    listener,
    listens,
    manager,
    mesh_of,
    port_of,
    routes,
    text_of,
)

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh_of(tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest.fixture
def mesh(shared: Mesh) -> Iterator[Mesh]:
    """One mesh for all tests; each of them removes what it has put."""
    yield shared
    shared.clear()


def static(name: str) -> Cluster:
    """A cluster without endpoints, which waits for nothing."""
    return Cluster(name=name, type=Cluster.STATIC)


def bad_cluster(name: str) -> Any:
    made = eds(name)
    made.connect_timeout.seconds = -1
    return made


def bad_endpoints(name: str) -> Any:
    made = hosts(name, 1)
    made.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value = 70000
    return made


def bad_routes(name: str) -> RouteConfiguration:
    made = routes(name, "c")
    made.virtual_hosts[0].routes[0].match.safe_regex.regex = "("
    return made


def bad_listener(name: str, port: int = 0) -> Listener:
    broken = manager(name, "r")
    broken.http_filters.insert(0, broken.http_filters[0])
    broken.http_filters[0].typed_config.type_url = "type.googleapis.com/example.Unknown"
    return listener(name, port or free_ports(1)[0], broken)


# ---- rows 2, 3, 25: faults


@pytest.mark.parametrize("kind", ["cds", "eds", "lds", "rds"])
def test_row_2_one_bad_resource_costs_no_other_and_all_bad_ones_are_named(mesh: Mesh, upstream: Upstream, kind: str) -> None:
    names = ["one", "two", "three"]
    ports = dict(zip(names, free_ports(3), strict=True))

    def good(name: str) -> dict[str, Any]:
        resources = eds(name), hosts(name, port_of(upstream)), listens(name, ports[name], name), routes(name, name)
        return dict(zip(("cds", "eds", "lds", "rds"), resources, strict=True))

    makers = {"cds": bad_cluster, "eds": bad_endpoints, "lds": bad_listener, "rds": bad_routes}
    paths = {
        "cds": "connect_timeout",
        "eds": "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value",
        "lds": "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config",
        "rds": "virtual_hosts[0].routes[0].match.safe_regex",
    }
    mesh.put(*good("one").values(), *good("two").values())
    assert eventually(lambda: answered(ports["one"]) == answered(ports["two"]) == 200)
    accepted = mesh.control.version
    newest = good("three")
    mesh.put(*[message for key, message in newest.items() if key != kind])
    nack = mesh.rejected(newest[kind], makers[kind]("two"), makers[kind]("four") if kind in ("cds", "lds") else newest[kind])
    detail = nack.message.error_detail
    assert detail.code == 3
    for name in ("two", "four") if kind in ("cds", "lds") else ("two",):
        assert f"{name}: {paths[kind]}" in detail.message
    assert "one" not in detail.message
    assert "three" not in detail.message
    assert nack.message.version_info in (str(accepted), str(accepted + 1))
    assert eventually(lambda: answered(ports["three"]) == 200)
    assert answered(ports["one"]) == answered(ports["two"]) == 200
    assert paths[kind] in mesh.view()["types"][kind]["rejected"]["two"]


def test_row_3_a_rejected_listener_goes_on_serving(mesh: Mesh) -> None:
    [port] = free_ports(1)
    mesh.put(listens("l", port, "r"), answers("r", "first"))
    assert eventually(lambda: text_of(port) == "first")
    inline = manager("l", "r")
    inline.route_config.CopyFrom(bad_routes("inline"))
    nack = mesh.rejected(listener("l", port, inline))
    path = "l: filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.safe_regex"
    assert path in nack.message.error_detail.message
    assert text_of(port) == "first"
    assert mesh.client_view("lds")["nacks_in_row"] == 1
    assert 'pymosn_xds_resources_rejected{type="lds"} 1.0' in mesh.admin_text("/metrics")


def test_row_25_a_name_twice_in_a_response_changes_nothing_of_this_name(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    twin = eds("c")
    twin.connect_timeout.seconds = 7
    before = len(mesh.control.nacks(CLUSTER))
    [stream] = mesh.control.open_streams()
    stream.send_sotw(CLUSTER, eds("c"), twin, eds("other"), version="twice", nonce="twice")
    mesh.control.wait(lambda: len(mesh.control.nacks(CLUSTER)) > before)
    detail = mesh.control.nacks(CLUSTER)[before].message.error_detail
    assert "c: " in detail.message
    assert "other" not in detail.message
    assert eventually(lambda: "other" in mesh.held("cds"))
    assert answered(port) == 200
    # The kit takes no notice of what a test has sent, nor of the answer.
    mesh.put(eds("c"), eds("other"))


def test_row_25_two_listeners_of_one_address(mesh: Mesh) -> None:
    [port] = free_ports(1)
    mesh.put(listens("l", port, "r"), answers("r", "first"))
    assert eventually(lambda: text_of(port) == "first")
    nack = mesh.rejected(listens("twin", port, "r"))
    assert "twin: address" in nack.message.error_detail.message
    assert "listener l" in nack.message.error_detail.message
    assert text_of(port) == "first"


# ---- rows 12 to 16: order


def test_row_12_a_changed_listener_or_cluster_keeps_its_routes_and_hosts(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    mesh.control.silent |= {ENDPOINTS, ROUTES}
    changed = eds("c")
    changed.connect_timeout.seconds = 3
    changes = mesh.changes()
    with Traffic(port) as traffic:
        mesh.put_and_see(changed)
        other = manager("c", "c")
        other.stream_idle_timeout.seconds = 77
        mesh.put_and_see(listener("c", port, other))
        assert eventually(lambda: mesh.changes() > changes and "1m17s" in mesh.admin_text("/api/v1/config_dump?listener=c"))
        assert traffic.goes_on()


def test_row_13_a_cluster_whose_endpoints_never_come_is_active_without_hosts(mesh: Mesh, upstream: Upstream) -> None:
    mesh.control.silent.add(ENDPOINTS)
    [port] = free_ports(1)
    late = eds("late")
    late.eds_cluster_config.eds_config.initial_fetch_timeout.FromMilliseconds(1000)
    timeouts = mesh.client_view("eds")["fetch_timeouts"] if "eds" in mesh.view()["clients"][0]["types"] else 0
    mesh.put(late, routes("r", "late"), listens("l", port, "r"))
    assert eventually(lambda: answered(port) == 503)
    mesh.proxy.wait_for(r"no_hosts \(late\)")
    assert eventually(lambda: mesh.client_view("eds")["fetch_timeouts"] > timeouts)
    assert "late: its endpoints did not arrive in time" in mesh.proxy.output
    mesh.put(hosts("late", port_of(upstream)))
    mesh.control.answer(ENDPOINTS)
    assert eventually(lambda: answered(port) == 200)
    # An update that needs other endpoints, which never come: the old one stays.
    mesh.control.silent.add(ENDPOINTS)
    moved = eds("late")
    moved.eds_cluster_config.service_name = "elsewhere"
    moved.eds_cluster_config.eds_config.initial_fetch_timeout.FromMilliseconds(200)
    timeouts = mesh.client_view("eds")["fetch_timeouts"]
    with Traffic(port) as traffic:
        mesh.put(moved)
        assert eventually(lambda: mesh.client_view("eds")["fetch_timeouts"] > timeouts)
        assert traffic.goes_on()


def test_row_14_a_table_waits_a_moment_for_its_new_clusters(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    mesh.control.silent.add(CLUSTER)
    nacks = len(mesh.control.nacks(ROUTES))
    with Traffic(port) as traffic:
        mesh.put(routes("c", "c", "new"))
        assert eventually(lambda: {"item": "table c", "for": "cluster new"} in mesh.view()["waiting"])
        mesh.put(eds("new"), hosts("new", port_of(upstream)))
        mesh.control.answer(CLUSTER)
        assert eventually(lambda: "new" in mesh.held("cds") and mesh.view()["waiting"] == [])
        assert traffic.goes_on(100)
    # A cluster that nobody knows: live after the moment, with the code for it, and no NACK.
    unknown = routes("c", "no-such-cluster")
    mesh.put(unknown)
    assert eventually(lambda: answered(port) == 503)
    unknown.virtual_hosts[0].routes[0].route.cluster_not_found_response_code = 1  # NOT_FOUND
    mesh.put(unknown)
    assert eventually(lambda: answered(port) == 404)
    assert len(mesh.control.nacks(ROUTES)) == nacks


def test_row_15_a_listener_is_bound_when_its_routes_are_there(mesh: Mesh) -> None:
    [port] = free_ports(1)
    mesh.control.silent.add(ROUTES)
    mesh.put(listens("l", port, "r"), answers("r", "first"))
    assert eventually(lambda: {"item": "listener l", "for": "table r"} in mesh.view()["waiting"])
    assert answered(port) == 0
    mesh.control.answer(ROUTES)
    assert eventually(lambda: text_of(port) == "first")
    mesh.control.silent.add(ROUTES)
    with Traffic(port) as traffic:
        mesh.put(listens("l", port, "r2"), answers("r2", "second"))
        assert eventually(lambda: {"item": "listener l", "for": "table r2"} in mesh.view()["waiting"])
        assert text_of(port) == "first"
        mesh.control.answer(ROUTES)
        assert eventually(lambda: text_of(port) == "second")
        assert traffic.goes_on()


# ---- row 21, 22: endpoints


def test_row_21_a_cluster_is_emptied_and_filled_again(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    nacks = len(mesh.control.nacks(ENDPOINTS))
    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    slow.request("GET", "/slow")
    assert upstream.arrived.wait(30)
    mesh.put(hosts("c"))
    assert eventually(lambda: answered(port) == 503)
    upstream.gate.set()
    assert slow.getresponse().status == 200
    slow.close()
    mesh.put(hosts("c", port_of(upstream)))
    assert eventually(lambda: answered(port) == 200)
    assert len(mesh.control.nacks(ENDPOINTS)) == nacks


def test_row_22_localities_and_priorities_in_one_message(mesh: Mesh) -> None:
    names = ["a", "b", "c", "d"]
    ports = dict(zip([*names, "l"], free_ports(5), strict=True))
    for name in names:
        mesh.put(listens(name, ports[name], name), answers(name, name))
    places: list[dict[str, Any]] = [
        {"locality": {"zone": name}, "lb_endpoints": [end(ports[name])], "priority": int(name == "d")} for name in names
    ]
    places[0]["load_balancing_weight"] = 3
    places[1]["load_balancing_weight"] = 1
    places[3]["load_balancing_weight"] = 1
    assignment = {"cluster_name": "many", "endpoints": places}
    cluster = eds("many")
    cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    mesh.put(cluster, message_of("envoy.config.endpoint.v3.ClusterLoadAssignment", assignment))
    mesh.put(routes("l", "many"), listens("l", ports["l"], "l"))
    assert eventually(lambda: text_of(ports["l"]) in ("a", "b"))
    chosen = Counter(text_of(ports["l"]) for _ in range(600))
    # Without a weight a locality gets nothing, and priority 1 nothing while priority 0 is healthy.
    assert chosen.keys() == {"a", "b"}
    assert 100 < chosen["b"] < 200, "3 to 1 by random draw: the limits are four standard deviations away"
    for place in (places[0], places[2]):
        place["lb_endpoints"][0]["health_status"] = UNHEALTHY
    mesh.put(message_of("envoy.config.endpoint.v3.ClusterLoadAssignment", assignment))
    assert eventually(lambda: {text_of(ports["l"]) for _ in range(40)} == {"b", "d"})


def test_row_22_the_next_priority_is_used_below_71_percent_of_healthy_hosts(mesh: Mesh) -> None:
    names = ["a", "b", "c", "d", "x"]
    ports = dict(zip([*names, "l"], free_ports(6), strict=True))
    for name in names:
        mesh.put(listens(name, ports[name], name), answers(name, name))
    mesh.put(eds("many"), routes("l", "many"), listens("l", ports["l"], "l"))

    def put(unhealthy: set[str]) -> None:
        first = [end(ports[name]) | ({"health_status": UNHEALTHY} if name in unhealthy else {}) for name in "abcd"]
        places = [{"lb_endpoints": first}, {"lb_endpoints": [end(ports["x"])], "priority": 1}]
        mesh.put(message_of("envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": "many", "endpoints": places}))

    # 4 and 3 of 4 are enough, because each counts 1.4 times.
    for unhealthy in (set(), {"a"}):
        put(unhealthy)
        expected = set("abcd") - unhealthy
        assert eventually(lambda expected=expected: {text_of(ports["l"]) for _ in range(50)} == expected)
        assert {text_of(ports["l"]) for _ in range(100)} == expected
    # 2 of 4 are 70 %.
    put({"a", "b"})
    assert eventually(lambda: text_of(ports["l"]) == "x")
    chosen = Counter(text_of(ports["l"]) for _ in range(400))
    assert chosen.keys() == {"c", "d", "x"}
    assert 75 < chosen["x"] < 165, "30 % of 400 by random draw: the limits are almost five standard deviations away"


def end(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}


# ---- row 24: time to live


def test_row_24_heartbeats_extend_the_life_of_a_resource_and_cause_no_change(mesh: Mesh) -> None:
    mesh.put_and_see(static("stays"))
    [stream] = mesh.control.open_streams()
    began = time.monotonic()

    def send(message: Any, nonce: str) -> None:
        life = wrapped(message, "mortal", "v", 2.0)
        stream.send_sotw(CLUSTER, packed(static("stays")), life, version="ttl", nonce=nonce)
        mesh.control.wait(lambda: mesh.control.of(CLUSTER)[-1].message.response_nonce == nonce)

    send(static("mortal"), "ttl-0")
    assert eventually(lambda: "mortal" in mesh.held("cds") and "mortal" in mesh.admin_text("/api/v1/clusters"))
    changes = mesh.changes()
    beats = 0
    while time.monotonic() < began + 3.0:
        beats += 1
        send(None, f"ttl-{beats}")
        assert "mortal" in mesh.held("cds")
        threading.Event().wait(0.1)
    assert mesh.changes() == changes
    assert eventually(lambda: "mortal" not in mesh.held("cds"))
    assert eventually(lambda: "mortal" not in mesh.admin_text("/api/v1/clusters"))
    assert mesh.control.wait(lambda: mesh.control.of(CLUSTER)[-1].message.version_info == "")
    assert "stays" in mesh.held("cds")


# ---- row 26: equal content


def test_row_26_the_same_content_in_another_order_is_no_change(mesh: Mesh, upstream: Upstream) -> None:
    port = mesh.serving("c", port_of(upstream))
    clusters = [static(f"c{number}") for number in range(5)]
    mesh.put(*clusters)
    assert eventually(lambda: '"c4"' in mesh.admin_text("/api/v1/clusters"))
    changes = mesh.changes()
    chance = random.Random(26)
    [stream] = mesh.control.open_streams()
    with Traffic(port, clients=1) as traffic:
        for number in range(1000):
            shuffled = [in_any_order(cluster, chance) for cluster in (*clusters, eds("c"))]
            chance.shuffle(shuffled)
            stream.send_sotw(CLUSTER, *shuffled, version=f"s{number}", nonce=f"shuffled-{number}")
        mesh.control.wait(lambda: mesh.control.of(CLUSTER)[-1].message.response_nonce == "shuffled-999")
        assert traffic.goes_on()
    assert not mesh.control.of(CLUSTER)[-1].is_nack
    assert mesh.changes() == changes


def in_any_order(cluster: Any, chance: random.Random) -> any_pb2.Any:
    """A cluster with metadata whose map has the entries in any order: the encoding of messages does not define one."""
    parts = [cluster.SerializeToString(deterministic=True)]
    entries = [(f"key{number}", f"value{number}") for number in range(4)]
    chance.shuffle(entries)
    for key, value in entries:
        part = type(cluster)()
        part.metadata.filter_metadata["f" + key][key] = value
        parts.append(part.SerializeToString())
    return any_pb2.Any(type_url=CLUSTER, value=b"".join(parts))


# ---- rows 19, 20, 31: what decides about requests, and what is not supported

MATCHES: list[tuple[str, dict[str, Any], dict[str, bool]]] = [
    ("exact", {"string_match": {"exact": "abc"}}, {"abc": True, "ab": False, "ABC": False}),
    ("prefix", {"string_match": {"prefix": "ab"}}, {"abc": True, "b": False}),
    ("suffix", {"string_match": {"suffix": "bc"}}, {"abc": True, "ab": False}),
    ("contains", {"string_match": {"contains": "b"}}, {"abc": True, "ac": False}),
    ("regex", {"string_match": {"safe_regex": {"regex": "a.c"}}}, {"abc": True, "abcd": False}),
    ("case", {"string_match": {"exact": "AbC", "ignore_case": True}}, {"aBc": True, "ab": False}),
    ("absent", {"present_match": False}, {"": True, "abc": False}),
    ("invert", {"string_match": {"exact": "abc"}, "invert_match": True}, {"abc": False, "ab": True, "": False}),
    (
        "empty",
        {"string_match": {"exact": "abc"}, "invert_match": True, "treat_missing_header_as_empty": True},
        {"abc": False, "": True},
    ),
]


def test_row_19_header_matchers_match_as_in_envoy(mesh: Mesh) -> None:
    hosts_of = []
    for name, matcher, _ in MATCHES:
        match = {"prefix": "/", "headers": [{"name": "x", **matcher}]}
        found = [
            {"match": match, "direct_response": {"status": 200}},
            {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
        ]
        hosts_of.append({"name": name, "domains": [name], "routes": found})
    table = message_of("envoy.config.route.v3.RouteConfiguration", {"name": "r", "virtual_hosts": hosts_of})
    [port] = free_ports(1)
    mesh.put(listens("l", port, "r"), table)
    assert eventually(lambda: answered(port) == 404)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for name, _, values in MATCHES:
        for value, matches in values.items():
            connection.request("GET", "/", headers={"host": name} | ({"x": value} if value else {}))
            response = connection.getresponse()
            response.read()
            assert (response.status == 200) is matches, (name, value)
    connection.close()


def test_row_19_a_matcher_of_a_newer_api_rejects_its_table(mesh: Mesh) -> None:
    [port] = free_ports(1)
    mesh.put(listens("l", port, "r"), answers("r", "first"))
    assert eventually(lambda: text_of(port) == "first")
    newer = answers("r", "second")
    header = newer.virtual_hosts[0].routes[0].match.headers.add(name="x")
    header.MergeFromString(b"\xba\x3e\x01x")  # field 999
    nack = mesh.rejected(newer)
    assert "r: virtual_hosts[0].routes[0].match.headers[0]: field number 999" in nack.message.error_detail.message
    assert text_of(port) == "first"


@pytest.mark.parametrize(
    ("kind", "optional", "is_accepted"),
    [
        ("example.v1.Unknown", False, False),
        ("example.v1.Unknown", True, True),
        ("envoy.extensions.filters.http.oauth2.v9.OAuth2", True, False),
        ("envoy.extensions.filters.http.csrf.v9.CsrfPolicy", True, False),
        ("envoy.extensions.filters.http.rbac.v9.RBAC", True, False),
        ("envoy.extensions.filters.http.jwt_authn.v9.JwtAuthentication", True, False),
        ("envoy.extensions.filters.http.ext_authz.v9.ExtAuthz", True, False),
    ],
)
def test_row_20_unknown_http_filters(mesh: Mesh, kind: str, optional: bool, is_accepted: bool) -> None:
    [port] = free_ports(1)
    filtered = manager("l", "r")
    filtered.http_filters.insert(0, filtered.http_filters[0])
    filtered.http_filters[0].name = "f"
    filtered.http_filters[0].is_optional = optional
    filtered.http_filters[0].typed_config.type_url = f"type.googleapis.com/{kind}"
    filtered.http_filters[0].typed_config.value = b"\x0a\x01x"
    message = listener("l", port, filtered)
    path = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
    if is_accepted:
        mesh.put(message, answers("r", "first"))
        assert eventually(lambda: text_of(port) == "first")
        [warning] = mesh.view()["types"]["lds"]["warnings"]["l"]
        assert warning.startswith(path)
        return
    mesh.put(answers("r", "first"))
    assert path in mesh.rejected(message).message.error_detail.message
    assert answered(port) == 0


@pytest.mark.parametrize("kind", ["example.rbac.v1.Unknown", "envoy.extensions.filters.network.rbac.v9.RBAC"])
def test_row_20_unknown_network_filters_are_never_left_out(mesh: Mesh, kind: str) -> None:
    [port] = free_ports(1)
    message = listener("l", port, manager("l", "r"))
    message.filter_chains[0].filters.insert(0, message.filter_chains[0].filters[0])
    message.filter_chains[0].filters[0].name = "rbac"
    message.filter_chains[0].filters[0].typed_config.type_url = f"type.googleapis.com/{kind}"
    mesh.put(answers("r", "first"))
    nack = mesh.rejected(message)
    assert "l: filter_chains[0].filters[0].typed_config" in nack.message.error_detail.message
    assert kind in nack.message.error_detail.message
    assert answered(port) == 0


def test_row_31_what_needs_other_services_is_rejected_by_its_path(mesh: Mesh) -> None:
    scoped = manager("l", "r")
    scoped.scoped_routes.name = "s"
    leds = hosts("c", 1)
    leds.endpoints[0].ClearField("lb_endpoints")
    leds.endpoints[0].leds_cluster_locality_config.leds_collection_name = "xdstp://a"
    on_demand = answers("r", "x")
    on_demand.vhds.config_source.ads.SetInParent()
    mesh.put(eds("c"), listens("other", free_ports(1)[0], "r"))
    rows = [
        (listener("l", free_ports(1)[0], scoped), "filter_chains[0].filters[0].typed_config.scoped_routes"),
        (leds, "endpoints[0].leds_cluster_locality_config"),
        (on_demand, "vhds"),
    ]
    for message, path in rows:
        assert path in mesh.rejected(message).message.error_detail.message
    # Envoy waits 15 s for this; here it is ignored with a word.
    assert "layered_runtime" in mesh.proxy.output
    asked = {one.message.type_url.rpartition(".")[2] for one in mesh.control.requests}
    assert asked <= {"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"}
