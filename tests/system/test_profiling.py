"""Profiles of the real program: by `go tool pprof`, by `pymosn profile`, while it serves, and on a port off loopback."""

import http.client
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from process_fixtures import Start
from pymosn_process import Pymosn, eventually, free_ports, get
from tests.kit.pprof_reader import PprofProfile, read_pprof

FILTER = """
import time

from pymosn.api.stream_filter import StreamFilter

kept = []


def blocks(seconds):
    time.sleep(seconds)


def hot_loop(count):
    total = 0
    for i in range(count):
        total += i * i
    return total


class Hot(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/blocks":
            blocks(7)
        hot_loop(30000)
        kept.append(bytearray(5000))
        del kept[:-2000]
"""
TOKEN = "correct-horse-battery-staple"


def config_of(folder: Path, port: int, profiles: int) -> dict[str, Any]:
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "filters.py").write_text(FILTER)
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    settings = {"downstream_protocol": "Http1", "router_config_name": "r"}
    answer = {"status": 200, "body": "ok"}
    audited = {"match": {"path": "/audited"}, "direct_response": answer, "access_logs": {"audit": True}}
    route = {"match": {"prefix": "/"}, "direct_response": answer, "access_logs": {"*": False}}
    listener = {
        "name": "l",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "access_logs": [
            {"log_path": str(folder / "all.log"), "log_format": "%request_path%"},
            {"log_path": str(folder / "audit.log"), "log_format": "%request_path%", "name": "audit", "disabled": True},
        ],
        "stream_filters": [{"type": "python", "config": {"path": "filters.py", "class": "Hot"}}],
        "filter_chains": [{"filters": [{"type": "proxy", "config": settings}]}],
    }
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [audited, route]}]}
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "worker_hang_limit": "0s",
                "processor": 1,
                "listeners": [listener],
                "routers": [table],
            }
        ],
        "cluster_manager": {"clusters": []},
        "admin": {"token_file": str(token)},
        "pprof": {"debug": True, "port_value": profiles, "endpoint": "0.0.0.0"},
    }


@contextmanager
def traffic(port: int) -> Iterator[list[int]]:
    """Requests one after the other; the statuses so far."""
    statuses: list[int] = []
    ends = threading.Event()

    def run() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not ends.is_set():
            client.request("GET", "/")
            response = client.getresponse()
            response.read()
            statuses.append(response.status)
        client.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield statuses
    finally:
        ends.set()
        thread.join()


def ask(port: int, path: str, token: str = TOKEN) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
    response = client.getresponse()
    try:
        return response.status, response.read()
    finally:
        client.close()


def share_of(profile: PprofProfile, function: str) -> float:
    total = sum(numbers[-1] for _, numbers in profile.samples)
    own = sum(numbers[-1] for calls, numbers in profile.samples if any(call[0] == function for call in calls))
    return own / total if total else 0.0


def profiled(port: int, target: str, function: str) -> bytes:
    """A profile with this function; on a busy machine the worker may have got no CPU during the first ones."""
    found: list[bytes] = []

    def is_there() -> bool:
        status, data = ask(port, f"/debug/pprof/{target}")
        assert status == 200
        found.append(data)
        return share_of(read_pprof(data), function) > 0.2

    assert eventually(is_there)
    return found[-1]


def command(proxy: Pymosn, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "pymosn", "profile", "-c", str(folder / "conf" / "mosn.json"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_profiles_of_a_serving_program(start: Start, tmp_path: Path) -> None:
    port, profiles = free_ports(2)
    proxy = start(config_of(tmp_path, port, profiles))
    proxy.wait_for("pprof.endpoint: not a loopback address: calls need the token")
    proxy.wait_for(r"profiles on http://0.0.0.0:\d+/debug/pprof/")
    pids = proxy.worker_pids()
    assert ask(profiles, "/debug/pprof/", token="")[0] == 401
    with traffic(port) as statuses:
        assert eventually(lambda: len(statuses) > 10)
        data = profiled(profiles, "profile?seconds=0.5", "filters.hot_loop")
        if shutil.which("go") is not None:
            assert "filters.hot_loop" in top_of(data, tmp_path)
        profiled(profiles, "heap?seconds=0.5", "filters.on_request")
        assert b"thread MainThread" in ask(profiles, "/debug/pprof/goroutine?debug=1")[1]
        ends_with_its_client(profiles)
        flame, out = tmp_path / "cpu.svg", tmp_path / "cpu.pb.gz"
        done = command(proxy, tmp_path, "--seconds", "2", "--flame", str(flame), "--out", str(out))
        assert (done.returncode, done.stdout) == (0, f"pymosn: {flame} written\npymosn: {out} written\n"), done.stderr
        assert "filters.hot_loop" in "".join(ElementTree.parse(flame).getroot().itertext())
        assert share_of(read_pprof(out.read_bytes()), "filters.hot_loop") > 0.2
        own = ask(profiles, "/debug/pprof/profile?seconds=0.3&worker=supervisor&format=top")[1]
        assert b" s in 0." in own
        missing = command(proxy, tmp_path, "--worker", "9")
        assert (missing.returncode, "there is no worker 9" in missing.stderr) == (2, True)
        served = len(statuses)
        assert eventually(lambda: len(statuses) > served)
    assert set(statuses) == {200}
    shows_a_blocked_worker(port, profiles)
    assert get(port, "/audited")[0] == 200
    for name in ("all.log", "audit.log"):
        assert eventually(lambda name=name: (tmp_path / name).read_text() == "/audited\n"), name
    assert proxy.worker_pids() == pids


def shows_a_blocked_worker(port: int, profiles: int) -> None:
    """A profile that begins while the event loop is blocked has the function that blocks it, and so have the stacks."""
    thread = threading.Thread(target=get, args=(port, "/blocks"))
    thread.start()
    profiled(profiles, "profile?seconds=0.5", "filters.blocks")
    assert b"because the event loop was blocked" in ask(profiles, "/debug/pprof/profile?seconds=0.3&format=top")[1]
    thread.join()
    shows_a_worker_that_gets_blocked(port, profiles)


def shows_a_worker_that_gets_blocked(port: int, profiles: int) -> None:
    """A profile has the function that blocks the event loop from the middle of the recording on, too."""
    found: list[tuple[int, bytes]] = []

    def is_recorded() -> bool:  # the short profile below may have come first, and this one been refused
        found.append(ask(profiles, "/debug/pprof/profile?seconds=2&format=top"))
        return found[-1][0] != 409

    recording = threading.Thread(target=eventually, args=(is_recorded,))
    recording.start()
    assert eventually(lambda: ask(profiles, "/debug/pprof/profile?seconds=0.1")[0] == 409)
    assert get(port, "/blocks")[0] == 200
    recording.join()
    assert b"filters.blocks" in found[-1][1]


def ends_with_its_client(profiles: int) -> None:
    """Another profile is possible as soon as the client of the last one has gone."""
    clients: list[http.client.HTTPConnection] = []

    def is_recorded() -> bool:
        # Each time again: the short profile may have come first, and the long one been refused.
        clients.append(http.client.HTTPConnection("127.0.0.1", profiles, timeout=30))
        clients[-1].request("GET", "/debug/pprof/profile?seconds=60", headers={"authorization": f"Bearer {TOKEN}"})
        return ask(profiles, "/debug/pprof/profile?seconds=0.1")[0] == 409

    assert eventually(is_recorded)
    for client in clients:
        client.close()
    began = time.monotonic()
    assert eventually(lambda: ask(profiles, "/debug/pprof/profile?seconds=0.1")[0] == 200)
    assert time.monotonic() - began < 30.0


def top_of(data: bytes, folder: Path) -> str:
    path = folder / "go.pb.gz"
    path.write_bytes(data)
    done = subprocess.run(
        ["go", "tool", "pprof", "-top", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Type: cpu" in done.stdout
    return done.stdout
