"""Dynamic mode: everything from a scripted control plane."""

from typing import Any

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpConnectionManager
from process_fixtures import Start
from pymosn_process import READY, Upstream, eventually, free_ports, get
from test_xds_mixed import eds, hosts, port_of
from test_xds_secrets import dynamic, view
from tests.kit.xds_server import LISTENER, ROUTES, XdsServer

pytestmark = pytest.mark.once


def listens(name: str, port: int, table: str) -> Listener:
    message = Listener(name=name)
    message.address.socket_address.address, message.address.socket_address.port_value = "127.0.0.1", port
    manager = HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = table
    manager.rds.config_source.ads.SetInParent()
    manager.http_filters.add(name="envoy.filters.http.router").typed_config.Pack(Router())
    message.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager)
    return message


def routes(name: str, cluster: str, **match: Any) -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    route = message.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.route.cluster = cluster
    return message


def is_open(port: int) -> bool:
    try:
        get(port, "/")
    except OSError:
        return False
    return True


def test_a_listener_is_bound_when_its_routes_are_there_and_keeps_serving(start: Start, upstream: Upstream) -> None:
    admin, port = free_ports(2)
    with XdsServer() as control:
        control.silent.add(ROUTES)
        control.set(eds("c"), hosts("c", port_of(upstream)), listens("l", port, "r"), routes("r", "c"))
        start(dynamic(control, admin)).wait_for(READY)
        assert eventually(lambda: {"item": "listener l", "for": "table r"} in view(admin)["waiting"])
        assert not is_open(port)
        control.answer(ROUTES)
        assert eventually(lambda: is_open(port) and get(port, "/")[0] == 200)
        bad = routes("r", "c")
        bad.virtual_hosts[0].routes[0].match.safe_regex.regex = "("
        control.set(bad)
        control.wait(lambda: control.nacks(ROUTES))
        assert get(port, "/")[0] == 200
        control.set(listens("twin", port, "r"))
        [nack] = control.wait(lambda: control.nacks(LISTENER))
        assert "address of listener l" in nack.message.error_detail.message
        assert get(port, "/")[0] == 200
        control.stop()
        assert get(port, "/")[0] == 200
