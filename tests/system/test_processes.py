"""The supervisor and its workers as real processes."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plain_sockets import PATIENCE, accepts
from process_fixtures import Start
from pymosn_process import READY, Stopwatch, TwoHops, Upstream, eventually, get, has_open, is_alive

pytestmark = pytest.mark.once


def test_it_serves_through_both_hops_and_sigterm_ends_it(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert two_hops.get("/a") == (200, "hello from upstream, /a\n")
    assert two_hops.admin("/api/v1/states") == f"pid={proxy.process.pid}&state=6\n"
    assert len(proxy.worker_pids()) == 2
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert proxy.worker_pids() == []


def test_the_pid_file_is_there_while_it_runs(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for("admin API on")
    assert (tmp_path / "logs" / "mosn.pid").read_text() == f"{proxy.process.pid}\n"
    proxy.send(signal.SIGINT)
    assert proxy.exit_code() == 0
    assert not (tmp_path / "logs" / "mosn.pid").exists()


def test_a_killed_worker_is_replaced_within_a_second_and_the_other_serves_on(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    victim, other = proxy.worker_pids()
    watch = Stopwatch([proxy.process.pid])
    os.kill(victim, signal.SIGKILL)
    match = proxy.wait_for(rf"worker \d \(pid {victim}\) was killed by SIGKILL; replaced by pid (\d+)")
    assert watch.seconds() < 1.0
    proxy.wait_for(rf"worker \d \(pid {match[1]}\) is ready")
    assert proxy.worker_pids() == sorted([other, int(match[1])])
    # The kernel spreads connections over both workers; each of these is a new one.
    assert [two_hops.get()[0] for _ in range(20)] == [200] * 20


def test_connections_that_wait_while_a_worker_is_replaced_are_not_lost(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for(READY)
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    assert [two_hops.get()[0] for _ in range(5)] == [200] * 5


def test_sigterm_lets_what_is_in_flight_finish_and_refuses_what_is_new(
    start: Start, two_hops: TwoHops, upstream: Upstream
) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    proxy.send(signal.SIGTERM)
    proxy.wait_for("draining")
    assert eventually(lambda: not accepts(two_hops.client_port))
    assert two_hops.admin("/api/v1/states").endswith("state=8\n")
    upstream.gate.set()
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"hello from upstream, /slow\n")
    assert response.headers["connection"] == "close"
    assert proxy.exit_code() == 0
    connection.close()


def test_an_idle_connection_does_not_hold_up_the_end(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0  # long before the graceful timeout
    connection.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_now(start: Start, two_hops: TwoHops, upstream: Upstream, second: signal.Signals) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    proxy.send(signal.SIGTERM)
    proxy.wait_for("draining")
    proxy.send(second)
    assert proxy.exit_code() == 0
    connection.close()


def test_the_graceful_timeout_bounds_the_drain(start: Start, two_hops: TwoHops, upstream: Upstream) -> None:
    two_hops.server["graceful_timeout"] = "300ms"
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert "graceful timeout expired" in proxy.output
    connection.close()


def test_workers_end_with_their_supervisor(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    workers = proxy.worker_pids()
    proxy.send(signal.SIGKILL)
    proxy.exit_code()
    assert eventually(lambda: not any(is_alive(pid) for pid in workers))


def test_signals_to_a_worker_are_the_supervisors_business(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    workers = proxy.worker_pids()
    for pid in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
    assert two_hops.get()[0] == 200
    assert proxy.worker_pids() == workers


def test_sigusr1_opens_the_log_anew_in_every_process(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    log, moved = tmp_path / "mosn.log", tmp_path / "mosn.log.1"
    two_hops.server["default_log_path"] = str(log)
    two_hops.server["listeners"][0]["access_logs"] = [{"log_path": str(tmp_path / "access.log")}]
    proxy = start(two_hops.config)
    assert eventually(lambda: log.exists() and "ready:" in log.read_text())
    assert two_hops.get("/before")[0] == 200
    access = tmp_path / "access.log"
    assert eventually(lambda: access.exists() and access.read_text().count("\n") == 1)
    log.rename(moved)
    access.rename(access.with_suffix(".log.1"))
    proxy.send(signal.SIGUSR1)
    # Each process opens them anew when it gets to it; a request before that would be in the old file.
    everyone = [proxy.process.pid, *proxy.worker_pids()]
    old = (moved, access.with_suffix(".log.1"))
    assert eventually(lambda: not any(has_open(pid, path) for pid in everyone for path in old))
    assert two_hops.get("/after")[0] == 200
    assert eventually(lambda: access.read_text().count("\n") == 1)
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert "stopped" in log.read_text()


def test_every_fault_of_a_bad_configuration_is_told_and_nothing_runs(start: Start, two_hops: TwoHops) -> None:
    two_hops.server["listeners"][0]["address"] = "nowhere"
    two_hops.config["cluster_manager"]["clusters"][1]["max_request_per_conn"] = "many"
    two_hops.server["graceful_timeout"] = "5"
    proxy = start(two_hops.config)
    assert proxy.exit_code() == 1
    errors = [line for line in proxy.lines if ": error: " in line]
    assert len(errors) == 3
    assert any("servers[0].listeners[0].address" in line for line in errors)


def test_a_filter_that_does_not_load_is_a_bad_configuration(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "broken.py").write_text("import no_such_module\n")
    two_hops.server["listeners"][0]["stream_filters"] = [
        {"type": "python", "config": {"path": "broken.py", "class": "Tenant"}}
    ]
    proxy = start(two_hops.config)
    assert proxy.exit_code() == 1
    assert "no_such_module" in proxy.output
    assert proxy.output.count(": error: ") == 1
    assert not accepts(two_hops.client_port)


def test_all_taken_addresses_are_named_and_nothing_is_left_listening(start: Start, two_hops: TwoHops) -> None:
    with socket.create_server(("127.0.0.1", two_hops.server_port)), socket.create_server(("127.0.0.1", two_hops.admin_port)):
        proxy = start(two_hops.config)
        assert proxy.exit_code() == 1
    assert f"listener serverListener: cannot listen on 127.0.0.1:{two_hops.server_port}" in proxy.output
    assert f"admin: cannot listen on 127.0.0.1:{two_hops.admin_port}" in proxy.output
    assert not accepts(two_hops.client_port)


def test_a_second_pymosn_on_the_same_ports_is_refused(start: Start, two_hops: TwoHops) -> None:
    start(two_hops.config).wait_for(READY)
    assert start(two_hops.config).exit_code() == 1


def test_counters_survive_the_worker_that_counted_them(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    for _ in range(6):
        two_hops.get()
    before = two_hops.admin("/api/v1/stats")
    assert '"request_total": "6"' in before
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("replaced by pid")
    assert '"request_total": "6"' in two_hops.admin("/api/v1/stats")


def test_requests_while_a_worker_dies_fail_only_on_that_worker(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    failed: list[str] = []
    answered: list[int] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                answered.append(two_hops.get()[0])
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    assert eventually(lambda: len(answered) > 100)
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("replaced by pid")
    count = len(answered)
    assert eventually(lambda: len(answered) > count + 200)
    stop.set()
    for thread in clients:
        thread.join()
    # At most one request of each client can have been in flight on the killed worker.
    assert len(failed) + sum(status != 200 for status in answered) <= len(clients)


def test_the_built_in_example(start: Start, tmp_path: Path) -> None:
    if any(accepts(port) for port in (2045, 2046, 8080, 34901)):
        pytest.skip("a port of the example is taken on this machine")
    proxy = start(None)
    proxy.wait_for("Ctrl-C stops it")
    assert not (tmp_path / "logs").exists()
    assert get(2045, "/hello")[0] == 200
    assert get(2046, "/hello")[0] == 200
    proxy.send(signal.SIGINT)
    assert proxy.exit_code() == 0


def test_a_worker_loads_nothing_that_only_the_supervisor_needs() -> None:
    code = "import sys, pymosn.server.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"starlette", "uvicorn", "click", "rich", "prometheus_client", "yaml", "h11"}
    assert unwanted.isdisjoint(loaded)
