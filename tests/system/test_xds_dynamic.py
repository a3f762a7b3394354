"""Dynamic mode: everything from a scripted control plane."""

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, eventually, free_ports, get
from tests.kit.xds_server import LISTENER, ROUTES, XdsServer
from xds_peers import dynamic, eds, hosts, is_open, listens, port_of, routes, view

pytestmark = pytest.mark.once


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
