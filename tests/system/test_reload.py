"""Change at run time: SIGHUP, `pymosn reload` and the admin API, on the real program and under load."""

import copy
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE, accepts
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, Upstream, _listener, _table, eventually, free_ports, get

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once


class Load:
    """Keep-alive clients that ask without a pause. `failures`: anything but a 200."""

    def __init__(self, port: int, connections: int, path: str = "/") -> None:
        self.failures: list[str] = []
        self.count = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port, path), daemon=True) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while not self._stop.is_set():
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200:
                self.failures.append(f"{response.status} {body!r}")
            self.count += 1
        connection.close()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def write(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(config))


def attempts(hops: TwoHops) -> int:
    return int(json.loads(hops.admin("/api/v1/last_change"))["attempt"])


def reload(proxy: Pymosn, hops: TwoHops, tmp_path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Changes the file, sends SIGHUP and gives what became of it."""
    before = attempts(hops)
    write(tmp_path, config)
    proxy.send(signal.SIGHUP)
    assert eventually(lambda: attempts(hops) > before)
    found: dict[str, Any] = json.loads(hops.admin("/api/v1/last_change"))
    return found


def direct(status: int, body: str) -> dict[str, Any]:
    return {"match": {"prefix": "/new"}, "direct_response": {"status": status, "body": body}}


def test_a_broken_file_is_refused_and_the_old_one_stays(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    broken = copy.deepcopy(two_hops.config)
    broken["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"][0]["route"]["timeout"] = "soon"
    broken["cluster_manager"]["clusters"][1]["hosts"][0]["weight"] = "heavy"
    outcome = reload(proxy, two_hops, tmp_path, broken)
    assert not outcome["applied"]
    assert outcome["version"] == 1
    assert sum(fault["severity"] == "error" for fault in outcome["faults"]) == 2
    assert all(fault["line"] > 0 for fault in outcome["faults"])
    assert two_hops.get("/a")[0] == 200


def test_a_filter_that_does_not_load_changes_nothing_anywhere(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    (tmp_path / "conf" / "broken.py").write_text("import no_such_module\n")
    config = copy.deepcopy(two_hops.config)
    config["servers"][0]["listeners"][0]["stream_filters"] = [
        {"type": "python", "config": {"path": "broken.py", "class": "Tenant"}}
    ]
    config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"] = [direct(200, "changed")]
    outcome = reload(proxy, two_hops, tmp_path, config)
    assert not outcome["applied"]
    assert "no_such_module" in outcome["faults"][0]["message"]
    assert two_hops.get("/new")[1].startswith("hello from upstream")


def test_listeners_come_and_go(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    (added,) = free_ports(1)
    config = copy.deepcopy(two_hops.config)
    config["servers"][0]["listeners"].append(_listener("third", added, "server_router"))
    assert reload(proxy, two_hops, tmp_path, config)["applied"]
    load = Load(two_hops.client_port, 4)
    assert [get(added, "/b")[0] for _ in range(10)] == [200] * 10
    connection = http.client.HTTPConnection("127.0.0.1", added, timeout=PATIENCE)
    connection.request("GET", "/kept")
    assert connection.getresponse().read() == b"hello from upstream, /kept\n"
    assert reload(proxy, two_hops, tmp_path, two_hops.config)["applied"]
    assert eventually(lambda: not accepts(added))
    load.end()
    assert load.failures == []
    assert two_hops.get("/c")[0] == 200
    connection.close()


def test_a_listener_that_gets_another_name_loses_no_request(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    failed: list[str] = []
    stop = threading.Event()

    def connect_anew() -> None:
        while not stop.is_set():
            try:
                assert two_hops.get()[0] == 200
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failed.append(repr(error))

    threads = [threading.Thread(target=connect_anew) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(5):
        config = copy.deepcopy(two_hops.config)
        config["servers"][0]["listeners"][0]["name"] = f"name{turn}"
        assert reload(proxy, two_hops, tmp_path, config)["applied"]
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_an_exchange_in_flight_keeps_what_it_began_with(
    start: Start, two_hops: TwoHops, upstream: Upstream, tmp_path: Path
) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    config = copy.deepcopy(two_hops.config)
    for table in config["servers"][0]["routers"]:
        table["virtual_hosts"][0]["routers"] = [{"match": {"prefix": "/"}, "direct_response": {"status": 418}}]
    config["cluster_manager"]["clusters"] = []
    assert reload(proxy, two_hops, tmp_path, config)["applied"]
    assert two_hops.get("/")[0] == 418
    upstream.gate.set()
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"hello from upstream, /slow\n")
    # The next request of the same connection has the new table.
    connection.request("GET", "/slow")
    assert connection.getresponse().status == 418
    connection.close()


def test_a_new_worker_has_the_newest_configuration(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config, "--workers", "1")
    proxy.wait_for(READY)
    config = copy.deepcopy(two_hops.config)
    config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"] = [direct(200, "newest")]
    assert reload(proxy, two_hops, tmp_path, config)["applied"]
    os.kill(proxy.worker_pids()[0], signal.SIGKILL)
    proxy.wait_for("replaced by pid")
    assert two_hops.get("/new") == (200, "newest")


def test_the_admin_api_changes_what_is_in_force(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    table = _table("client_router", "nowhere")
    status, answer = proxy.post("/api/v1/update_config", {"type": "router", "config": table})
    assert status == 400
    assert "nowhere" in json.dumps(answer["faults"])
    assert two_hops.get("/a")[0] == 200
    route = {"router_config_name": "client_router", "domain": "*", "route": direct(200, "added")}
    assert proxy.post("/debug/update_route", {"type": "remove", "config": {**route, "route": None}})[0] == 200
    assert two_hops.get("/a")[0] == 404
    assert proxy.post("/api/v1/update_route", {"type": "add", "config": route})[0] == 200
    assert two_hops.get("/new") == (200, "added")
    assert two_hops.get("/a")[0] == 404
    cluster = {"name": "more", "type": "SIMPLE", "hosts": [{"address": "127.0.0.1:9"}]}
    assert proxy.post("/api/v1/update_config", {"type": "cluster", "config": cluster})[0] == 200
    host = {"address": "127.0.0.1:10"}
    assert proxy.post("/api/v1/update_hosts", {"type": "add", "config": {"cluster": "more", "hosts": [host]}})[0] == 200
    found = json.loads(two_hops.admin("/api/v1/clusters?name=more"))[0]["hosts"]
    assert {entry["address"] for entry in found} == {"127.0.0.1:9", "127.0.0.1:10"}
    assert proxy.post("/api/v1/remove_config", {"type": "cluster", "name": "more"})[0] == 200
    assert json.loads(two_hops.admin("/api/v1/clusters?name=more")) == []
    assert proxy.post("/api/v1/remove_config", {"type": "listener", "name": "nobody"})[0] == 400


def test_the_reload_command_tells_what_became_of_it(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    proxy = start(two_hops.config)
    proxy.wait_for("admin API on")
    config = copy.deepcopy(two_hops.config)
    config["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"] = [direct(200, "by command")]
    write(tmp_path, config)
    done = _command(tmp_path)
    assert (done.returncode, "version 2 is active" in done.stdout) == (0, True), done
    assert two_hops.get("/new") == (200, "by command")
    config["servers"][0]["listeners"][0]["address"] = "nowhere"
    write(tmp_path, config)
    done = _command(tmp_path)
    assert done.returncode == 1
    assert "servers[0].listeners[0].address" in done.stderr


def _command(tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pymosn", "reload", "-c", str(tmp_path / "conf" / "mosn.json")]
    environment = worker_environment(os.environ)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def blocked(pid: int) -> int:
    """The set of signals that a process blocks (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigBlk:")[2].split()[0], 16)


def test_signals_during_the_start_wait_until_it_serves(start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config)
    assert eventually(lambda: bool(blocked(proxy.process.pid) >> (signal.SIGHUP - 1) & 1))
    proxy.send(signal.SIGHUP)
    proxy.send(signal.SIGUSR1)
    proxy.wait_for(READY)
    proxy.wait_for("change from SIGHUP: version 2 is active")
    assert two_hops.get()[0] == 200
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
