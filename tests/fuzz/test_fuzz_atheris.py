"""Runs the coverage-guided fuzzer: a little in `make test`, for PYMOSN_FUZZ_SECONDS each in `make fuzz`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = int(float(os.environ.get("PYMOSN_FUZZ_SECONDS", "0")))
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install '.[fuzz]'"),
    pytest.mark.timeout(SECONDS * 2 + 120),
]


@pytest.mark.parametrize("kind", ["requests", "replies"])
def test_coverage_guided(kind: str, tmp_path: Path) -> None:
    # Its coverage is that of interpreted code, whichever build the other tests run on.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    root = Path(__file__).parents[2]
    limit = [f"-max_total_time={SECONDS}"] if SECONDS else ["-runs=3000", "-max_total_time=20"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzz.atheris_http1",
            kind,
            *limit,
            f"-artifact_prefix={tmp_path}/",
            "-print_final_stats=1",
        ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [path.read_bytes() for path in tmp_path.glob("crash-*")]
    assert done.returncode == 0, (found, done.stdout[-3000:], done.stderr[-3000:])
    assert "number_of_executed_units" in done.stderr
    print(f"{kind}:", *[line for line in done.stderr.splitlines() if line.startswith("stat::")])
