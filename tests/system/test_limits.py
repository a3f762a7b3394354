"""Slow peers, too many peers and too little of everything, met by the real program. `docs/limits.md` has all of it."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from gateway import Gateway
from plain_sockets import PATIENCE, read_until, rejection
from process_fixtures import Start, build_shim
from pymosn_process import READY, Upstream, eventually, get

pytestmark = pytest.mark.once

REQUEST = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def gateway(upstream: Upstream, tmp_path: Path) -> Gateway:
    return Gateway(upstream.port, tmp_path)


@pytest.fixture
def keep() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def read_all(sock: socket.socket) -> bytes:
    """Everything until the peer closes or resets."""
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def exchange(sock: socket.socket, number: int) -> bytes:
    sock.sendall(REQUEST % number)
    return read_until(sock, b"upstream, /%d\n" % number)


def test_each_kind_of_slowness_has_its_limit(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    gateway.listener["connection_idle_timeout"] = "2s"
    settings = {"header_timeout": "1s", "body_timeout": "1s", "body_min_rate": 1000}
    gateway.proxy["extend_config"] = settings
    proxy = start(gateway.config)
    proxy.wait_for(READY)
    silent, half, drips, slow_post, idle = (keep.enter_context(gateway.connect()) for _ in range(5))
    half.sendall(b"GET /half HTTP/1.1\r\nHos")
    slow_post.sendall(b"POST /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234")
    drips.sendall(b"POST /drips HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n1234")
    exchange(idle, 1)
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        try:
            drips.sendall(b"x")
        except OSError:
            break
        if len(gateway.log()) >= 4:
            break
        time.sleep(0.1)
    assert read_all(half).startswith(b"HTTP/1.1 408 ")
    assert read_all(slow_post).startswith(b"HTTP/1.1 408 ")
    assert read_all(drips).startswith(b"HTTP/1.1 408 ")
    assert read_all(silent) == read_all(idle) == b""
    assert time.monotonic() - began < PATIENCE, "by default each of them has a minute or more"
    lines = ("- 200 /1", "body_too_slow 408 /drips", "request_timeout 408 /half", "request_timeout 408 /silent")
    assert gateway.logs_in_any_order(*lines)
    assert get(gateway.client_port, "/others")[0] == 200
    stats = gateway.stats("downstream", "listener.clientListener")
    assert (stats["reason_body_too_slow"], stats["reason_request_timeout"]) == (1, 2)


def test_a_client_that_does_not_read_is_cut(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    server = keep.enter_context(socket.create_server(("127.0.0.1", 0)))
    gateway.config["cluster_manager"]["clusters"][1]["hosts"][0]["address"] = f"127.0.0.1:{server.getsockname()[1]}"
    gateway.listener["write_timeout"] = "500ms"
    proxy = start(gateway.config)
    proxy.wait_for(READY)
    client = keep.enter_context(gateway.connect(4096))
    client.sendall(REQUEST % 1)
    upstream = keep.enter_context(server.accept()[0])
    upstream.settimeout(PATIENCE)
    upstream.recv(4096)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    with pytest.raises(ConnectionError):
        upstream.sendall(bytes(100_000_000))
    assert gateway.logs("client_write_timeout 200 /1")
    assert eventually(lambda: gateway.stats("downstream", "listener.clientListener")["connection_active"] == 0)


def test_connections_over_the_cap(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    gateway.listener["max_connections"] = 3
    proxy = start(gateway.config)
    proxy.wait_for(READY)
    held = [keep.enter_context(gateway.connect()) for _ in range(3)]
    for number, sock in enumerate(held):
        exchange(sock, number)
    assert rejection(gateway.client_port)
    assert gateway.logs("- 200 /0", "- 200 /1", "- 200 /2", "listener_full 0 -")
    held[0].close()
    assert eventually(lambda: gateway.stats("downstream", "listener.clientListener")["connection_active"] == 2)
    exchange(keep.enter_context(gateway.connect()), 7)
    stats = gateway.stats("downstream", "listener.clientListener")
    assert (stats["connection_refused"], stats["reason_listener_full"], stats["connection_active"]) == (1, 1, 3)


def test_tls_on_a_plain_port_is_one_line(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    proxy = start(gateway.config)
    proxy.wait_for(READY)
    tls = keep.enter_context(gateway.connect())
    tls.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert read_all(tls).startswith(b"HTTP/1.1 400 ")
    assert gateway.logs("bad_request 400 -")


def cpu_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_accepting_pauses_when_descriptors_run_out(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    proxy = start(gateway.config, before="ulimit -n 128")
    proxy.wait_for(READY)
    (worker,) = proxy.worker_pids()
    clients = [keep.enter_context(gateway.connect()) for _ in range(150)]
    proxy.wait_for("descriptors for clients are in use: pausing accept")
    began, cpu = time.monotonic(), cpu_time(worker)
    for number in range(20):
        assert exchange(clients[number], number).startswith(b"HTTP/1.1 200 "), "there are descriptors for upstreams"
    time.sleep(1.0)
    assert cpu_time(worker) - cpu < 0.5, "it spins"
    waiting = clients[149]
    waiting.sendall(REQUEST % 149)
    waiting.settimeout(0.2)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    seconds = time.monotonic() - began
    lines = [line for line in proxy.lines if "pausing accept" in line]
    assert len(lines) <= seconds + 3
    for client in clients[:100]:
        client.close()
    waiting.settimeout(PATIENCE)
    assert read_until(waiting, b"/149\n").startswith(b"HTTP/1.1 200 ")
    assert get(gateway.client_port, "/after")[0] == 200
    assert eventually(lambda: gateway.stats("worker", "worker.all")["accept_pauses"] >= 1)
    assert proxy.worker_pids() == [worker]


@pytest.fixture(scope="module")
def failing_accept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that, preloaded, lets the kernel seem to have no more sockets."""
    return build_shim(tmp_path_factory, "failing_accept")


@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accepting_pauses_when_the_kernel_gives_no_socket(
    start: Start, gateway: Gateway, keep: ExitStack, tmp_path: Path, failing_accept: str, error: int
) -> None:
    switch = tmp_path / "no-sockets"
    proxy = start(gateway.config, LD_PRELOAD=failing_accept, FAIL_WHILE=str(switch), FAIL_ERRNO=str(error))
    proxy.wait_for(READY)
    (worker,) = proxy.worker_pids()
    known = keep.enter_context(gateway.connect())
    assert exchange(known, 1).startswith(b"HTTP/1.1 200 ")
    switch.touch()
    proxy.wait_for(f"{os.strerror(error)}: pausing accept")
    waiting = keep.enter_context(gateway.connect())
    waiting.sendall(REQUEST % 2)
    cpu = cpu_time(worker)
    assert exchange(known, 3).startswith(b"HTTP/1.1 200 "), "who is connected is served"
    time.sleep(1.0)
    assert cpu_time(worker) - cpu < 0.3, "it spins"
    switch.unlink()
    assert read_until(waiting, b"/2\n").startswith(b"HTTP/1.1 200 ")
    assert get(gateway.client_port, "/after")[0] == 200
    assert proxy.worker_pids() == [worker]


def test_the_memory_ladder(start: Start, gateway: Gateway, keep: ExitStack) -> None:
    overload = {"memory_limit": 1 << 30, "stop_keep_alive": 0.001, "shed": 1.0, "stop_accept": 1.0}
    gateway.server["overload"] = overload
    proxy = start(gateway.config)
    proxy.wait_for("disabling keep-alive")
    proxy.wait_for(READY)
    first = keep.enter_context(gateway.connect())
    first.sendall(REQUEST % 1)
    assert b"connection: close" in read_all(first)
    overload["shed"] = 0.002
    gateway.reload(proxy)
    proxy.wait_for("rejecting requests with 503")
    second = keep.enter_context(gateway.connect())
    second.sendall(REQUEST % 2)
    reply = read_all(second)
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in reply
    overload["stop_accept"] = 0.003
    gateway.reload(proxy)
    proxy.wait_for("no longer accepting connections")
    third = keep.enter_context(gateway.connect())
    third.sendall(REQUEST % 3)
    third.settimeout(0.3)
    with pytest.raises(TimeoutError):
        third.recv(1)
    stats = gateway.stats("worker", "worker.all")
    assert stats["overload_stop_accept"] == stats["overload_shed"] == stats["overload_no_keep_alive"] == 1
    overload["memory_limit"] = -1
    gateway.reload(proxy)
    proxy.wait_for("normal operation resumed")
    third.settimeout(PATIENCE)
    assert read_until(third, b"/3\n").startswith(b"HTTP/1.1 200 ")
    assert gateway.logs("- 200 /1", "overloaded 503 /2", "- 200 /3")
