"""Envoy's admin API: what istioctl and Istio's agent read from it."""

import subprocess
import sys
from typing import Any

import pytest
from envoy.admin.v3 import certs_pb2, clusters_pb2, config_dump_pb2, listeners_pb2, server_info_pb2
from google.protobuf import json_format
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.envoy.envoy_plane import EnvoyPlane
from tests.unit.control.fake_plane import PATH, FakePlane

from pymosn.control.admin import create_app
from pymosn.control.envoy.facts import Facts, Updates
from pymosn.control.envoy.json_form import load_types, message_type

ADMIN = "type.googleapis.com/envoy.admin.v3."


@pytest.fixture
def plane() -> EnvoyPlane:
    return EnvoyPlane()


@pytest.fixture
def client(plane: EnvoyPlane) -> AsgiClient:
    return AsgiClient(create_app(plane))


def dump(client: AsgiClient, query: str = "") -> config_dump_pb2.ConfigDump:
    """Reads a dump as a client with the messages does: an unknown field or type is an error."""
    value = client.get(f"/config_dump{query}").json()
    load_types(value)
    return json_format.ParseDict(value, config_dump_pb2.ConfigDump())


def section(client: AsgiClient, kind: str, query: str = "") -> Any:
    for packed in dump(client, query).configs:
        if packed.type_url == ADMIN + kind:
            found = message_type(f"envoy.admin.v3.{kind}")
            assert found is not None
            message = found()
            assert packed.Unpack(message)
            return message
    raise AssertionError(f"no {kind}")


def test_a_dump_has_envoys_sections_in_envoys_order(client: AsgiClient) -> None:
    kinds = ["Bootstrap", "Clusters", "Listeners", "ScopedRoutes", "Routes", "Secrets"]
    assert [packed.type_url for packed in dump(client).configs] == [f"{ADMIN}{kind}ConfigDump" for kind in kinds]
    assert [one.type_url for one in dump(client, "?include_eds").configs][2] == f"{ADMIN}EndpointsConfigDump"
    assert section(client, "BootstrapConfigDump").bootstrap.node.id == "sidecar~1"


def test_clusters_are_dumped_by_stage_with_version_time_and_fault(client: AsgiClient) -> None:
    found = section(client, "ClustersConfigDump")
    assert found.version_info == "v1"
    assert [message_name(one.cluster) for one in found.static_clusters] == ["xds-grpc"]
    assert [message_name(one.cluster) for one in found.dynamic_active_clusters] == ["out", "clientCluster"]
    assert [message_name(one.cluster) for one in found.dynamic_warming_clusters] == ["later", "never"]
    out = found.dynamic_active_clusters[0]
    assert (out.version_info, out.last_updated.ToJsonString()) == ("v1", "2026-11-30T10:00:00Z")
    assert (out.error_state.details, out.client_status) == ("newest: lb_policy: unknown", 4)
    assert found.dynamic_warming_clusters[1].error_state.details == "type: unknown"
    assert not found.dynamic_active_clusters[1].HasField("error_state")


def message_name(packed: Any) -> str:
    kind = message_type(packed.type_url.rpartition("/")[2])
    assert kind is not None
    message = kind()
    packed.Unpack(message)
    return str(getattr(message, "name", ""))


def test_a_listener_has_its_active_and_its_next_version(client: AsgiClient) -> None:
    found = section(client, "ListenersConfigDump")
    http, bad = found.dynamic_listeners
    assert (http.name, http.active_state.version_info, http.warming_state.version_info) == ("http", "v1", "v2")
    assert message_name(http.active_state.listener) == "http"
    assert (bad.name, bad.error_state.details) == ("bad", "filter_chains: missing")
    assert not bad.HasField("active_state")
    assert [message_name(one.listener) for one in found.static_listeners] == ["own"]


def test_tables_of_listeners_are_static_ones(client: AsgiClient) -> None:
    found = section(client, "RoutesConfigDump")
    assert [message_name(one.route_config) for one in found.static_route_configs] == ["inline of own", "inline of http"]
    assert [message_name(one.route_config) for one in found.dynamic_route_configs] == ["http.80"]


def test_secrets_are_listed_and_hidden(client: AsgiClient) -> None:
    found = section(client, "SecretsConfigDump")
    assert [one.name for one in found.dynamic_active_secrets] == ["default"]
    assert [one.name for one in found.dynamic_warming_secrets] == ["ROOTCA"]
    assert "KEYTEXT" not in client.get("/config_dump").text
    assert "[redacted]" in client.get("/config_dump").text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("resource=dynamic_active_clusters", ["out", "clientCluster"]),
        ("resource=dynamic_listeners", ["http", "bad"]),
        ("resource=dynamic_endpoint_configs", ["out"]),
        ("resource=dynamic_warming_secrets", ["ROOTCA"]),
        ("resource=dynamic_active_clusters&name_regex=o.*", ["out"]),
        ("resource=dynamic_active_clusters&name_regex=ou", []),
        ("resource=static_secrets", []),
    ],
)
def test_one_kind_of_resource(client: AsgiClient, query: str, names: list[str]) -> None:
    from pymosn.control.envoy.queries import name_of

    value = client.get(f"/config_dump?{query}").json()
    assert [name_of(one) for one in value["configs"]] == names
    load_types(value)
    json_format.ParseDict(value, config_dump_pb2.ConfigDump())


def test_a_mask_keeps_only_its_fields(client: AsgiClient) -> None:
    whole = client.get("/config_dump?mask=dynamic_active_clusters.cluster.name,bootstrap.node.id").json()["configs"]
    assert [one["@type"].removeprefix(ADMIN) for one in whole] == ["BootstrapConfigDump", "ClustersConfigDump"]
    assert whole[0]["bootstrap"] == {"node": {"id": "sidecar~1"}}
    first = whole[1]["dynamic_active_clusters"][0]
    assert first == {"cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "out"}}
    one = client.get("/config_dump?resource=dynamic_active_clusters&mask=version_info").json()["configs"]
    assert one == [{"@type": f"{ADMIN}ClustersConfigDump.DynamicCluster", "version_info": "v1"}] * 2


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("resource=nothing", 404, "nothing not found in config dump"),
        ("name_regex=(", 400, "name_regex is invalid"),
        ("mask=nothing", 400, "FieldMask nothing"),
    ],
)
def test_faults_of_a_query(client: AsgiClient, query: str, status: int, text: str) -> None:
    answer = client.get(f"/config_dump?{query}")
    assert answer.status == status
    assert text in answer.text


def test_without_xds_a_dump_is_empty() -> None:
    configs = AsgiClient(create_app(FakePlane())).get("/config_dump").json()["configs"]
    assert [len(one) for one in configs[1:]] == [1] * 5


def test_clusters_as_text_and_json(client: AsgiClient) -> None:
    lines = client.get("/clusters").text.splitlines()
    assert "clientCluster::added_via_api::true" in lines
    assert "c::added_via_api::false" in lines
    assert "c::default_priority::max_connections::4294967295" in lines
    assert "c::10.0.0.1:80::health_flags::/failed_active_hc" in lines
    assert "c::10.0.0.2:80::health_flags::/failed_active_hc/failed_outlier_check" in lines
    assert "c::10.0.0.1:80::rq_total::9" in lines
    assert {line.partition("::")[0] for line in client.get("/clusters?filter=^cl").text.splitlines()} == {"clientCluster"}
    assert client.get("/clusters?filter=(").status == 400
    found = json_format.ParseDict(client.get("/clusters?format=json").json(), clusters_pb2.Clusters())
    first = found.cluster_statuses[0]
    assert (first.name, found.cluster_statuses[1].added_via_api) == ("c", True)
    host = first.host_statuses[0]
    assert (host.address.socket_address.address, host.address.socket_address.port_value) == ("10.0.0.1", 80)
    assert host.health_status.failed_active_health_check
    assert not host.health_status.failed_outlier_check
    assert host.health_status.eds_health_status == 1
    assert {stat.name: stat.value for stat in host.stats} == {"cx_active": 3, "rq_active": 2, "rq_total": 9}


def test_listeners_as_text_and_json(client: AsgiClient) -> None:
    assert client.get("/listeners").text.splitlines()[0] == "clientListener::127.0.0.1:2045"
    found = json_format.ParseDict(client.get("/listeners?format=json").json(), listeners_pb2.Listeners())
    assert found.listener_statuses[0].local_address.socket_address.port_value == 2045


def test_certificates(client: AsgiClient) -> None:
    found = json_format.ParseDict(client.get("/certs").json(), certs_pb2.Certificates())
    chain, ca = found.certificates[0].cert_chain[0], found.certificates[1].ca_cert[0]
    assert (chain.path, chain.serial_number, chain.days_until_expiration) == ("<inline>", "7f", 1)
    kinds = [name.WhichOneof("name") for name in chain.subject_alt_names]
    assert kinds == ["dns", "ip_address", "uri"]
    assert (ca.path, ca.days_until_expiration) == ("/ca.pem", 0)


def test_what_the_agent_reads_for_readiness(client: AsgiClient) -> None:
    state = client.get("/stats?usedonly&filter=%5E%28server%5C.state%7Clistener_manager%5C.workers_started%29")
    assert state.text == "listener_manager.workers_started: 1\nserver.state: 0\n"
    pattern = "%5E%28cluster_manager%5C.cds%7Clistener_manager%5C.lds%29%5C.%28update_success%7Cupdate_rejected%29%24"
    updates = client.get(f"/stats?usedonly&filter={pattern}")
    assert updates.text.splitlines() == [
        "cluster_manager.cds.update_rejected: 1",
        "cluster_manager.cds.update_success: 3",
        "listener_manager.lds.update_success: 2",
    ]


def test_stats_in_other_forms(client: AsgiClient) -> None:
    assert 'cluster_manager.cds.version_text: "v1"' in client.get("/stats").text.splitlines()
    assert "listener_manager.lds.update_rejected: 0" in client.get("/stats").text.splitlines()
    found = client.get("/stats?format=json&filter=cds%5C.update_success").json()
    assert found == {"stats": [{"name": "cluster_manager.cds.update_success", "value": 3}]}
    gauges = client.get("/stats?type=Gauges").text
    assert "server.state: 0" in gauges
    assert "update_success" not in gauges
    assert client.get("/stats?filter=(").status == 400
    assert client.get("/stats?format=xml").status == 400


def test_stats_for_prometheus(client: AsgiClient) -> None:
    for path in ("/stats/prometheus", "/stats?format=prometheus"):
        answer = client.get(path)
        lines = answer.text.splitlines()
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "envoy_server_state{} 0" in lines
        assert 'envoy_cluster_membership_total{envoy_cluster_name="c"} 2' in lines
        assert 'pymosn_requests_received_total{listener="a"} 6.0' in lines
        assert "# TYPE envoy_cluster_manager_cds_update_success counter" in lines
        assert not any("version_text" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "state", "number", "is_ready"),
    [
        (lambda plane: None, "LIVE", 0, True),
        (lambda plane: plane.set_failing(True), "DRAINING", 1, False),
        (lambda plane: setattr(plane, "stage", 4), "INITIALIZING", 3, False),
        (lambda plane: setattr(plane, "stage", 8), "DRAINING", 1, False),
        (lambda plane: setattr(plane, "found", Facts([], [], True)), "INITIALIZING", 3, False),
        (
            lambda plane: setattr(plane, "found", Facts([], [Updates("cds", "1", 1, 0, 1, 0, True)], True)),
            "INITIALIZING",
            3,
            False,
        ),
        (lambda plane: setattr(plane, "found", Facts([], [], True, True)), "INITIALIZING", 3, False),
        (lambda plane: setattr(plane, "found", Facts([], [], True, True, True)), "LIVE", 0, True),
        (
            lambda plane: setattr(
                plane,
                "found",
                Facts([], [Updates("cds", "1", 1, 0, 1, 0, True), Updates("lds", "", 0, 0, 0, 1, False)], True),
            ),
            "LIVE",
            0,
            True,
        ),
        (lambda plane: setattr(plane, "found", Facts()), "LIVE", 0, True),
    ],
)
def test_states(client: AsgiClient, plane: EnvoyPlane, change: Any, state: str, number: int, is_ready: bool) -> None:
    change(plane)
    info = json_format.ParseDict(client.get("/server_info").json(), server_info_pb2.ServerInfo())
    assert server_info_pb2.ServerInfo.State.Name(info.state) == state
    assert client.get("/stats?filter=%5Eserver.state%24").text == f"server.state: {number}\n"
    assert client.get("/ready").status == (200 if is_ready else 503)


@pytest.mark.parametrize(
    ("query", "drain"),
    [
        ("", (False, False, False)),
        ("?graceful", (False, True, False)),
        ("?graceful&skip_exit", (False, True, True)),
        ("?skip_exit", (False, True, True)),
        ("?inboundonly&graceful", (True, True, False)),
        ("?inboundonly", (True, False, False)),
    ],
)
def test_draining(client: AsgiClient, plane: EnvoyPlane, query: str, drain: tuple[bool, bool, bool]) -> None:
    answer = client.post(f"/drain_listeners{query}")
    assert (answer.status, answer.text, plane.drains) == (200, "OK\n", [drain])


def test_changes_are_posts(client: AsgiClient, plane: EnvoyPlane) -> None:
    for path in ("/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit", "/logging"):
        assert client.get(path).status == 405
    assert plane.drains == []
    assert plane.stops == []
    assert client.post("/healthcheck/fail").text == "OK\n"
    assert plane.failing
    assert client.post("/healthcheck/ok").text == "OK\n"
    assert not plane.failing
    assert client.post("/quitquitquit").text == "OK\n"
    assert plane.stops == [True]


def test_levels_of_logs(client: AsgiClient, plane: EnvoyPlane) -> None:
    assert client.post("/logging").text == f"active loggers:\n  {PATH}: info\n"
    assert client.post("/logging?level=warning").text == f"active loggers:\n  {PATH}: warning\n"
    assert plane.levels == {PATH: "WARN", "": "INFO"}
    assert client.post(f"/logging?paths={PATH}:debug").status == 200
    assert plane.levels == {PATH: "DEBUG", "": "INFO"}
    for query in ("level=loud", "http=debug", f"{PATH}=off", "paths=x"):
        answer = client.post(f"/logging?{query}")
        assert (answer.status, answer.text.startswith("error: ")) == (400, True)
    assert plane.levels == {PATH: "DEBUG", "": "INFO"}


def test_without_the_extra_a_dump_is_not_available(client: AsgiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymosn.control.envoy.calls.find_spec", lambda name: None)
    answer = client.get("/config_dump")
    assert (answer.status, "pip install 'pymosn[xds]'" in answer.text) == (501, True)
    assert client.get("/clusters?format=json").status == 200
    assert client.get("/stats").status == 200


def test_the_messages_of_xds_are_imported_only_for_a_dump() -> None:
    """They take tens of megabytes, and a process without xDS must start without the extra."""
    code = (
        "import sys, pymosn.cli, pymosn.server.supervisor\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('google', 'envoy', 'grpc', 'udpa')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
