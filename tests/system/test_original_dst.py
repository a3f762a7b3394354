"""ORIGINAL_DST on the real program.

Here the kernel redirects nothing (see test_kernel_routing.py): `tproxy` listeners are asked on other addresses of
loopback, whose local address is then the original destination; the header does the rest.
"""

import http.client
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, _listener, _table, eventually, free_ports
from tests.kit.addresses import outer_address


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


BY_HOST = {"original_dst_lb_config": {"use_header": True, "allowed_destinations": [{"network": "127.0.0.0/8"}]}}


def post(port: int, host: str, path: str) -> int:
    """The status of a POST that would change something, if it reached the admin API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body="{}", headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


SPELLINGS = [
    *("127.0.0.1", "localhost", "0.0.0.0", "127.1", "127.0.0.2", "2130706433", "0x7f000001", "0177.0.0.1"),
    *("[::ffff:127.0.0.1]", "[::]", "[::1]", "[::ffff:0.0.0.0]"),
]


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_the_data_port_does_not_lead_to_the_admin_port(start: Start, upstream: Upstream, bound: str) -> None:
    """However the destination is spelled, and whatever the operator has allowed."""
    site = Redirecting(**BY_HOST)
    site.config["cluster_manager"]["clusters"][0]["original_dst_lb_config"]["allowed_destinations"] += [
        {"network": network} for network in ("0.0.0.0/0", "::/0", "::1", "0.0.0.0/8", "::")
    ]
    site.config["admin"]["address"]["socket_address"]["address"] = bound
    proxy = start(site.config, "--workers", "1")
    proxy.wait_for(READY)
    spellings = [*SPELLINGS, outer_address() or "127.0.0.3"]
    for host in spellings:
        for path in ("/api/v1/version", "/"):
            status, body = get("127.0.0.1", site.port, f"{host}:{site.admin_port}", path)
            assert status == 502, f"{host}: {body}"
            assert "pymosn" not in body
    assert post(site.port, f"localhost:{site.admin_port}", "/api/v1/update_config") == 502
    with socket.create_connection(("127.0.0.1", site.port), 20) as client:  # the target overrides the Host field
        target = f"http://127.0.0.1:{site.admin_port}/api/v1/version"
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: public.test\r\nConnection: close\r\n\r\n".encode())
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 502 ")
    stats = get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    loops = re.search(r'"reason_loop": "(\d+)"', stats)
    assert loops is not None
    # An address at which nothing listens may be dialed: it is refused by the kernel.
    assert int(loops[1]) >= (2 * len(spellings) if bound == "0.0.0.0" else 18)
    assert get("127.0.0.1", site.port, f"127.0.0.1:{upstream.port}")[0] == 200


@pytest.mark.parametrize("method", ["CONNECT", "header"])
def test_a_tunnel_and_another_header_lead_no_further(start: Start, upstream: Upstream, method: str) -> None:
    site = Redirecting(original_dst_lb_config={"use_header": True, "header_name": "X-To" if method == "header" else "Host"})
    proxy_filter = site.server["listeners"][0]["filter_chains"][0]["filters"][0]["config"]
    proxy_filter["extend_config"] = {"Http1": {"connect": "terminate"}}
    proxy = start(site.config, "--workers", "1")
    proxy.wait_for(READY)
    for port, status in ((site.admin_port, b"502"), (site.port, b"502"), (upstream.port, b"403")):
        with socket.create_connection(("127.0.0.1", site.port), 20) as client:
            if method == "CONNECT":
                client.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            else:
                client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nX-To: [::ffff:127.0.0.1]:{port}\r\n\r\n".encode())
            answer = client.recv(4096)
            assert answer[9:12] == status, answer
    stats = get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    assert '"reason_loop": "2"' in stats
    assert '"reason_destination_denied": "1"' in stats


def test_listeners_that_come_later_and_ports_that_the_system_chose_are_own_addresses_too(
    start: Start, tmp_path: Path
) -> None:
    site = Redirecting(**BY_HOST)
    chosen = {**_listener("chosen", 1, "router"), "address": "127.0.0.1:0"}
    site.server["listeners"].append(chosen)
    proxy = start(site.config, "--workers", "2")
    proxy.wait_for(READY)
    port = int(proxy.wait_for(r"listener chosen on 127\.0\.0\.1:(\d+)")[1])
    assert get("127.0.0.1", site.port, f"127.0.0.1:{port}")[0] == 502
    (later,) = free_ports(1)
    site.server["listeners"].append({**_listener("later", later, "router"), "address": f"0.0.0.0:{later}"})
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(site.config))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("version 2 is active")
    for host in (f"127.0.0.1:{port}", f"127.0.0.1:{later}", f"127.0.0.9:{later}", f"localhost:{later}"):
        assert get("127.0.0.1", site.port, host)[0] == 502
    assert '"reason_loop": "5"' in get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]


def test_a_name_does_not_lead_to_the_admin_port(start: Start) -> None:
    """STRICT_DNS and plain hosts: a literal address is the operator's wish, and is reached."""
    name = socket.gethostname()
    try:
        ip = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine cannot resolve its own name")
    site = Redirecting()
    site.config["admin"]["address"]["socket_address"]["address"] = "0.0.0.0"
    clusters = site.config["cluster_manager"]["clusters"]
    for number, (kind, host) in enumerate([("STRICT_DNS", name), ("SIMPLE", name), ("SIMPLE", ip)]):
        hosts = [{"address": f"{host}:{site.admin_port}"}]
        clusters.append({"name": f"c{number}", "type": kind, "lb_type": "LB_RANDOM", "hosts": hosts})
    site.server["routers"][0]["virtual_hosts"][0]["routers"] = [
        {"match": {"prefix": f"/c{number}/"}, "route": {"cluster_name": f"c{number}", "prefix_rewrite": "/api/v1/"}}
        for number in range(3)
    ]
    proxy = start(site.config, "--workers", "1")
    proxy.wait_for(READY)
    assert [get("127.0.0.1", site.port, "localhost", f"/c{number}/version")[0] for number in range(3)] == [502, 502, 200]
    proxy.wait_for(r"cluster c0: .* a service of this process; not used")
    stats = get("127.0.0.1", site.admin_port, "localhost", "/api/v1/stats")[1]
    assert '"reason_loop": "1"' in stats
    assert '"reason_no_hosts": "1"' in stats


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
