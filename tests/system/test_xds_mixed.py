"""Mixed mode: listeners and routes of the file, clusters and endpoints from a scripted control plane."""

import json
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from process_fixtures import Start
from pymosn_process import READY, Pymosn, Upstream, eventually, free_ports, get
from tests.kit.xds_server import CLUSTER, ENDPOINTS, LISTENER, XdsServer
from tls_peers import config_of, listener_of, proxy_filter, table_of
from xds_peers import eds, hosts, port_of

from pymosn.control.xds.table import as_table
from pymosn.server.admin_client import view_of_running

pytestmark = pytest.mark.once


class Rig:
    """One listener of the file that forwards everything to the cluster `dynamic` of the control plane."""

    def __init__(self, start: Start, control: XdsServer) -> None:
        self.admin, self.port = free_ports(2)
        self.control = control
        self._start = start
        address = {"socket_address": {"address": "127.0.0.1", "port_value": control.port}}
        ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        static = {
            "name": "xds_cluster",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "xds_cluster", "endpoints": ends},
        }
        service = {"envoy_grpc": {"cluster_name": "xds_cluster"}}
        config = config_of(
            [listener_of("l", self.port, [{"filters": [proxy_filter("t")]}])],
            [table_of("t", cluster="dynamic")],
            {"mine": "127.0.0.1:1"},
        )
        self.config = {
            **config,
            "dynamic_resources": {"ads_config": {"api_type": "GRPC", "grpc_services": [service]}},
            "static_resources": {"clusters": [static]},
            "node": {"id": "node-1", "cluster": "test"},
            "admin": {"address": {"socket_address": {"port_value": self.admin}}},
        }

    def start(self) -> Pymosn:
        proxy = self._start(self.config)
        proxy.wait_for(READY)
        return proxy

    def status(self) -> int:
        return get(self.port, "/")[0]

    def view(self) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/api/v1/xds") as response:
            return json.load(response)

    def clusters(self) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/api/v1/clusters") as response:
            return [cluster["name"] for cluster in json.load(response)]


@pytest.fixture
def rig(start: Start) -> Iterator[Rig]:
    with XdsServer() as control:
        yield Rig(start, control)


def test_a_cluster_from_xds_serves_is_emptied_and_filled_again(rig: Rig, upstream: Upstream) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
    rig.start()
    assert eventually(lambda: rig.status() == 200)
    rig.control.set(hosts("dynamic"))
    assert eventually(lambda: rig.status() == 502)
    rig.control.set(hosts("dynamic", port_of(upstream)))
    assert eventually(lambda: rig.status() == 200)
    assert rig.control.nacks(ENDPOINTS) == []
    assert rig.view()["mode"] == "mixed"
    assert rig.view()["types"]["cds"]["static"] == ["xds_cluster"]


def test_one_bad_cluster_costs_no_other_and_the_error_names_it(rig: Rig, upstream: Upstream) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
    rig.start()
    assert eventually(lambda: rig.status() == 200)
    bad = eds("dynamic")
    bad.connect_timeout.seconds = -1
    rig.control.set(bad, Cluster(name="other"))
    [nack] = rig.control.wait(lambda: rig.control.nacks(CLUSTER))
    detail = nack.message.error_detail
    assert detail.code == 3
    assert "dynamic" in detail.message
    assert "connect_timeout" in detail.message
    assert eventually(lambda: "other" in rig.clusters())
    assert rig.status() == 200
    assert "connect_timeout" in rig.view()["types"]["cds"]["rejected"]["dynamic"]


def test_hosts_stay_when_only_the_cluster_changes(rig: Rig, upstream: Upstream) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
    proxy = rig.start()
    assert eventually(lambda: rig.status() == 200)
    rig.control.silent.add(ENDPOINTS)
    changed = eds("dynamic")
    changed.connect_timeout.seconds = 3
    rig.control.set(changed)
    proxy.wait_for(r"change from xDS: version \d+ is active")
    rig.control.wait(lambda: rig.control.acks(CLUSTER, str(rig.control.version)))
    assert eventually(lambda: '"connect_timeout": "3s"' in json.dumps(dump(rig, "dynamic")))
    assert rig.status() == 200


def dump(rig: Rig, cluster: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.admin}/api/v1/config_dump?cluster={cluster}") as response:
        return json.load(response)


def test_an_item_of_the_file_wins_and_is_never_removed(rig: Rig) -> None:
    rig.control.set(eds("mine"), hosts("mine", 2))
    rig.start()
    assert eventually(lambda: rig.view()["shadowed"] == ["cluster mine"])
    rig.control.remove(CLUSTER, "mine")
    assert eventually(lambda: rig.view()["shadowed"] == [])
    assert "mine" in rig.clusters()


def test_a_reload_and_a_change_by_the_api_keep_what_xds_has_added(rig: Rig, upstream: Upstream) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
    proxy = rig.start()
    assert eventually(lambda: rig.status() == 200)
    block = {"name": "added", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:3"}]}
    assert proxy.post("/api/v1/update_config", {"type": "cluster", "config": block})[0] == 200
    assert rig.status() == 200
    assert {"added", "dynamic"} <= set(rig.clusters())
    assert proxy.post("/api/v1/reload")[0] == 200
    assert rig.status() == 200
    assert "added" not in rig.clusters()


def test_a_restart_without_a_control_plane_serves_from_the_cache(rig: Rig, upstream: Upstream, start: Start) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
    first = rig.start()
    assert eventually(lambda: rig.status() == 200)
    first.send(signal.SIGTERM)
    assert first.exit_code() == 0
    rig.control.stop()
    second = rig.start()
    second.wait_for("resources from the cache")
    assert eventually(lambda: rig.status() == 200)
    rig.control.start()
    rig.control.set(hosts("dynamic"))
    assert eventually(lambda: rig.status() == 502)


def test_a_listener_that_cannot_be_bound_is_reported_to_the_control_plane(rig: Rig) -> None:
    rig.control.set(eds("dynamic"), hosts("dynamic", 2))
    rig.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        message = Listener(name="taken")
        address = message.address.socket_address
        address.address, address.port_value = taken.getsockname()
        proxy = TcpProxy(stat_prefix="x", cluster="dynamic")
        message.filter_chains.add().filters.add(name="tcp").typed_config.Pack(proxy)
        rig.control.set(message)
        [nack, *_] = rig.control.wait(lambda: rig.control.nacks(LISTENER))
    assert "taken: cannot be activated" in nack.message.error_detail.message
    assert "taken" in rig.view()["types"]["lds"]["rejected"]


def test_the_command_shows_versions_answers_and_reasons(rig: Rig) -> None:
    bad = eds("bad")
    bad.connect_timeout.seconds = -1
    rig.control.set(eds("dynamic"), hosts("dynamic", 2), bad)
    proxy = rig.start()
    rig.control.wait(lambda: rig.control.nacks(CLUSTER))
    assert eventually(lambda: bool(re.search(r"^eds +\S+ +1 +0 +\d+ s ago +-$", as_table(rig.view()), re.MULTILINE)))
    view = rig.view()
    text = as_table(view)
    assert text.startswith("mode: mixed\nADS: ")
    assert " connected for " in text
    assert re.search(r"^cds bad is rejected: .*connect_timeout", text, re.MULTILINE)
    assert view_of_running(proxy.admin_socket, "/api/v1/xds", 10.0)["types"] == view["types"]
