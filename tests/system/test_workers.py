"""Workers that hang, die, start slowly or are broken from within, and what a client of the program sees of that."""

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_sockets import PATIENCE, accepts
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually, free_ports, get

pytestmark = pytest.mark.once

FILTERS = """
import asyncio, gc, os, pathlib, socket, time
from pymosn.api import ClientError, Reply, StreamFilter

HERE = pathlib.Path(__file__).parent

async def nothing():
    while True:
        yield b""

async def little():
    while True:
        yield b"x"

def plain_nothing():
    while True:
        yield b""

def shut():
    for thing in gc.get_objects():
        if type(thing).__name__ == "socket" and thing.fileno() >= 0 and thing.family == socket.AF_INET:
            if thing.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                thing.shutdown(socket.SHUT_RDWR)

def close_descriptors():
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            found = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        with found:
            if found.family == socket.AF_INET and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                os.close(number)

hoarded = []

def hoard():
    try:
        while True:
            hoarded.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass

class Breaks(StreamFilter):
    async def start(self):
        if (HERE / "exits").exists():
            os._exit(3)
        if (HERE / "sleeps").exists():
            time.sleep(12)
        while (HERE / "waits").exists():
            await asyncio.sleep(0.01)

    def on_request(self, exchange):
        loop = asyncio.get_running_loop()
        path = exchange.request.path
        if path == "/hang":
            (HERE / "hung").touch()
            time.sleep(12)
        if path == "/call_soon":
            loop.call_soon = lambda *args, **keywords: None
        if path == "/create_task":
            loop.create_task = lambda work, **keywords: work.close()
        if path == "/shut":
            shut()
        if path == "/close":
            close_descriptors()
        if path == "/hoard":
            hoard()
        streams = {"/nothing": nothing, "/little": little, "/plain-nothing": plain_nothing}
        if path in streams:
            return Reply(200, streams[path]())
        if path in ("/read", "/ask"):
            return self.loop_over(path, exchange)
        return Reply(200, str(os.getpid()))

    async def loop_over(self, path, exchange):
        while True:
            if path == "/read":
                await exchange.request.read()
                continue
            try:
                await self.clusters["empty"].get("/")
            except ClientError:
                pass
"""


def broken(hops: TwoHops, folder: Path) -> TwoHops:
    """The example with the filter on both of its listeners, and a cluster without hosts."""
    (folder / "conf").mkdir()
    (folder / "conf" / "breaks.py").write_text(FILTERS)
    for listener in hops.server["listeners"]:
        listener["stream_filters"] = [{"type": "python", "config": {"path": "breaks.py", "class": "Breaks"}}]
    empty = {"name": "empty", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": []}
    hops.config["cluster_manager"]["clusters"].append(empty)
    hops.server["watch_filters"] = False
    hops.server["worker_hang_limit"] = "100s"
    return hops


@pytest.fixture
def hops(two_hops: TwoHops, tmp_path: Path) -> TwoHops:
    return broken(two_hops, tmp_path)


def mark(folder: Path, name: str) -> Path:
    path = folder / "conf" / name
    path.touch()
    return path


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def worst(port: int, count: int = 30) -> float:
    """The longest of so many fresh connections, from connecting to the answer; seconds."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        assert get(port, "/pid")[0] == 200
        times.append(time.perf_counter() - began)
    return max(times)


def ask_in_vain(port: int, path: str) -> socket.socket:
    """A connection that has sent a request without waiting for the answer."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
    return client


# ---- hung, stopped, dead, starting


def stops(proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
    os.kill(proxy.worker_pids()[0], signal.SIGSTOP)


def hangs(proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
    ask_in_vain(hops.client_port, "/hang")
    # What comes before that may have been accepted already.
    assert eventually((folder / "conf" / "hung").exists)


def keeps_crashing(proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
    mark(folder, "exits")
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("keeps crashing")


def hangs_at_start(proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
    mark(folder, "sleeps")
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("replaced by pid")


def waits_at_start(proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
    mark(folder, "waits")
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("replaced by pid")


KINDS = [stops, hangs, keeps_crashing, hangs_at_start, waits_at_start]


@pytest.mark.parametrize("happens", KINDS)
def test_new_connections_do_not_wait_for_a_worker_that_is_not_there(
    start: Start, hops: TwoHops, tmp_path: Path, happens: Callable[[Pymosn, TwoHops, Path], None]
) -> None:
    tcp_port = free_ports(1)[0]
    tcp = {"type": "tcp_proxy", "config": {"cluster": "client"}}
    listener = {"name": "tcp", "address": f"127.0.0.1:{tcp_port}", "bind_port": True, "filter_chains": [{"filters": [tcp]}]}
    hops.server["listeners"].append(listener)
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for(READY)
    ports = (hops.client_port, tcp_port)
    control = max(worst(port) for port in ports)
    happens(proxy, hops, tmp_path)
    # It would be seconds: the hang limit, or the delay before a restart.
    assert max(worst(port) for port in ports) < 1.0 + 10 * control
    counters = hops.admin("/api/v1/stats")
    assert '"connections_taken_over": "0"' not in counters
    assert '"connections_lost": "0"' in counters


def test_what_a_worker_without_descriptors_cannot_accept_goes_to_the_others(start: Start, hops: TwoHops) -> None:
    hops.server["worker_hang_limit"] = "4s"
    proxy = start(hops.config, "--workers", "2", before="ulimit -n 256")
    proxy.wait_for("admin API on")
    workers = proxy.worker_pids()
    assert get(hops.client_port, "/hoard")[0] == 200
    proxy.wait_for("Too many open files: pausing accept")
    # What the pause itself frees is not for clients: it does not accept again.
    assert worst(hops.client_port, 200) < PATIENCE
    assert eventually(lambda: len([line for line in proxy.lines if "pausing accept" in line]) >= 6)
    assert worst(hops.client_port) < PATIENCE
    assert '"accept_pauses": "1"' in hops.admin("/api/v1/stats")
    assert proxy.worker_pids() == workers


def test_a_replacement_that_is_not_ready_in_time_is_replaced_again(start: Start, hops: TwoHops, tmp_path: Path) -> None:
    hops.server["worker_start_limit"] = "4s"
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for(READY)
    marked = mark(tmp_path, "sleeps")
    victim = proxy.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    line = proxy.wait_for(r"worker (\d) \(pid \d+\) was not ready within 4 s; killing it, last at: .*breaks.py:\d+ in start")
    marked.unlink()
    proxy.wait_for(rf"worker {line[1]} \(pid \d+\) is ready")
    assert worst(hops.client_port) < PATIENCE


def test_a_single_stopped_worker_keeps_its_queue(start: Start, hops: TwoHops) -> None:
    proxy = start(hops.config, "--workers", "1")
    proxy.wait_for(READY)
    (worker,) = proxy.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    clients = [ask_in_vain(hops.client_port, "/pid") for _ in range(5)]
    os.kill(worker, signal.SIGCONT)
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 200"
        client.close()


def test_a_stopped_worker_does_not_hold_up_a_unix_listener(start: Start, hops: TwoHops, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    hops.server["listeners"][0] |= {"network": "unix", "address": path}
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for(READY)
    os.kill(proxy.worker_pids()[0], signal.SIGSTOP)
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"GET /pid HTTP/1.1\r\nhost: h\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"


# ---- starting, and adding listeners


def test_nothing_listens_before_all_workers_can_serve(start: Start, hops: TwoHops, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir(exist_ok=True)
    marked = mark(tmp_path, "waits")
    proxy = start(hops.config, "--workers", "2")
    assert eventually(lambda: len(proxy.worker_pids()) == 2)
    ports = (hops.client_port, hops.server_port, hops.admin_port)
    for _ in range(20):
        assert all(refuses(port) for port in ports)
    # The addresses are taken already: a second one is told so, all at once.
    other = start(hops.config, "--workers", "2")
    assert other.exit_code() == 1
    assert other.output.count("the address is in use by another process") == 3
    assert all(refuses(port) for port in ports)
    marked.unlink()
    proxy.wait_for("admin API on")
    assert get(hops.client_port, "/")[0] == get(hops.server_port, "/")[0] == 200
    assert hops.admin("/api/v1/states").endswith("state=6\n")


def test_a_stop_while_the_workers_start_answers_nothing(start: Start, hops: TwoHops, tmp_path: Path) -> None:
    mark(tmp_path, "waits")
    proxy = start(hops.config, "--workers", "2")
    assert eventually(lambda: len(proxy.worker_pids()) == 2)
    proxy.send(signal.SIGTERM)
    while proxy.process.poll() is None:
        assert refuses(hops.client_port)
    assert proxy.exit_code() == 1  # it has not served, as in MOSN


def test_an_interrupt_while_the_command_is_imported_shows_no_traceback(hops: TwoHops, tmp_path: Path) -> None:
    start_config(tmp_path, hops)
    command = [sys.executable, "-X", "importtime", "-m", "pymosn", "start", "-c", str(tmp_path / "conf" / "mosn.json")]
    for module in ("asyncio", "click", "msgspec"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = ""
            while not re.search(rf"\| +{module}$", said):
                line = process.stderr.readline()
                assert line, "it has ended"
                said = line.rstrip()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(PATIENCE) == -signal.SIGINT
            assert "Traceback" not in rest


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_no_client_of_a_short_run_gets_an_error_for_an_existing_route(
    start: Start, hops: TwoHops, ends: signal.Signals
) -> None:
    statuses: set[int] = set()
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                statuses.add(get(hops.client_port, "/pid")[0])
            over.wait(0.005)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    for _ in range(2):
        statuses.clear()
        proxy = start(hops.config, "--workers", "2")
        assert eventually(lambda: bool(statuses))
        proxy.send(ends)
        proxy.send(ends)
        proxy.exit_code()
        assert statuses == {200}
    over.set()
    for thread in clients:
        thread.join()


@pytest.mark.parametrize("network", ["tcp", "unix"])
def test_a_new_listener_refuses_until_the_change_is_active(
    start: Start, hops: TwoHops, tmp_path: Path, network: str
) -> None:
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for("admin API on")
    marked = mark(tmp_path, "waits")
    port, path = free_ports(1)[0], str(tmp_path / "new")
    family, address = (socket.AF_INET, ("127.0.0.1", port)) if network == "tcp" else (socket.AF_UNIX, path)
    chain = [{"type": "python", "config": {"path": "breaks.py", "class": "Breaks", "config": {"new": True}}}]
    where = f"127.0.0.1:{port}" if network == "tcp" else path
    first = hops.server["listeners"][0]
    hops.server["listeners"].append({**first, "name": "new", "network": network, "address": where, "stream_filters": chain})

    def connects() -> int:
        with socket.socket(family) as client:
            return client.connect_ex(address)

    def bound() -> bool:
        table = "/proc/net/unix" if network == "unix" else f"/proc/{proxy.process.pid}/fd"
        if network == "unix":
            return path in Path(table).read_text()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError:
                return True
            return False

    start_config(tmp_path, hops)
    proxy.send(signal.SIGHUP)
    assert eventually(bound)
    for _ in range(50):
        assert connects() in (errno.ECONNREFUSED, errno.ENOENT)
    marked.unlink()
    proxy.wait_for("version 2 is active")
    assert eventually(lambda: connects() == 0)


def start_config(folder: Path, hops: TwoHops) -> None:
    (folder / "conf" / "mosn.json").write_text(json.dumps(hops.config))


# ---- broken from within


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/call_soon", "new connections are not served"),
        ("/create_task", "new connections are not served"),
        ("/close", "its socket was closed|accepts no connections"),
        ("/shut", "its socket no longer listens"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_beats_but_serves_nothing_is_replaced(
    start: Start, hops: TwoHops, path: str, said: str, workers: int
) -> None:
    hops.server["worker_hang_limit"] = "3s"
    proxy = start(hops.config, "--workers", str(workers))
    proxy.wait_for(READY)
    victim = ask_in_vain(hops.client_port, path)
    line = proxy.wait_for(rf"worker \d \(pid (\d+)\) (?:responds, but .*(?:{said})|has not responded for 3 s).*killing it")
    proxy.wait_for(r"replaced by pid \d+")
    proxy.wait_for(r"worker \d \(pid \d+\) is ready")
    victim.close()
    assert int(line[1]) not in proxy.worker_pids()
    assert worst(hops.client_port) < PATIENCE
    assert accepts(hops.server_port)


def test_probes_are_no_traffic_and_healthy_workers_stay(start: Start, hops: TwoHops) -> None:
    hops.server["worker_hang_limit"] = "2s"
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for("admin API on")
    workers = proxy.worker_pids()
    until = time.monotonic() + 5.0
    assert eventually(lambda: time.monotonic() > until)
    assert proxy.worker_pids() == workers
    counters = hops.admin("/api/v1/stats")
    assert '"probe' not in counters
    assert all(f'"{name}": "0"' in counters for name in ("connection_total", "connections"))
    assert "[ERROR]" not in proxy.output


# ---- replies and filters that never wait


@pytest.mark.parametrize("path", ["/nothing", "/little", "/plain-nothing", "/read", "/ask"])
def test_a_filter_that_awaits_without_waiting_does_not_starve_others(start: Start, hops: TwoHops, path: str) -> None:
    proxy = start(hops.config, "--workers", "1")
    proxy.wait_for(READY)
    greedy = ask_in_vain(hops.client_port, path)
    drain = threading.Thread(target=read_on, args=(greedy,), daemon=True)
    drain.start()
    for _ in range(5):
        assert get(hops.client_port, "/pid")[0] == 200
    greedy.shutdown(socket.SHUT_RDWR)
    greedy.close()
    assert "event loop blocked" not in proxy.output


def read_on(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass
