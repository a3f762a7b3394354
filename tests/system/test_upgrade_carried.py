"""What one generation of the real program leaves to the next: metrics, health, ejections, tickets, logs, configuration."""

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, TwoHops, eventually, free_ports
from test_upgrade import Load, Upgraded
from tests.kit.unix_http import UnixHttp
from tls_peers import client_context, context_for, exchange, listener_of, opened, proxy_filter, server, table_of

pytestmark = pytest.mark.once

#: Nothing has to be waited for: idle connections between the hops end with their generation.
GRACE = "1s"


class Counting:
    """An upstream that counts requests, and answers all of them, or those of health checks, with 500."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self.paths: list[str] = []
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(500 if fails(self.path) else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def requests(self) -> int:
        """Requests of clients so far."""
        return sum(path != "/health" for path in self.paths)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Scrapes:
    """Reads a counter again and again, as JSON and as Prometheus does."""

    def __init__(self, hops: TwoHops) -> None:
        self.values: list[tuple[float, float, int]] = []
        self._hops = hops
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for read in (self.json, self.prometheus):
                began = time.monotonic()
                try:
                    value = read()
                except OSError:
                    continue  # the admin API, for a moment
                self.values.append((began, time.monotonic(), value))

    def json(self) -> int:
        found = json.loads(self._hops.admin("/api/v1/stats"))
        return int(found["downstream"]["listener.clientListener"]["request_total"])

    def prometheus(self) -> int:
        text = self._hops.admin("/metrics")
        found = re.search(r'^pymosn_requests_received_total\{listener="clientListener"\} ([\d.e+]+)$', text, re.MULTILINE)
        assert found is not None, text
        return int(float(found[1]))

    def end(self) -> None:
        self._stop.set()
        self._thread.join(40)

    def check(self, upgrades: list[tuple[float, float]]) -> None:
        """No value is below one of before. During an upgrade both generations may answer, in any order."""
        assert len(self.values) > 3 * len(upgrades)
        highest = before = 0
        for began, ended, value in self.values:
            if not any(start <= ended and began <= end for start, end in upgrades):
                assert value >= highest
                before = value
            assert value >= before
            highest = max(highest, value)


def served(hops: TwoHops, *more: dict[str, Any], **cluster: Any) -> None:
    """A short time for leaving; `more` hosts of the second hop; keys of its cluster."""
    hops.server["graceful_timeout"] = GRACE
    found = hops.config["cluster_manager"]["clusters"][1]
    found["hosts"] += more
    found |= cluster


@pytest.fixture
def upgrades(start: Start, two_hops: TwoHops, tmp_path: Path) -> Iterator[Callable[..., Upgraded]]:
    """Starts the two hops; ends all of their generations."""
    begun: list[Upgraded] = []

    def begin(*arguments: str) -> Upgraded:
        begun.append(Upgraded(start(two_hops.config, *arguments), two_hops, tmp_path / "conf" / "mosn.json"))
        return begun[-1]

    yield begin
    for generations in begun:
        generations.end()


def order(generations: Upgraded, target: str, body: str) -> None:
    """A POST to the unix socket of the admin API, which succeeds."""
    connection = UnixHttp(generations.proxy.admin_socket, PATIENCE)
    connection.request("POST", target, body)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


def is_alone(generations: Upgraded) -> bool:
    """Whether the generation before has ended."""
    return len(generations.view()["generations"]) == 1


def test_two_upgrades_under_load(upgrades: Callable[..., Upgraded], two_hops: TwoHops) -> None:
    """No counter goes back; orders for logs hold; changes of the admin API hold with --keep-config only."""
    served(two_hops)
    two_hops.config["cluster_manager"]["clusters"].append({"name": "spare", "hosts": []})
    generations = upgrades()
    load, scrapes = Load(two_hops.client_port), Scrapes(two_hops)
    times = []

    def upgrade(*arguments: str) -> None:
        begun = time.monotonic()
        done = generations.upgrade(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert eventually(lambda: is_alone(generations))
        times.append((begun, time.monotonic()))

    def spare() -> list[str]:
        (cluster,) = json.loads(two_hops.admin("/api/v1/clusters?name=spare"))
        return [host["address"] for host in cluster["hosts"]]

    order(generations, "/api/v1/update_loglevel", json.dumps({"log_path": "stdout", "log_level": "ERROR"}))
    added = {"cluster": "spare", "hosts": [{"address": "127.0.0.1:9"}]}
    assert generations.proxy.post("/api/v1/update_hosts", {"type": "add", "config": added})[0] == 200
    upgrade("--keep-config")
    assert spare() == ["127.0.0.1:9"]
    upgrade()
    assert spare() == []
    assert json.loads(two_hops.admin("/api/v1/get_loglevel")) == {"": "INFO", "stdout": "ERROR"}
    load.end()
    assert eventually(lambda: scrapes.json() == load.count)
    assert scrapes.prometheus() == load.count
    scrapes.end()
    scrapes.check(times)
    assert load.failures == []


def health(hops: TwoHops, name: str) -> dict[str, str]:
    """Address -> health of the hosts of a cluster."""
    (cluster,) = json.loads(hops.admin(f"/api/v1/clusters?name={name}"))
    return {host["address"]: host["health"] for host in cluster["hosts"]}


def test_health_ejections_tickets_and_disabled_logs(
    upgrades: Callable[..., Upgraded], two_hops: TwoHops, tmp_path: Path
) -> None:
    """What one upgrade carries: an unhealthy host gets no request before its first check, an ejected host stays ejected.

    A TLS session is resumed, and an access log that was disabled stays so.
    """
    gate, asked = threading.Event(), iter([True])

    def fails(path: str) -> bool:
        """The first check fails at once, those of later generations when the test is over."""
        return path == "/health" and (next(asked, False) or gate.wait(PATIENCE) or True)

    unhealthy, bad = Counting(fails), Counting(lambda path: True)
    check = {"protocol": "http1", "interval": "1h", "timeout": "40s", "initial_delay_seconds": "10ms"}
    rule = {"consecutive_errors": 1, "base_ejection_time": "1h", "max_ejection_percent": 100}
    served(two_hops, {"address": bad.address}, outlier_detection=rule)
    checked = {
        "name": "checked",
        "hosts": [{"address": unhealthy.address}, *two_hops.config["cluster_manager"]["clusters"][1]["hosts"][:1]],
    }
    checked["health_check"] = check | {"check_config": {"http_check_config": {"path": "/health"}}}
    two_hops.config["cluster_manager"]["clusters"].append(checked)
    (port, checked_port) = free_ports(2)
    log = tmp_path / "access.log"
    chain = {"tls_context": context_for(server()), "filters": [proxy_filter("tls")]}
    two_hops.server["listeners"] += [
        listener_of("tls", port, [chain], access_logs=[{"log_path": str(log)}]),
        listener_of("checked", checked_port, [{"filters": [proxy_filter("checked")]}]),
    ]
    two_hops.server["routers"] += [table_of("tls", "secret served"), table_of("checked", cluster="checked")]
    generations = upgrades("--workers", "1")

    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    sessions: list[ssl.SSLSession | None] = [None]

    def is_resumed() -> bool:
        with opened(port, context=context, session=sessions[-1]) as secured:
            assert exchange(secured) == (200, b"secret served")
            sessions.append(secured.session)
            return bool(secured.session_reused)

    assert not is_resumed()
    assert is_resumed()
    assert eventually(lambda: log.exists() and log.read_text() != "")
    order(generations, "/api/v1/disable_log", str(log))
    assert eventually(lambda: two_hops.get()[0] == 500)
    assert eventually(lambda: health(two_hops, "server")[bad.address] == "ejected")
    assert eventually(lambda: health(two_hops, "checked")[unhealthy.address] == "failed_active_check")
    requests, checks = bad.requests(), len(unhealthy.paths)
    written = log.read_text()
    load = Load(checked_port, 1)
    assert generations.upgrade().returncode == 0
    assert health(two_hops, "server")[bad.address] == "ejected"
    assert health(two_hops, "checked")[unhealthy.address] == "failed_active_check"
    assert is_resumed()
    assert [two_hops.get()[0] for _ in range(10)] == [200] * 10
    assert bad.requests() == requests
    assert log.read_text() == written
    assert eventually(lambda: len(unhealthy.paths) > checks)
    load.end()
    assert load.failures == []
    assert load.count > 0
    assert unhealthy.requests() == 0
    gate.set()
    unhealthy.close()
    bad.close()
