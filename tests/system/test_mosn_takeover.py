"""The real program takes the listening sockets over from MOSN, whose side is a stand-in; interop/ has one with MOSN."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import READY, eventually
from tests.kit.old_mosn import OldMosnStandIn
from tests.kit.unix_http import UnixHttp

pytestmark = pytest.mark.once


def listener(name: str, address: str, body: str = "pymosn", **keys: Any) -> dict[str, Any]:
    proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": f"routes of {body}"}
    filters = [{"type": "proxy", "config": proxy}]
    return {"name": name, "address": address, "bind_port": True, "filter_chains": [{"filters": filters}], **keys}


def routes(body: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}
    hosts = [{"name": "all", "domains": ["*"], "routers": [route]}]
    return {"router_config_name": f"routes of {body}", "virtual_hosts": hosts}


def configuration(listeners: list[dict[str, Any]], admin_port: int, body: str = "pymosn") -> dict[str, Any]:
    server = {"default_log_path": "stdout", "processor": 2, "listeners": listeners, "routers": [routes(body)]}
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}}
    return {"servers": [server], "cluster_manager": {}, "admin": admin}


def body_at(port: int, host: str = "127.0.0.1") -> str:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    connection.request("GET", "/")
    body = connection.getresponse().read().decode()
    connection.close()
    return body


class World:
    """MOSN's sockets, bound and listening, and a configuration with the same addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "conf"
        self.folder.mkdir()
        self.path = str(folder / "listener.sock")
        self.one = socket.create_server(("127.0.0.1", 0))
        # What MOSN has for 0.0.0.0.
        self.all = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.unix.listen()
        self.admin = socket.create_server(("127.0.0.1", 0))
        self.spare = socket.create_server(("127.0.0.1", 0))
        self.sockets = [self.one, self.all, self.unix, self.admin, self.spare]
        self.config = configuration(
            [
                listener("one", f"127.0.0.1:{self.port(self.one)}"),
                listener("all", f"0.0.0.0:{self.port(self.all)}"),
                listener("unix", self.path, network="unix"),
            ],
            self.port(self.admin),
        )

    @staticmethod
    def port(sock: socket.socket) -> int:
        return int(sock.getsockname()[1])

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_all_sockets_are_served_after_the_takeover(world: World, start: Start) -> None:
    old = OldMosnStandIn(world.folder, world.sockets)
    early = [socket.create_connection(world.one.getsockname()) for _ in range(4)]  # in the backlog that both share
    proxy = start(world.config)
    proxy.wait_for(READY)
    proxy.wait_for("MOSN is replaced")
    assert old.done.wait(PATIENCE)
    assert old.outcome == "replaced"
    for waiting in early:
        waiting.settimeout(PATIENCE)
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert waiting.recv(65536).startswith(b"HTTP/1.1 200")
        waiting.close()
    for _ in range(10):
        assert body_at(world.port(world.one)) == "pymosn"
        assert body_at(world.port(world.all)) == "pymosn"
    unix = UnixHttp(world.path, PATIENCE)
    unix.request("GET", "/")
    assert unix.getresponse().read() == b"pymosn"
    unix.close()
    admin = http.client.HTTPConnection("127.0.0.1", world.port(world.admin), timeout=PATIENCE)
    admin.request("GET", "/api/v1/version")
    assert admin.getresponse().status == 200
    admin.close()
    proxy.wait_for(rf"MOSN's socket tcp 127.0.0.1:{world.port(world.spare)} is not used")
    old.close()
    # It can be stopped and started again, now without MOSN.
    port = world.port(world.one)
    world.close()
    proxy.process.terminate()
    assert proxy.exit_code() == 0
    assert not Path(world.path).exists()
    again = start(world.config)
    again.wait_for(READY)
    assert body_at(port) == "pymosn"


def test_mosn_goes_on_if_the_start_fails(world: World, start: Start) -> None:
    """An address that MOSN does not have, and another process does."""
    taken = socket.create_server(("127.0.0.1", 0))
    old = OldMosnStandIn(world.folder, world.sockets)
    world.config["servers"][0]["listeners"].append(listener("other", f"127.0.0.1:{world.port(taken)}"))
    proxy = start(world.config)
    assert proxy.exit_code() == 1
    assert "the address is in use by another process" in proxy.output
    assert old.done.wait(PATIENCE)
    assert old.outcome == "not replaced"
    serves_as_before(world)
    old.close()
    taken.close()


def test_mosn_goes_on_if_it_does_not_acknowledge(world: World, start: Start) -> None:
    old = OldMosnStandIn(world.folder, world.sockets, acknowledges=False)
    proxy = start(world.config)
    assert proxy.exit_code() == 2
    assert "taking over from MOSN: MOSN did not acknowledge that it is replaced: no answer in time" in proxy.output
    assert old.done.wait(PATIENCE)
    assert old.outcome == "refused"
    serves_as_before(world)
    old.close()


def serves_as_before(world: World) -> None:
    """MOSN's sockets accept, and its files are where they were."""
    for sock, address in ((world.one, world.one.getsockname()), (world.unix, world.path)):
        with socket.socket(sock.family) as client:
            client.settimeout(PATIENCE)
            client.connect(address)
            sock.settimeout(PATIENCE)
            accepted, _ = sock.accept()
            client.sendall(b"ping")
            assert accepted.recv(4) == b"ping"
            accepted.close()
    assert {path.name for path in world.folder.iterdir()} >= {"reconfig.sock"}
    assert not {path.name for path in world.folder.iterdir()} & {"listen.sock", "mosnconfig.sock"}


@pytest.mark.parametrize("key", ["disable_upgrade", "close_graceful"])
def test_a_configuration_may_exclude_it(world: World, start: Start, key: str) -> None:
    old = OldMosnStandIn(world.folder, world.sockets)
    world.config[key] = True
    proxy = start(world.config)
    assert proxy.exit_code() == 1
    assert "the address is in use by another process" in proxy.output
    assert not old.done.is_set()
    old.close()


def test_the_configuration_of_mosn_is_inherited(world: World, start: Start) -> None:
    port = world.port(world.one)
    inherited = configuration([listener("one", f"127.0.0.1:{port}", "MOSN")], 1, "MOSN")
    old = OldMosnStandIn(world.folder, world.sockets, config=json.dumps(inherited).encode())
    world.config["inherit_old_mosnconfig"] = True
    proxy = start(world.config)
    proxy.wait_for(READY)
    assert old.done.wait(PATIENCE)
    assert old.outcome == "replaced"
    assert eventually(lambda: body_at(port) == "MOSN")
    old.close()


def test_an_inherited_configuration_with_faults_is_refused(world: World, start: Start) -> None:
    inherited = configuration([listener("one", "nowhere", "MOSN")], 1, "MOSN")
    old = OldMosnStandIn(world.folder, world.sockets, config=json.dumps(inherited).encode())
    world.config["inherit_old_mosnconfig"] = True
    proxy = start(world.config)
    assert proxy.exit_code() == 1
    assert "with MOSN's configuration: error: servers[0].listeners[0].address" in proxy.output
    assert old.done.wait(PATIENCE)
    assert old.outcome == "not replaced"
    serves_as_before(world)
    old.close()


def test_uds_dir_says_where_mosn_is(world: World, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    old = OldMosnStandIn(folder, world.sockets)
    world.config["uds_dir"] = str(folder)
    start(world.config).wait_for(READY)
    assert old.done.wait(PATIENCE)
    assert old.outcome == "replaced"
    old.close()
    assert list(folder.iterdir()) == []


def test_a_udp_socket_is_served_by_one_worker(world: World, start: Start) -> None:
    """It is alone in its group, and no other may be added: datagrams of a client would change sides."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for each in (host, sock, client):
            each.bind(("127.0.0.1", 0))
            each.settimeout(PATIENCE)
        cluster = {"name": "c", "type": "SIMPLE", "hosts": [{"address": f"127.0.0.1:{world.port(host)}"}]}
        world.config["cluster_manager"] = {"clusters": [cluster]}
        filters = [{"type": "udp_proxy", "config": {"cluster": "c"}}]
        udp = {"name": "udp", "address": f"127.0.0.1:{world.port(sock)}", "network": "udp", "bind_port": True}
        world.config["servers"][0]["listeners"].append({**udp, "filter_chains": [{"filters": filters}]})
        old = OldMosnStandIn(world.folder, [*world.sockets, sock])
        start(world.config).wait_for(READY)
        assert old.done.wait(PATIENCE)
        client.connect(sock.getsockname())
        sources = set()
        for _ in range(10):
            client.send(b"ping")
            data, source = host.recvfrom(99)
            sources.add(source)
            host.sendto(data.upper(), source)
            assert client.recv(99) == b"PING"
        assert len(sources) == 1
        old.close()
