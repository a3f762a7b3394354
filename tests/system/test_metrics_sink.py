"""The sink compared with MOSN's, `/metrics` read by promtool and two parsers, and both over a reload and a hot upgrade."""

import http.client
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from generations import Generations
from process_fixtures import Start
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from pymosn_process import PATIENCE, READY, eventually, free_ports, get

from pymosn.observe.families import FAMILIES

GOLDEN = Path(__file__).parents[1] / "golden" / "mosn_metrics.yaml"
#: What MOSN was sent when its metrics were recorded: a direct response of 401, and paths with the status of the upstream.
REQUESTS = ("/direct", "/", "/", "/404", "/500", "/direct")
OPEN = {"accept": "application/openmetrics-text; version=1.0.0"}
_SAMPLE = re.compile(r"([^ {]+)(?:\{(.*)\})? (\S+)")


class Statuses(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:] or 200))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def statuses() -> Iterator[int]:
    """The port of an upstream."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Statuses)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def configuration(upstream: int, port: int, admin: int, sink: int) -> dict[str, Any]:
    direct = {"match": {"prefix": "/direct"}, "direct_response": {"status": 401, "body": "no"}}
    routes = [direct, {"match": {"prefix": "/"}, "route": {"cluster_name": "c"}}]
    proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "r"}
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "processor": 1,
                "graceful_timeout": "1s",
                "routers": [
                    {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routes}]}
                ],
                "listeners": [
                    {
                        "name": "l",
                        "address": f"127.0.0.1:{port}",
                        "bind_port": True,
                        "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
                    }
                ],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{upstream}"}]}
            ]
        },
        "metrics": {
            "sinks": [{"type": "prometheus", "config": {"port": sink, "endpoint": "/mosn", "percentiles": [50, 95]}}],
            "flush_mosn": True,
            "per_route": True,
            "exemplars": True,
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }


def families_of(text: str) -> dict[str, dict[str, Any]]:
    """Type and samples of each family, in the form of the golden file."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in found
            found[name] = {"type": kind, "samples": {}}
        elif not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            labels = re.sub(r'\bhost="[^"]*"', 'host="{host}"', match[2] or "")
            found[match[1]]["samples"][labels] = float(match[3])
    return found


def scrape(port: int, path: str = "/metrics", headers: dict[str, str] | None = None) -> tuple[str, str]:
    """Body and content type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode(), response.headers["content-type"]
    finally:
        connection.close()


def check_sink(sink: int) -> None:
    """All of MOSN's families, samples and counts are there."""
    text, content_type = scrape(sink, "/mosn")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    ours = families_of(text)
    assert list(text_families(text))
    for name, recorded in yaml.safe_load(GOLDEN.read_text()).items():
        assert ours[name]["type"] == recorded["type"], name
        for labels, value in recorded["samples"].items():
            assert labels in ours[name]["samples"], (name, labels)
            assert value is None or ours[name]["samples"][labels] == value, (name, labels)
    assert f"meta_listener_address:0_0_0_0:{sink}" in ours
    assert ours["process_resident_memory_bytes"]["samples"][""] > 1e7
    assert get(sink, "/") == (404, "404 page not found\n")


def check_families(admin: int) -> None:
    """Known families, whose sums are right, and which promtool and the parsers accept."""
    text, content_type = scrape(admin)
    assert content_type.startswith("text/plain")
    if shutil.which("promtool") is not None:
        found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    families = {family.name: family for family in text_families(text)}
    known = {family.name: family for family in FAMILIES}
    assert {name.removesuffix("_info") for name in families} <= known.keys() | {"pymosn_build"}
    for name, family in families.items():
        labels = set(known[name.removesuffix("_info")].labels)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
    requests = {sample.labels["code"]: sample.value for sample in families["pymosn_requests"].samples if sample.value}
    assert requests == {"200": 2, "401": 2, "404": 1, "500": 1}
    by_route = {sample.labels["route"]: sample.value for sample in families["pymosn_route_requests"].samples}
    assert by_route == {"0": 2, "1": 4}
    responses = {
        (sample.labels["route"], sample.labels["code"]): sample.value
        for sample in families["pymosn_route_responses"].samples
    }
    assert responses == {("0", "401"): 2, ("1", "200"): 2, ("1", "404"): 1, ("1", "500"): 1}
    assert [sample.value for sample in families["pymosn_upstream_requests"].samples] == [4]
    assert [sample.value for sample in families["pymosn_upstream_host_requests"].samples] == [4]
    assert [sample.value for sample in families["pymosn_generation"].samples] == [1]
    text, content_type = scrape(admin, headers=OPEN)
    assert content_type.startswith("application/openmetrics-text")
    times = next(family for family in open_families(text) if family.name == "pymosn_request_duration_seconds")
    exemplars = [sample.exemplar for sample in times.samples if sample.exemplar is not None]
    assert exemplars
    assert all(exemplar.labels["trace_id"] and exemplar.timestamp for exemplar in exemplars)


def test_metrics(start: Start, statuses: int, tmp_path: Path) -> None:
    port, admin, sink, other = free_ports(4)
    config = configuration(statuses, port, admin, sink)
    proxy = start(config)
    proxy.wait_for(READY)
    for path in REQUESTS:
        assert get(port, path)[0] == (401 if path == "/direct" else int(path[1:] or 200))
    check_sink(sink)
    check_families(admin)

    # A reload moves the sink to another port, and replaces its endpoint.
    file = tmp_path / "conf" / "mosn.json"
    config["metrics"]["sinks"][0]["config"] = {"port": other, "endpoint": "/text", "disable_collect_process": True}
    config["metrics"]["stats_matcher"] = {"exclusion_labels": ["host"], "exclusion_keys": ["request_206_total"]}
    config["metrics"]["lazy_flush"] = True
    file.write_text(json.dumps(config))
    assert proxy.post("/api/v1/reload")[0] == 200
    assert proxy.wait_for(rf"metrics sink on http://0.0.0.0:{other}/text")
    ours = families_of(scrape(other, "/text")[0])
    assert ours["downstream_request_total"]["samples"]['listener="l"'] == len(REQUESTS)
    assert not any(re.search(r"\bhost=", labels) for family in ours.values() for labels in family["samples"])
    assert not {"downstream_request_206_total", "downstream_request_304_total", "process_open_fds"} & ours.keys()
    with pytest.raises(ConnectionRefusedError):
        scrape(sink, "/mosn")
    reloads = {line for line in scrape(admin)[0].splitlines() if line.startswith("pymosn_config_")}
    assert 'pymosn_config_reloads_total{outcome="applied"} 1.0' in reloads
    assert "pymosn_config_generation 2.0" in reloads

    # A hot upgrade: no scrape is refused, and no counter goes back.
    generations = Generations(proxy, file, admin)
    refused: list[Exception] = []
    values: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                families = families_of(scrape(other, "/text")[0])
                values.append(families["downstream_request_total"]["samples"]['listener="l"'])
            except Exception as error:
                refused.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert generations.upgrade().returncode == 0
        assert eventually(lambda: "pymosn_generation 2.0" in scrape(admin)[0])
        assert get(port, "/404")[0] == 404
        assert eventually(lambda: bool(values) and values[-1] == len(REQUESTS) + 1)
    finally:
        stop.set()
        watcher.join(PATIENCE)
        generations.end()
    assert refused == []
    assert values == sorted(values)
