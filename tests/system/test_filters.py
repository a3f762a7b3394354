"""Stream filters in the real program: life cycle over reloads, requests of their own, faults with their places."""

import json
import os
import signal
from pathlib import Path

from process_fixtures import Start
from pymosn_process import READY, TwoHops, Upstream, get

FILTER = """
import asyncio
from pymosn.api import Reply, StreamFilter

class Lives(StreamFilter):
    def __init__(self, config):
        self.version = VERSION

    async def start(self):
        self.context.write(f"starts {self.version}")
        self.context.create_task(self.tick())

    async def tick(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.context.write(f"task ends {self.version}")

    async def stop(self):
        self.context.write(f"stops {self.version}")

    async def on_request(self, exchange):
        if exchange.request.path == "/who":
            answer = await self.clusters["server"].get("/inner")
            return Reply(200, f"{self.version}: {answer.status} {answer.text}")
"""


def filtered(tmp_path: Path, hops: TwoHops, text: str) -> Path:
    (tmp_path / "filters.py").write_text(text)
    entry = {"type": "python", "config": {"path": "filters.py", "class": "Lives"}}
    hops.server["listeners"][0]["stream_filters"] = [entry]
    hops.server["processor"] = 1
    hops.config["pid"] = str(tmp_path / "pid")
    path = tmp_path / "c.json"
    path.write_text(json.dumps(hops.config, indent=1))
    return path


def test_life_of_a_filter_over_reloads(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    hops = TwoHops(upstream.port)
    path = filtered(tmp_path, hops, FILTER.replace("VERSION", "1"))
    running = start(None, "-c", str(path))
    running.wait_for(READY)
    running.wait_for("filter 'Lives': starts 1")
    assert get(hops.client_port, "/who") == (200, "1: 200 hello from upstream, /inner\n")

    (tmp_path / "filters.py").write_text(FILTER.replace("VERSION", "2"))
    running.wait_for("change from edit of filters.py: version 2 is active")
    assert get(hops.client_port, "/who")[1].startswith("2: 200")
    running.wait_for("task ends 1")
    running.wait_for("stops 1")

    broken = FILTER.replace("VERSION", "3").replace('self.context.write(f"starts', 'raise OSError("no database")  #')
    (tmp_path / "filters.py").write_text(broken)
    line = running.wait_for("filter 'Lives' does not start").string
    assert "filters.py:10: OSError: no database" in line
    assert os.path.basename(path) + ":" in line
    assert get(hops.client_port, "/who")[1].startswith("2: 200")

    running.send(signal.SIGTERM)
    assert running.exit_code() == 0
    assert "stops 2" in running.output
    assert "stops 3" not in running.output


def test_a_start_that_fails_refuses_the_program(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    hops = TwoHops(upstream.port)
    path = filtered(tmp_path, hops, FILTER.replace("VERSION", "1 / 0"))
    running = start(None, "-c", str(path))
    assert running.exit_code() == 1
    assert "filters.py:7: ZeroDivisionError" in running.output
    assert f"{path}:" in running.output


def test_files_that_are_not_watched(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    hops = TwoHops(upstream.port)
    hops.server["watch_filters"] = False
    path = filtered(tmp_path, hops, FILTER.replace("VERSION", "1"))
    running = start(None, "-c", str(path))
    running.wait_for(READY)
    (tmp_path / "filters.py").write_text(FILTER.replace("VERSION", "2"))
    assert get(hops.client_port, "/who")[1].startswith("1: 200")
    _, answer = running.post("/api/v1/reload_filters")
    assert (answer["applied"], answer["source"]) == (True, "admin /api/v1/reload_filters")
    assert get(hops.client_port, "/who")[1].startswith("2: 200")
    assert "edit of" not in running.output
