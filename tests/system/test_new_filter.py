"""What `pymosn new-filter` writes: installed with pip, tested, type-checked, listed, and run by its name."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, TwoHops, Upstream

pytestmark = pytest.mark.once

RECIPES = Path(__file__).parents[2] / "examples" / "filters"


def run(folder: Path, *arguments: str, python_path: str = "") -> str:
    """Runs a command of this Python in `folder`, and wants it to succeed."""
    paths = [path for path in (python_path, os.environ.get("PYTHONPATH", "")) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in paths)}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)  # mypy checks our types without a cache, which takes its time
def test_a_new_filter_from_nothing_to_traffic(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    run(tmp_path, "pymosn", "new-filter", "key_check")
    package = tmp_path / "key_check"
    assert "4 passed" in run(package, "pytest", "-p", "no:cacheprovider")

    # Types of users are checked as strictly as ours: the package, and every recipe.
    recipes = sorted(RECIPES.rglob("*.py"))
    checked = run(package, "mypy", "--strict", "src", "tests", *map(str, recipes))
    assert f"Success: no issues found in {2 + len(recipes)} source files" in checked

    target = str(tmp_path / "installed")
    run(tmp_path, "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-t", target, str(package))
    assert (Path(target) / "key_check" / "py.typed").exists()

    listed = json.loads(run(tmp_path, "pymosn", "filters", "--json", python_path=target))
    (found,) = [info for info in listed if info["name"] == "key_check"]
    assert (found["origin"], found["source"]) == ("installed", "key-check 0.1.0, key_check:KeyCheck")
    assert found["about"] == "Rejects requests without a header, and numbers the others."
    assert found["phases"] == ["on_request", "on_response"]
    measured = json.loads(
        run(tmp_path, "pymosn", "bench-filter", "key_check", "--json", "--requests", "5", python_path=target)
    )
    assert measured["statuses"] == {"401": 75}

    hops = TwoHops(upstream.port)
    hops.server["listeners"][0]["stream_filters"] = [{"type": "key_check", "config": {"message": "no key"}}]
    running = start(hops.config, PYTHONPATH=os.pathsep.join([target, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    running.wait_for(READY)
    assert hops.get("/") == (401, "no key")
    connection = http.client.HTTPConnection("127.0.0.1", hops.client_port, timeout=PATIENCE)
    connection.request("GET", "/", headers={"x-api-key": "k"})
    response = connection.getresponse()
    assert (response.status, response.headers["x-request-number"]) == (200, "1")
    connection.close()
