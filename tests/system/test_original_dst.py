"""ORIGINAL_DST on the real program.

Without iptables on the test machine the kernel redirects nothing: `tproxy` listeners are asked on other addresses of
loopback, whose local address is then the original destination; the header does the rest.
"""

import http.client
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, _listener, _table, eventually, free_ports


def can_be_transparent() -> bool:
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        except OSError:
            return False
        return True


def get(ip: str, port: int, host: str = "any", path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection(ip, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Redirecting:
    """One listener whose cluster is of type ORIGINAL_DST, and an admin port."""

    def __init__(self, **cluster: object) -> None:
        self.port, self.admin_port = free_ports(2)
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "routers": [_table("router", "wanted")],
                    "listeners": [_listener("main", self.port, "router")],
                }
            ],
            "cluster_manager": {
                "clusters": [{"name": "wanted", "type": "ORIGINAL_DST", "lb_type": "LB_ORIGINAL_DST", **cluster}]
            },
        }

    @property
    def server(self) -> dict[str, Any]:
        server: dict[str, Any] = self.config["servers"][0]
        return server

    def view(self) -> dict[str, Any]:
        (cluster,) = json.loads(get("127.0.0.1", self.admin_port, "localhost", "/api/v1/clusters")[1])
        found: dict[str, Any] = cluster
        return found


BY_HOST = {"original_dst_lb_config": {"use_header": True}}


def test_the_header_says_where_and_the_admin_api_shows_it(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    site = Redirecting(**BY_HOST)
    proxy = start(site.config, "--workers", "2")
    proxy.wait_for(READY)
    for number in range(6):
        assert get("127.0.0.1", site.port, f"127.0.0.1:{upstream.port}", f"/{number}")[0] == 200
    view = site.view()
    assert (view["type"], view["lb_type"], view["workers"]) == ("ORIGINAL_DST", "LB_ORIGINAL_DST", 2)
    (host,) = view["hosts"]
    assert (host["address"], host["requests_total"]) == (f"127.0.0.1:{upstream.port}", 6)
    # To itself, by an address and by a name: answered, and not asked again and again.
    for own in ("127.0.0.1", "localhost"):
        assert get("127.0.0.1", site.port, f"{own}:{site.port}")[0] == 502
    assert '"reason_loop": "2"' in get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    # A change keeps the hosts.
    site.config["cluster_manager"]["clusters"][0]["connect_timeout"] = "1s"
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(site.config))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("version 2 is active")
    assert f"127.0.0.1:{upstream.port}" in [host["address"] for host in site.view()["hosts"]]
    assert get("127.0.0.1", site.port, f"127.0.0.1:{upstream.port}")[0] == 200


@pytest.mark.skipif(not can_be_transparent(), reason="IP_TRANSPARENT takes CAP_NET_ADMIN")
def test_the_connection_says_where_and_which_listener_takes_it(start: Start, upstream: Upstream) -> None:
    site = Redirecting()
    (main,) = site.server["listeners"]
    main |= {"address": f"0.0.0.0:{site.port}", "use_original_dst": "tproxy"}
    virtual = {**_listener("virtual", site.port, "virtual"), "address": f"127.0.0.2:{site.port}", "bind_port": False}
    site.server["listeners"].append(virtual)
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": "virtual"}}
    site.server["routers"].append(
        {"router_config_name": "virtual", "virtual_hosts": [{"domains": ["*"], "routers": [answer]}]}
    )
    proxy = start(site.config, "--workers", "1")
    proxy.wait_for(READY)
    assert get("127.0.0.2", site.port) == (200, "virtual")
    # Nobody else has this address: the listener itself takes it, and its cluster would only come back here.
    assert get("127.0.0.3", site.port)[0] == 502
    stats = get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    assert '"reason_loop": "1"' in stats
    assert eventually(
        lambda: '"connection_active": "0"' in get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    )
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
