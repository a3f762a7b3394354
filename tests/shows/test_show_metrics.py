"""Issue 19, show 3: sums of metrics are those of the clients, also in Prometheus, and over workers that crash."""

import asyncio
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from process_fixtures import Start
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from pymosn_process import READY, free_ports
from showing import run, sized, tell

from load_client import Client
from show_upstream import ShowUpstream

CLIENTS = 32
#: Paths and the status that their requests get.
MIX = (("/", 200), ("/denied", 401), ("/", 200), ("/limited", 429), ("/gone", 404), ("/down", 502), ("/bytes/3000", 200))
FILTER = """
import os, signal

from pymosn.api import StreamFilter


class Crashes(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
"""
SCRAPES = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: pymosn
    static_configs: [{{targets: ["127.0.0.1:{admin}"]}}]
"""
OPEN = "application/openmetrics-text; version=1.0.0"


def configuration(folder: Path, upstream: int, port: int, admin: int, closed: int) -> dict[str, Any]:
    (folder / "crashes.py").write_text(FILTER)
    replies = {"/denied": 401, "/limited": 429, "/gone": 404}
    routes: list[dict[str, Any]] = [
        {"match": {"path": path}, "direct_response": {"status": status, "body": "no"}} for path, status in replies.items()
    ]
    routes.append({"match": {"path": "/down"}, "route": {"cluster_name": "down"}})
    routes.append({"match": {"prefix": "/"}, "route": {"cluster_name": "up"}})
    proxy = {"downstream_protocol": "Http1", "router_config_name": "r"}
    crashes = {"path": str(folder / "crashes.py"), "class": "Crashes"}
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "default_log_level": "INFO",
                "processor": 2,
                "routers": [
                    {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routes}]}
                ],
                "listeners": [
                    {
                        "name": "l",
                        "address": f"127.0.0.1:{port}",
                        "bind_port": True,
                        "stream_filters": [{"type": "python", "config": crashes}],
                        "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
                    }
                ],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{number}"}]}
                for name, number in (("up", upstream), ("down", closed))
            ]
        },
        "metrics": {"exemplars": True, "per_route": True},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }


class Prometheus:
    """A real one that scrapes each second; None as its `port` if it is not installed."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read())
        assert found["status"] == "success"
        return found["data"]

    def by_code(self) -> dict[str, int]:
        found = self.ask("query", query="sum by (code) (pymosn_requests_total)")["result"]
        return {entry["metric"]["code"]: int(entry["value"][1]) for entry in found if entry["value"][1] != "0"}


@asynccontextmanager
async def prometheus(folder: Path, admin: int) -> AsyncIterator[Prometheus | None]:
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    file = folder / "prometheus.yml"
    file.write_text(SCRAPES.format(admin=admin))
    command = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port, folder)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def scrape(admin: int, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/metrics", headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def by_code(text: str) -> dict[str, int]:
    family = next(family for family in text_families(text) if family.name == "pymosn_requests")
    return {sample.labels["code"]: int(sample.value) for sample in family.samples if sample.value}


async def until(condition: Any, seconds: float = 40.0) -> bool:
    """Polls what only another process knows."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        try:
            if await asyncio.to_thread(condition):
                return True
        except (OSError, AssertionError):
            pass  # it does not answer yet
        await asyncio.sleep(0.05)
    return False


@sized("count", 3_000, 100_000)
def test_sums_are_those_of_the_clients(start: Start, tmp_path: Path, count: int) -> None:
    async def scenario() -> None:
        port, admin, closed = free_ports(3)
        async with ShowUpstream() as upstream, prometheus(tmp_path, admin) as scraper:
            proxy = start(configuration(tmp_path, upstream.port, port, admin, closed))
            await asyncio.to_thread(proxy.wait_for, READY)
            got: Counter[str] = Counter()
            lost: list[str] = []
            asked = 0

            async def load(number: int) -> None:
                nonlocal asked
                client = Client(port)
                at = number
                while asked < count:
                    asked += 1
                    at += 1
                    path, status = MIX[at % len(MIX)]
                    # Twice a worker crashes, in the middle of everything.
                    if asked in (count // 3, 2 * count // 3):
                        path = "/crash"
                    answer = await client.ask(path)
                    if answer.error:
                        lost.append(path)
                    else:
                        assert answer.status == status, path
                        got[str(answer.status)] += 1
                await client.close()

            await asyncio.gather(*[load(number) for number in range(CLIENTS)])
            assert lost.count("/crash") == 2
            assert await until(lambda: by_code(scrape(admin)) == got), (got, by_code(scrape(admin)))
            text = await asyncio.to_thread(scrape, admin)
            if shutil.which("promtool") is not None:
                done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
                assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            families = {family.name: family for family in open_families(await asyncio.to_thread(scrape, admin, OPEN))}
            failures = {
                sample.labels["reason"]: sample.value
                for sample in families["pymosn_request_failures"].samples
                if sample.value and sample.name.endswith("_total")
            }
            assert failures == {"connect_refused": got["502"]}
            restarts = families["pymosn_worker_restarts"].samples[0].value
            assert restarts == 2
            exemplars = [sample for sample in families["pymosn_request_duration_seconds"].samples if sample.exemplar]
            assert exemplars
            stored = 0
            if scraper is not None:
                assert await until(lambda: scraper.by_code() == got), (got, scraper.by_code())
                query = "pymosn_request_duration_seconds_bucket"
                span = {"start": "2000-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
                found = await asyncio.to_thread(lambda: scraper.ask("query_exemplars", query=query, **span))
                stored = sum(len(entry["exemplars"]) for entry in found)
                assert stored > 0
            times = families["pymosn_request_duration_seconds"].samples
            timed = sum(sample.value for sample in times if sample.name.endswith("_count"))
            tell(
                "counted exactly",
                requests=count,
                by_status=dict(got),
                lost_with_the_worker=len(lost),
                durations_lost=sum(got.values()) - int(timed),
                exemplars_in_prometheus=stored,
            )

    run(scenario())
