"""The real program with UDP listeners: datagrams exact both ways, sessions, limits, dead hosts and workers, changes, DNS."""

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports, get, is_alive

pytestmark = pytest.mark.once

#: What MOSN's own example for UDP configures; only the ports differ.
SAMPLE: dict[str, Any] = {
    "name": "proxyListener",
    "bind_port": True,
    "log_path": "stdout",
    "network": "udp",
    "filter_chains": [{"tls_context": {}, "filters": [{"type": "udp_proxy", "config": {"cluster": "serverCluster"}}]}],
}
SIZES = (0, 1, 512, 1472, 9000, 65507)
LOG = {"log_path": "stdout", "log_format": "LOG %protocol% %bytes_received% %bytes_sent% %upstream_address% %reason%"}


class Echo:
    """A UDP server: answers each datagram with what `answer` makes of it; None is no answer."""

    def __init__(self, answer: Callable[[bytes], bytes | None] = lambda data: data) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.sources: list[tuple[str, int]] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, address = self.sock.recvfrom(70000)
            if data == b"end" + self.port.to_bytes(2, "big"):
                return
            self.sources.append(address)
            reply = self._answer(data)
            if reply is not None:
                self.sock.sendto(reply, address)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end" + self.port.to_bytes(2, "big"), ("127.0.0.1", self.port))
        self._thread.join(PATIENCE)
        self.sock.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Echo]]:
    servers: list[Echo] = []

    def begin(*arguments: Any) -> Echo:
        servers.append(Echo(*arguments))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


class UdpWorld:
    """MOSN's example: one UDP listener in front of servers."""

    def __init__(self, *upstreams: int, workers: int = 1, **settings: Any) -> None:
        self.port, self.admin_port = free_ports(2)
        self.listener: dict[str, Any] = json.loads(json.dumps(SAMPLE))
        self.listener["address"] = f"127.0.0.1:{self.port}"
        self.listener["access_logs"] = [LOG]
        self.listener["filter_chains"][0]["filters"][0]["config"].update(settings)
        self.cluster: dict[str, Any] = {
            "Name": "serverCluster",
            "type": "SIMPLE",
            "lb_type": "LB_ROUNDROBIN",
            "max_request_per_conn": 1024,
            "conn_buffer_limit_bytes": 32768,
            "hosts": [{"address": f"127.0.0.1:{port}"} for port in upstreams],
        }
        self.server: dict[str, Any] = {
            "default_log_path": "stdout",
            "processor": workers,
            "graceful_timeout": "2s",
            "listeners": [self.listener],
        }
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [self.server],
            "cluster_manager": {"clusters": [self.cluster]},
        }

    def stats(self, name: str = "proxyListener") -> dict[str, int]:
        found = json.loads(get(self.admin_port, "/api/v1/stats")[1])["downstream"][f"listener.{name}"]
        return {key: int(value) for key, value in found.items() if str(value).isdigit()}

    def reload(self, proxy: Pymosn, folder: Path) -> dict[str, Any]:
        """Writes the configuration, and gives what became of it."""

        def last() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(get(self.admin_port, "/api/v1/last_change")[1])
            return found

        before = last()["attempt"]
        (folder / "conf" / "mosn.json").write_text(json.dumps(self.config))
        proxy.send(signal.SIGHUP)
        assert eventually(lambda: last()["attempt"] > before)
        return last()


def client(port: int, ip: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.connect((ip, port))  # so that a reply from another address would be lost
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(70000)


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing has come, once something else has been answered."""
    sock.setblocking(False)
    try:
        return not sock.recv(70000)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(PATIENCE)


def sockets_of(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_the_sample_of_mosn_forwards_datagrams_of_all_sizes(start: Start, serve: Callable[..., Echo]) -> None:
    world = UdpWorld(serve().port, workers=2)
    proxy = start(world.config)
    proxy.wait_for(READY)
    assert proxy.wait_for(r"listener proxyListener on (.*)")[1] == f"udp:127.0.0.1:{world.port}"
    clients = [client(world.port) for _ in range(5)]
    for number, sock in enumerate(clients):
        for size in SIZES:
            data = bytes([number]) * size
            assert ask(sock, data) == data
    # Each is one session, which ends 5 s after its last datagram, with a line in the log.
    assert eventually(lambda: world.stats()["udp_datagrams_written"] == 5 * len(SIZES))
    stats = world.stats()
    assert (stats["connection_total"], stats["connection_active"]) == (5, 5)
    assert stats["udp_datagrams_read"] == 5 * len(SIZES)
    assert stats["bytes_read_total"] == stats["bytes_write_total"] == 5 * sum(SIZES)
    assert eventually(lambda: world.stats()["connection_active"] == 0)
    line = f"LOG udp {sum(SIZES)} {sum(SIZES)} {world.cluster['hosts'][0]['address']} idle_timeout"
    assert eventually(lambda: proxy.lines.count(line) == 5)


def test_a_client_stays_with_its_worker_and_host(start: Start, serve: Callable[..., Echo]) -> None:
    servers = [serve(), serve()]
    world = UdpWorld(*(server.port for server in servers), workers=2)
    start(world.config).wait_for(READY)
    clients = [client(world.port) for _ in range(40)]
    for turn in range(5):
        for sock in clients:
            assert ask(sock, b"%d" % turn) == b"%d" % turn
    # One upstream socket per client, whichever worker has it.
    assert len({*servers[0].sources, *servers[1].sources}) == 40
    assert eventually(lambda: world.stats()["connection_total"] == 40)


def test_replies_come_from_the_address_that_was_asked(start: Start, serve: Callable[..., Echo]) -> None:
    world = UdpWorld(serve().port)
    world.listener["address"] = f":{world.port}"
    start(world.config).wait_for(READY)
    for ip in ("127.0.0.1", "127.0.0.2", "127.9.9.9", "::1"):
        assert ask(client(world.port, ip), ip.encode()) == ip.encode()
    # One client that asks two addresses gets each reply from the address that it has asked.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            sock.sendto(b"x", (ip, world.port))
            assert sock.recvfrom(10) == (b"x", (ip, world.port))


def test_a_host_that_refuses_ends_the_session_and_the_next_datagram_has_another(
    start: Start, serve: Callable[..., Echo]
) -> None:
    (dead,) = free_ports(1)
    world = UdpWorld(dead, serve().port)
    proxy = start(world.config)
    proxy.wait_for(READY)
    for number in range(6):
        with client(world.port) as sock:
            sock.settimeout(0.5)
            answered = 0
            for _ in range(3):
                sock.send(b"%d" % number)
                try:
                    answered += sock.recv(10) == b"%d" % number
                except TimeoutError:
                    assert answered == 0  # only the first datagram may be lost
            assert answered >= 2
    assert eventually(lambda: world.stats()["reason_connect_refused"] >= 1)
    assert eventually(lambda: f"LOG udp 1 0 127.0.0.1:{dead} connect_refused" in proxy.lines)


def test_sessions_over_the_limits_are_dropped_and_everything_returns(start: Start, serve: Callable[..., Echo]) -> None:
    world = UdpWorld(serve().port, max_sessions=30, max_sessions_per_client=20, idle_timeout=1_000_000_000)
    proxy = start(world.config)
    proxy.wait_for(READY)
    (worker,) = proxy.worker_pids()
    assert ask(client(world.port), b"warm") == b"warm"
    assert eventually(lambda: world.stats()["connection_active"] == 0)
    before = sockets_of(worker)
    held = [client(world.port) for _ in range(20)]
    for sock in held:
        assert ask(sock, b"in") == b"in"
    flood = [client(world.port) for _ in range(300)]
    for sock in flood:
        sock.send(b"out")
    assert ask(held[0], b"still") == b"still"
    assert all(is_silent(sock) for sock in flood)
    assert sockets_of(worker) <= before + 20
    # Another IP address has its own share, up to the limit of all.
    others = []
    for number in range(12):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.9", 0))
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", world.port))
        others.append(sock)
        sock.send(b"%d" % number)
    assert [sock.recv(9) for sock in others[:10]] == [b"%d" % number for number in range(10)]
    assert ask(held[1], b"still") == b"still"
    assert eventually(lambda: world.stats()["connection_active"] == 0)
    stats = world.stats()
    assert (stats["udp_dropped_too_many_of_client"], stats["udp_dropped_too_many_sessions"]) == (300, 2)
    assert stats["connection_refused"] == 302
    assert eventually(lambda: sockets_of(worker) == before)
    assert ask(flood[0], b"now") == b"now"


def test_what_arrives_while_a_worker_is_replaced_is_forwarded_by_its_successor(
    start: Start, serve: Callable[..., Echo]
) -> None:
    world = UdpWorld(serve().port, workers=2)
    proxy = start(world.config)
    proxy.wait_for(READY)
    clients = [client(world.port) for _ in range(20)]
    assert all(ask(sock, b"before") == b"before" for sock in clients)
    killed = proxy.worker_pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not any(is_alive(pid) for pid in killed))
    for sock in clients:
        sock.send(b"meanwhile")
    assert [sock.recv(100) for sock in clients] == [b"meanwhile"] * 20


def test_listeners_come_go_and_change_without_losing_a_datagram(
    start: Start, serve: Callable[..., Echo], tmp_path: Path
) -> None:
    first, second = serve(lambda data: b"1" + data), serve(lambda data: b"2" + data)
    world = UdpWorld(first.port, workers=2)
    proxy = start(world.config)
    proxy.wait_for(READY)
    lasting = client(world.port)
    lost: list[bytes] = []
    is_over = threading.Event()

    def load() -> None:
        with client(world.port) as sock:
            number = 0
            while not is_over.is_set():
                number += 1
                data = b"%d" % number
                if ask(sock, data)[1:] != data:
                    lost.append(data)

    loads = [threading.Thread(target=load) for _ in range(4)]
    for thread in loads:
        thread.start()
    assert ask(lasting, b"x") == b"1x"
    # Another one.
    (other_port,) = free_ports(1)
    other = {**json.loads(json.dumps(world.listener)), "name": "other", "address": f"127.0.0.1:{other_port}"}
    world.server["listeners"].append(other)
    assert world.reload(proxy, tmp_path)["applied"]
    guest = client(other_port)
    assert ask(guest, b"x") == b"1x"
    # The first one gets another name, which takes its socket over.
    world.listener["name"] = "renamed"
    assert world.reload(proxy, tmp_path)["applied"]
    assert ask(lasting, b"x") == b"1x"
    assert eventually(lambda: world.stats("renamed")["connection_active"] >= 5)
    # The host is replaced: sessions do not stay with one that is gone.
    world.cluster["hosts"] = [{"address": f"127.0.0.1:{second.port}"}]
    assert world.reload(proxy, tmp_path)["applied"]
    assert ask(lasting, b"x") == b"2x"
    # The other one goes.
    world.server["listeners"].remove(other)
    assert world.reload(proxy, tmp_path)["applied"]
    is_over.set()
    for thread in loads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert lost == []
    with client(other_port) as stranger:
        stranger.settimeout(PATIENCE)

        def is_refused() -> bool:
            try:
                stranger.send(b"x")
                stranger.recv(10)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
            return False

        stranger.settimeout(0.1)
        assert eventually(is_refused)
    assert ask(lasting, b"x") == b"2x"


def test_tcp_and_udp_share_a_port_and_sessions_end_with_the_program(start: Start, serve: Callable[..., Echo]) -> None:
    world = UdpWorld(serve().port)
    world.server["graceful_timeout"] = "60s"
    world.listener["connection_idle_timeout"] = "1s"
    tcp = {**world.listener, "name": "tcp", "network": "tcp"}
    tcp["filter_chains"] = [{"filters": [{"type": "tcp_proxy", "config": {"cluster": "serverCluster"}}]}]
    world.server["listeners"].append(tcp)
    proxy = start(world.config)
    proxy.wait_for(READY)
    with socket.socket() as tcp_client:
        tcp_client.settimeout(PATIENCE)
        # The host has no TCP port, so the connection is reset after it was accepted, perhaps before `connect` returns.
        assert tcp_client.connect_ex(("127.0.0.1", world.port)) in (0, errno.ECONNRESET)
    sock = client(world.port)
    assert ask(sock, b"x") == b"x"
    proxy.send(signal.SIGTERM)
    proxy.wait_for("draining")
    with client(world.port) as late:
        late.send(b"late")
    assert proxy.exit_code() == 0  # the session has become idle
    assert "graceful timeout expired" not in proxy.output
    assert any(line.startswith("LOG udp 1 1") and line.endswith("idle_timeout") for line in proxy.lines)


def spoofed(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram from an address that the sender does not have."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_forged_sources_start_no_loop(start: Start, serve: Callable[..., Echo]) -> None:
    server = serve()
    world = UdpWorld(server.port)
    (second,) = free_ports(1)
    world.server["listeners"].append({**world.listener, "name": "second", "address": f"127.0.0.1:{second}"})
    start(world.config).wait_for(READY)
    here = ("127.0.0.1", world.port)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for source in (("127.0.0.1", 0), here, ("127.0.0.1", second), ("127.0.0.1", server.port)):
            raw.sendto(spoofed(source, here, b"forged"), here)
    assert ask(client(world.port), b"real") == b"real"
    assert eventually(lambda: world.stats()["udp_dropped_loop"] == 1)
    stats = world.stats()
    assert (stats["udp_dropped_bad_source"], stats["udp_dropped_own_address"]) == (1, 2)
    assert len(server.sources) == 1  # nothing of it has reached the host


def test_a_host_cannot_answer_with_more_than_the_ratio(start: Start, serve: Callable[..., Echo]) -> None:
    world = UdpWorld(serve(lambda data: data * 5 if data == b"many" else data * 3).port, max_reply_ratio=3)
    start(world.config).wait_for(READY)
    sock = client(world.port)
    assert ask(sock, b"x") == b"xxx"
    sock.send(b"many")
    assert eventually(lambda: world.stats().get("udp_dropped_reply_ratio") == 1)
    assert ask(sock, b"y") == b"yyy"


@pytest.mark.skipif(which("dig") is None, reason="dig is not installed")
def test_dns_behind_it(start: Start, serve: Callable[..., Echo]) -> None:
    def answer(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        name = query.question[0].name
        count = 40 if str(name).startswith("big") else 1
        reply.answer.append(dns.rrset.from_text_list(name, 60, "IN", "TXT", [f"{i:03}" + "t" * 80 for i in range(count)]))
        return reply.to_wire(max_size=65535)

    world = UdpWorld(serve(answer).port, serve(answer).port, workers=2)
    start(world.config).wait_for(READY)

    def dig(name: str) -> list[str]:
        command = ["dig", "@127.0.0.1", "-p", str(world.port), "+notcp", "+ignore", "+bufsize=8192", "+short"]
        command += ["+tries=1", f"+time={int(PATIENCE)}", name, "TXT"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True)
        return found.stdout.split()

    assert dig("small.test") == ['"000' + "t" * 80 + '"']
    assert len(dig("big.test")) == 40
    clients = [client(world.port) for _ in range(100)]
    queries = [dns.message.make_query(f"small{i}.test", "TXT") for i in range(100)]
    for sock, query in zip(clients, queries, strict=True):
        sock.send(query.to_wire())
    for sock, query in zip(clients, queries, strict=True):
        assert query.is_response(dns.message.from_wire(sock.recv(70000)))
