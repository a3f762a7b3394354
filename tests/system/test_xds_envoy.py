"""The command `envoy` as Istio's agent runs it: its bootstrap, its readiness, its drain, and what istioctl reads."""

import http.client
import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from envoy.admin.v3 import clusters_pb2, config_dump_pb2
from google.protobuf import json_format
from pymosn_process import READY, Pymosn, Upstream, eventually, free_ports
from tests.kit.xds_messages import message_of
from tests.kit.xds_server import CLUSTER, LISTENER, XdsServer

from pymosn.control.envoy.json_form import load_types

pytestmark = pytest.mark.once

FIXTURE = Path(__file__).parents[1] / "fixtures" / "xds" / "agent-bootstrap.json"
#: As `pilot-agent` passes them.
FLAGS = [
    *("-c", "etc/istio/proxy/envoy-rev.json", "--drain-time-s", "45", "--drain-strategy", "immediate"),
    *("--local-address-ip-version", "v4", "--file-flush-interval-msec", "1000", "--disable-hot-restart"),
    *("--allow-unknown-static-fields", "-l", "info", "--skip-deprecated-logs", "--concurrency", "1"),
]
CONFIG = "envoy.config"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
STATE = r"^(server\.state|listener_manager\.workers_started)"
UPDATES = r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$"


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int) -> Any:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    value = {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}
    return message_of(f"{CONFIG}.cluster.v3.Cluster", value)


def listener(name: str, port: int, cluster: str, **more: Any) -> Any:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}]
    table = {"name": f"table of {name}", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}
    manager = {"@type": HCM, "stat_prefix": "a", "route_config": table, "http_filters": [ROUTER]}
    chain = {"filters": [{"name": "m", "typed_config": manager}]}
    value = {"name": name, "address": address(port), "filter_chains": [chain], **more}
    return message_of(f"{CONFIG}.listener.v3.Listener", value)


class Agent:
    """What the agent is for its proxy: a folder with a bootstrap, and a control plane on a pipe. `status`: its own port."""

    def __init__(self, folder: Path, status: int) -> None:
        self.folder = folder
        self.admin, self.inbound, self.outbound, self.prometheus, self.health = free_ports(5)
        proxy = folder / "etc" / "istio" / "proxy"
        proxy.mkdir(parents=True)
        text = FIXTURE.read_text()
        ports = {26019: self.admin, 26020: status, 15090: self.prometheus, 15021: self.health}
        for before, after in ports.items():
            text = re.sub(rf"\b{before}\b|(?<=_){before}\b", str(after), text)
        (proxy / "envoy-rev.json").write_text(text)
        self.control = XdsServer(f"unix:{proxy}/XDS")
        self.process: Pymosn | None = None

    def start(self, *flags: str) -> Pymosn:
        self.process = Pymosn([*FLAGS, *flags], self.folder, {}, verb="envoy")
        return self.process

    def end(self) -> None:
        if self.process is not None:
            self.process.end()
        self.control.stop()

    def ask(self, path: str, method: str = "GET", port: int = 0) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.admin}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def stats(self, pattern: str) -> dict[str, int]:
        status, text = self.ask(f"/stats?usedonly&filter={quote(pattern)}")
        assert status == 200
        return {name: int(value) for name, value in (line.split(": ") for line in text.splitlines())}

    def running(self) -> list[dict[str, Any]]:
        """The workers that serve."""
        return [one for one in json.loads(self.ask("/api/v1/workers")[1]) if one["state"] == "running"]

    def is_ready(self) -> bool:
        """The rules of the agent's probe."""
        updates = self.stats(UPDATES)
        received = all(
            updates.get(f"{name}.update_success", 0) > 0 for name in ("cluster_manager.cds", "listener_manager.lds")
        )
        return received and self.stats(STATE) == {"server.state": 0, "listener_manager.workers_started": 1}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """The application, and the status port of the agent."""
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path: Path, upstream: Upstream) -> Iterator[Agent]:
    made = Agent(tmp_path, upstream.port)
    yield made
    made.end()


def test_the_agent_sees_it_become_ready_and_istioctl_reads_it(agent: Agent, upstream: Upstream) -> None:
    proxy = agent.start()
    proxy.wait_for(READY)
    # The bootstrap is served before the control plane is there; but traffic must not come yet.
    assert not agent.is_ready()
    assert agent.ask("/ready") == (503, "not ready: the first listeners of xDS are not active yet\n")
    assert agent.stats(STATE)["server.state"] == 3
    assert eventually(lambda: agent.ask("/healthz/ready", port=agent.health)[0] == 200)
    scraped = agent.ask("/stats/prometheus", port=agent.prometheus)
    assert (scraped[0], "envoy_server_state{} 3" in scraped[1].splitlines()) == (200, True)
    agent.control.set(cluster("out", upstream.port), listener("in", agent.inbound, "out", traffic_direction="INBOUND"))
    agent.control.start()
    assert eventually(agent.is_ready)
    assert eventually(lambda: agent.ask("/ready")[0] == 200)
    assert eventually(lambda: agent.ask("/a", port=agent.inbound) == (200, "hello from upstream, /a\n"))

    value = json.loads(agent.ask("/config_dump?include_eds")[1])
    load_types(value)
    json_format.ParseDict(value, config_dump_pb2.ConfigDump())
    configs = {one["@type"].rpartition(".")[2]: one for one in value["configs"]}
    active = configs["ClustersConfigDump"]["dynamic_active_clusters"]
    assert [(one["cluster"]["name"], one["version_info"]) for one in active] == [("out", "1")]
    assert configs["ListenersConfigDump"]["dynamic_listeners"][0]["active_state"]["listener"]["name"] == "in"
    assert configs["BootstrapConfigDump"]["bootstrap"]["node"]["cluster"] == "echo.default"
    statuses = json_format.Parse(agent.ask("/clusters?format=json")[1], clusters_pb2.Clusters()).cluster_statuses
    out = next(one for one in statuses if one.name == "out")
    assert (out.added_via_api, out.host_statuses[0].address.socket_address.port_value) == (True, upstream.port)
    assert f"in::127.0.0.1:{agent.inbound}" in agent.ask("/listeners")[1].splitlines()
    assert eventually(
        lambda: 'envoy_cluster_upstream_rq_total{envoy_cluster_name="out"} ' in agent.ask("/stats/prometheus")[1]
    )


def test_rejected_resources_are_reported(agent: Agent, upstream: Upstream) -> None:
    agent.control.set(cluster("out", upstream.port), listener("in", agent.inbound, "out"))
    agent.control.start()
    proxy = agent.start()
    proxy.wait_for(READY)
    assert eventually(lambda: agent.ask("/a", port=agent.inbound)[0] == 200)
    bad = message_of(f"{CONFIG}.cluster.v3.Cluster", {"name": "bad", "transport_socket": {"name": "no.such.socket"}})
    agent.control.set(bad)
    agent.control.wait(lambda: agent.control.nacks(CLUSTER))
    assert eventually(lambda: agent.stats(UPDATES).get("cluster_manager.cds.update_rejected") == 1)
    (found,) = json.loads(agent.ask("/config_dump?resource=dynamic_warming_clusters")[1])["configs"]
    assert (found["cluster"]["name"], "transport_socket" in found["error_state"]["details"]) == ("bad", True)
    assert agent.ask("/a", port=agent.inbound)[0] == 200
    assert agent.control.nacks(LISTENER) == []


def test_the_drain_of_the_agent(agent: Agent, upstream: Upstream) -> None:
    """Inbound connections are asked to finish, new ones are served, and outbound traffic is not affected."""
    agent.control.set(
        cluster("out", upstream.port),
        listener("in", agent.inbound, "out", traffic_direction="INBOUND"),
        listener("egress", agent.outbound, "out", traffic_direction="OUTBOUND"),
    )
    agent.control.start()
    proxy = agent.start()
    proxy.wait_for(READY)
    assert eventually(lambda: agent.ask("/a", port=agent.inbound)[0] == 200)
    assert eventually(lambda: agent.ask("/a", port=agent.outbound)[0] == 200)
    inbound, outbound = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in (agent.inbound, agent.outbound)
    )
    inbound.request("GET", "/slow")
    assert upstream.arrived.wait(30)

    # What changes the configuration still needs the socket or a token.
    assert agent.ask("/api/v1/reload", "POST")[0] == 403
    assert agent.ask("/drain_listeners?inboundonly&graceful", "GET")[0] == 405
    assert agent.ask("/drain_listeners?inboundonly&graceful", "POST") == (200, "OK\n")
    assert eventually(lambda: last_of(agent.inbound))
    assert agent.ask("/ready") == (503, "not ready: draining\n")
    upstream.gate.set()
    response = inbound.getresponse()
    assert (response.status, response.read()) == (200, b"hello from upstream, /slow\n")
    assert response.will_close
    for _ in range(2):
        outbound.request("GET", "/b")
        kept = outbound.getresponse()
        assert (kept.status, kept.read(), kept.will_close) == (200, b"hello from upstream, /b\n", False)
    inbound.close()
    outbound.close()

    assert agent.ask("/drain_listeners?inboundonly", "POST")[0] == 200
    assert eventually(lambda: agent.ask("/a", port=agent.inbound) == (0, ""))
    assert agent.ask("/a", port=agent.outbound)[0] == 200
    assert agent.ask("/quitquitquit", "POST") == (200, "OK\n")
    assert proxy.exit_code() == 0


def last_of(port: int) -> bool:
    """Whether a new connection is served, and is closed after its first response."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/a")
    response = client.getresponse()
    response.read()
    client.close()
    return response.status == 200 and response.will_close


def test_a_failing_health_check_is_undone(agent: Agent, upstream: Upstream) -> None:
    agent.control.set(cluster("out", upstream.port), listener("in", agent.inbound, "out"))
    agent.control.start()
    agent.start().wait_for(READY)
    assert eventually(agent.is_ready)
    assert eventually(lambda: agent.ask("/a", port=agent.inbound)[0] == 200)
    assert agent.ask("/healthcheck/fail", "POST") == (200, "OK\n")
    assert eventually(lambda: last_of(agent.inbound))
    assert agent.stats(STATE)["server.state"] == 1
    assert agent.ask("/healthcheck/ok", "POST") == (200, "OK\n")
    assert eventually(lambda: not last_of(agent.inbound))
    assert agent.is_ready()


def test_after_the_drain_time_the_listeners_are_closed_also_those_that_came_later(agent: Agent, upstream: Upstream) -> None:
    agent.control.set(cluster("out", upstream.port), listener("in", agent.inbound, "out"))
    agent.control.start()
    proxy = agent.start("--drain-time-s", "0.5")
    proxy.wait_for(READY)
    assert eventually(lambda: agent.ask("/a", port=agent.inbound)[0] == 200)
    (worker,) = proxy.worker_pids()
    assert agent.ask("/drain_listeners?graceful", "POST") == (200, "OK\n")
    proxy.wait_for("drained; the listeners are closed")
    assert eventually(lambda: agent.ask("/a", port=agent.inbound) == (0, ""))
    agent.control.set(listener("later", agent.outbound, "out"))
    assert eventually(lambda: "later::" in agent.ask("/listeners")[1])
    assert eventually(lambda: agent.ask("/a", port=agent.outbound) == (0, ""))
    # A worker that is replaced does not open them again.
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: [one["pid"] for one in agent.running()] not in ([], [worker]))
    assert agent.ask("/a", port=agent.inbound) == (0, "")
    assert proxy.process.poll() is None
