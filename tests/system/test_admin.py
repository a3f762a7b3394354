"""The admin API of the real program: who may change it, and that nobody can lock others out."""

import copy
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, Upstream, eventually, get, is_alive
from tests.kit.unix_http import UnixHttp

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

TOKEN = "a-token-of-the-tests-0123456789"


def tcp(port: int, method: str, path: str, body: bytes = b"", host: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    """One request to the port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body or None, {"host": host, **headers})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def command(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    whole = [sys.executable, "-m", "pymosn", *arguments, "-c", str(tmp_path / "conf" / "mosn.json")]
    environment = worker_environment(os.environ)
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def serving(start: Start, hops: TwoHops, **admin: Any) -> Pymosn:
    hops.config["admin"].update(admin)
    proxy = start(hops.config, "--workers", "1")
    proxy.admin_socket  # noqa: B018  # returns when it is served
    return proxy


def with_access_log(hops: TwoHops, path: Path) -> dict[str, Any]:
    """The update that makes requests write Python into a file."""
    listener = copy.deepcopy(hops.server["listeners"][0])
    listener["access_logs"] = [{"log_path": str(path), "log_format": "%REQ.code%"}]
    return {"type": "listener", "config": listener}


# ---- who may change what


def test_nobody_who_reaches_the_port_runs_code(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = serving(start, two_hops)
    written, ran = tmp_path / "written.py", tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')"
    listener = copy.deepcopy(two_hops.server["listeners"][0])
    listener["stream_filters"] = [{"type": "python", "config": {"path": str(written), "class": "X"}}]
    updates = [with_access_log(two_hops, written), {"type": "listener", "config": listener}]
    for update in updates:
        for path in ("/api/v1/update_config", "/debug/update_config"):
            status, text = tcp(two_hops.admin_port, "POST", path, json.dumps(update).encode())
            assert (status, "only reads" in text) == (403, True)
        tcp(two_hops.client_port, "GET", "/", code=code)
    assert not written.exists()
    assert not ran.exists()
    assert json.loads(two_hops.admin("/api/v1/last_change"))["attempt"] == 0
    # The log calls that stay open cannot name another file either.
    assert tcp(two_hops.admin_port, "POST", "/api/v1/enable_log", str(written).encode())[0] == 400
    assert not written.exists()
    assert proxy.post("/api/v1/reload_filters")[0] == 200


def test_the_socket_is_private_and_goes_with_the_process(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = serving(start, two_hops)
    path = tmp_path / "mosn.admin.sock"
    assert proxy.admin_socket == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert not path.exists()


def test_the_built_in_example_has_a_socket(start: Start, tmp_path: Path) -> None:
    proxy = start(None)
    try:
        proxy.wait_for(READY)
    except AssertionError:
        pytest.skip("a port of the example is in use")
    assert proxy.admin_socket == str(tmp_path / "pymosn.admin.sock")
    assert proxy.post("/api/v1/reload")[0] == 409


def test_without_a_port_the_log_names_pymosn_top_instead_of_a_dashboard(two_hops: TwoHops, start: Start) -> None:
    del two_hops.config["admin"]["address"]
    proxy = start(two_hops.config)
    proxy.wait_for("admin API for changes on unix")
    proxy.wait_for("no dashboard, as admin.address is not set; `pymosn top` uses the unix socket")


def test_a_port_for_everybody_reads_and_takes_the_token(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    two_hops.config["admin"]["address"]["socket_address"]["address"] = "0.0.0.0"
    proxy = serving(start, two_hops, token_file=str(token))
    port = two_hops.admin_port
    assert "may read" in proxy.output
    assert tcp(port, "GET", "/api/v1/version")[0] == 200
    assert tcp(port, "POST", "/api/v1/explain", b'{"url": "/"}')[0] == 200
    assert tcp(port, "POST", "/api/v1/update_loglevel", b"{}")[0] == 401
    assert tcp(port, "POST", "/api/v1/reload_filters")[0] == 401
    assert tcp(port, "POST", "/api/v1/reload_filters", authorization=f"Bearer {TOKEN}x")[0] == 401
    assert tcp(port, "POST", "/api/v1/reload_filters", authorization=f"Bearer {TOKEN}")[0] == 200
    token.chmod(0o644)
    assert tcp(port, "POST", "/api/v1/reload_filters", authorization=f"Bearer {TOKEN}")[0] == 403
    proxy.wait_for("admin.token_file cannot be used.* its mode is 0644")
    assert TOKEN not in proxy.output


@pytest.mark.parametrize("admin", [{"token_file": "absent"}, {"allow_changes_without_token": True}])
def test_a_start_that_would_be_open_fails(start: Start, two_hops: TwoHops, admin: dict[str, Any]) -> None:
    two_hops.config["admin"]["address"]["socket_address"]["address"] = "0.0.0.0"
    two_hops.config["admin"].update(admin)
    proxy = start(two_hops.config)
    assert proxy.exit_code() == 1
    assert f"admin.{next(iter(admin))}" in proxy.output


def test_dns_rebinding(start: Start, two_hops: TwoHops) -> None:
    proxy = serving(start, two_hops, allowed_hosts=["admin.example"])
    for method, path in [("GET", "/api/v1/config_dump"), ("POST", "/api/v1/explain"), ("GET", "/api/v1/env?key=MOSN_X")]:
        assert tcp(two_hops.admin_port, method, path, host="evil.example")[0] == 403
    assert tcp(two_hops.admin_port, "GET", "/api/v1/version", host="admin.example:1")[0] == 200
    for path in ("/metrics", "/healthz", "/ready"):
        assert tcp(two_hops.admin_port, "GET", path, host="pymosn.monitoring.svc")[0] == 200
    for head in ("GET / HTTP/1.0", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\nHost: a", "GET / HTTP/1.1\r\nHost: a b"):
        with socket.create_connection(("127.0.0.1", two_hops.admin_port), PATIENCE) as client:
            client.sendall(f"{head}\r\n\r\n".encode())
            assert client.recv(1000).split(b" ")[1] == b"400"
    connection = UnixHttp(proxy.admin_socket, PATIENCE)
    connection.request("GET", "/api/v1/version", headers={"host": "evil.example"})
    assert connection.getresponse().status == 200
    connection.close()


# ---- nobody locks others out


def test_silent_connections_do_not_lock_others_out(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    serving(start, two_hops)
    silent = [socket.create_connection(("127.0.0.1", two_hops.admin_port), PATIENCE) for _ in range(120)]
    for client in silent[::3]:
        client.sendall(b"GET / HTTP/1.1\r\nx: ")
    for client in silent[1::3]:
        client.sendall(b"POST /api/v1/explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
    assert get(two_hops.admin_port, "/api/v1/version")[0] == 200
    # The unix socket has a limit of its own, so the commands work in any case.
    done = command(tmp_path, "reload")
    assert (done.returncode, "version 2 is active" in done.stdout) == (0, True), done
    for client in silent:
        client.close()


@pytest.mark.parametrize("size", [17, 40])
def test_a_body_that_is_too_large_gets_a_response(start: Start, two_hops: TwoHops, size: int) -> None:
    proxy = serving(start, two_hops)
    body = b" " * (size * 1024 * 1024)
    connection = UnixHttp(proxy.admin_socket, PATIENCE)
    connection.request("POST", "/api/v1/update_config", body)
    response = connection.getresponse()
    assert (response.status, response.read()) == (413, b"the body has more than 16777216 bytes\n")
    connection.close()
    assert tcp(two_hops.admin_port, "POST", "/api/v1/explain", body)[0] == 413
    assert tcp(two_hops.admin_port, "POST", "/api/v1/update_config", body)[0] == 403
    assert tcp(two_hops.admin_port, "POST", "/nothing", body)[0] == 404
    chunks = (body[: 1024 * 1024] for _ in range(size))
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.admin_port, timeout=PATIENCE)
    connection.request("POST", "/api/v1/explain", chunks, {"transfer-encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_deep_and_odd_bodies_are_no_errors_of_the_server(start: Start, two_hops: TwoHops) -> None:
    proxy = serving(start, two_hops)
    deep = b'{"url": "/", "x": ' + b"[" * 30_000
    for body in (deep, b"[" * 60_000, b'{"a":' * 9_000, b"\xff", b"1e999", b'{"url": "\\ud800"}', b'{"url": "http://[/"}'):
        assert tcp(two_hops.admin_port, "POST", "/api/v1/explain", body)[0] == 400, body[:30]
        for path in ("/api/v1/update_config", "/api/v1/reload", "/api/v1/stop", "/api/v1/filters/allocations"):
            connection = UnixHttp(proxy.admin_socket, PATIENCE)
            connection.request("POST", path, body)
            assert connection.getresponse().status == 400, (path, body[:30])
            connection.close()
    assert "Traceback" not in proxy.output
    assert "admin_failed" not in proxy.output


def test_head_works_wherever_get_does(start: Start, two_hops: TwoHops) -> None:
    serving(start, two_hops)
    paths = [line for line in two_hops.admin("/").splitlines()[1:] if not line.endswith(" changes")]
    assert len(paths) > 15
    for path in paths:
        status, text = tcp(two_hops.admin_port, "HEAD", path)
        is_stream = path == "/api/v1/live"  # a GET does not end
        assert (status, text) == (200 if is_stream else tcp(two_hops.admin_port, "GET", path)[0], "")
        assert tcp(two_hops.admin_port, "OPTIONS", path)[0] == 204


# ---- slips

_CLUSTER = "server"
_ROUTE = {"router_config_name": "server_router", "domain": "*"}
SLIPS: list[tuple[str, Any]] = [
    ("update_hosts", {"type": "set", "config": {"cluster": _CLUSTER}}),
    ("update_hosts", {"type": "set", "config": {"cluster": _CLUSTER, "host": []}}),
    ("update_hosts", {"type": "set", "config": {"cluster": _CLUSTER, "hosts": None}}),
    ("update_hosts", {"type": "set", "config": {"cluster": _CLUSTER, "hosts": ""}}),
    ("update_hosts", {"type": "set", "cluster": _CLUSTER, "hosts": []}),
    ("update_config", {"type": "cluster", "config": {"name": _CLUSTER}}),
    ("update_config", {"type": "router", "config": {"router_config_name": "server_router"}}),
    ("update_route", {"type": "remove", "config": _ROUTE}),
    ("update_route", {"type": "remove", "config": {**_ROUTE, "rout": None}}),
    ("update_route", {"type": "remove", "config": {**_ROUTE, "route": 5}}),
    ("remove_config", {"type": "listener"}),
    ("remove_config", {"type": "listener", "name": "serverListener", "force": True}),
    ("stop", {"nwo": False}),
    ("stop?now=false", None),
    ("reload", {"confg": "/x.json"}),
    ("upgrade", {"keep": True}),
    ("reload_filters", {"config": "/x.json"}),
    ("update_loglevel", {"log_pth": "stdout", "log_level": "FATAL"}),
]


def test_a_slip_changes_nothing_and_its_key_is_named(start: Start, two_hops: TwoHops) -> None:
    proxy = serving(start, two_hops)
    pages = ("config_dump", "get_loglevel", "last_change", "workers")
    before = {page: two_hops.admin(f"/api/v1/{page}") for page in pages}
    for path, body in SLIPS:
        connection = UnixHttp(proxy.admin_socket, PATIENCE)
        connection.request("POST", f"/api/v1/{path}", None if body is None else json.dumps(body).encode())
        response = connection.getresponse()
        answer = response.read().decode()
        connection.close()
        assert response.status == 400, (path, body, answer)
        assert any(word in answer for word in ("unknown", "missing", "expected", "must be")), (path, body, answer)
    after = {page: two_hops.admin(f"/api/v1/{page}") for page in pages}
    for page in ("config_dump", "get_loglevel", "workers"):
        assert after[page] == before[page]
    assert json.loads(after["last_change"])["version"] == json.loads(before["last_change"])["version"]
    assert two_hops.get()[0] == 200


# ---- commands


def test_no_command_signals_the_process_of_a_stale_pid_file(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    bystander = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == b"up\n"
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "mosn.pid").write_text(f"{bystander.pid}\n")
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "mosn.json").write_text(json.dumps(two_hops.config))
        for arguments, reason in (
            (["reload"], "no process found"),
            (["stop"], "may be stale"),
            (["stop", "--drain"], "may be"),
        ):
            done = command(tmp_path, *arguments)
            assert (done.returncode, reason in done.stderr) == (2, True), done
        assert is_alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.communicate()


@pytest.mark.parametrize("option", [["--drain"], []])
def test_stop_ends_the_process_as_the_signals_do(
    start: Start, two_hops: TwoHops, upstream: Upstream, tmp_path: Path, option: list[str]
) -> None:
    proxy = serving(start, two_hops)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    if not option:
        assert command(tmp_path, "stop").returncode == 0
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
    else:
        done = command(tmp_path, "stop", "--drain", "--timeout", "0.5")
        assert (done.returncode, "is stopping, but has not ended" in done.stderr) == (2, True), done
        assert two_hops.admin("/api/v1/states").endswith("state=8\n")
        assert tcp(two_hops.admin_port, "GET", "/ready")[0] == 503
        assert tcp(two_hops.admin_port, "GET", "/healthz")[0] == 200
        upstream.gate.set()
        assert connection.getresponse().status == 200
    connection.close()
    assert proxy.exit_code() == 0


def test_a_reload_of_another_file_is_rejected(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = serving(start, two_hops)
    other = tmp_path / "conf" / "other.json"
    other.write_text(json.dumps({**two_hops.config, "admin": {"socket": proxy.admin_socket}}))
    for name in ("reload", "stop"):
        done = subprocess.run(
            [sys.executable, "-m", "pymosn", name, "-c", str(other)],
            env=worker_environment(os.environ), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"was started from another configuration: {tmp_path}/conf/mosn.json" in done.stderr
    assert json.loads(two_hops.admin("/api/v1/last_change"))["attempt"] == 0
    link = tmp_path / "conf" / "link.json"
    link.symlink_to("mosn.json")
    assert proxy.post("/api/v1/reload", {"config": str(link)})[0] == 200


def test_a_second_process_does_not_take_over_the_socket(
    start: Start, two_hops: TwoHops, upstream: Upstream, tmp_path: Path
) -> None:
    first = serving(start, two_hops)
    path = tmp_path / "conf" / "mosn.json"
    path.write_text(json.dumps(TwoHops(upstream.port).config))
    second = start(None, "-c", str(path))
    assert second.exit_code() == 1
    assert f"another pymosn (pid {first.process.pid}) already serves {tmp_path}/mosn.admin.sock" in second.output
    assert first.post("/api/v1/reload_filters")[0] == 200
    first.send(signal.SIGKILL)
    first.exit_code()
    assert eventually(lambda: not first.worker_pids())
    third = start(TwoHops(upstream.port).config)
    assert third.admin_socket == str(tmp_path / "mosn.admin.sock")


def test_a_folder_without_room_for_a_socket_is_a_warning(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    path = folder / ("n" * 100 + ".json")
    path.write_text(json.dumps(two_hops.config))
    proxy = start(None, "-c", str(path))
    proxy.wait_for("no admin socket, so commands cannot reach this process: .*too long")
    proxy.wait_for(READY)
    assert two_hops.get()[0] == 200
