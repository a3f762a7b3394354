"""Fixtures that start real processes and end each of them. A `conftest.py` imports them where they are wanted."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymosn_process import Pymosn, TwoHops, Upstream

import pymosn

#: Where pymosn and the packages that it needs are found by any Python of this version.
PYTHON_PATH = os.pathsep.join(
    [str(Path(pymosn.__file__).resolve().parent.parent), *(path for path in sys.path if path.endswith("site-packages"))]
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


class Start:
    """Starts `pymosn start` for one test: `start(config)`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Pymosn] = []

    def __call__(self, config: dict[str, Any] | None, *arguments: str, before: str = "", **environment: str) -> Pymosn:
        """`config`: written to a file (None: the built-in example). `before`: as for `Pymosn`."""
        if config is not None:
            # Processes that run at the same time need admin sockets of their own, which are named after the file.
            others = sum(proxy.process.poll() is None for proxy in self._running)
            path = self._folder / "conf" / (f"mosn{others + 1}.json" if others else "mosn.json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(config, indent=1))
            arguments = ("-c", str(path), *arguments)
        self._running.append(Pymosn(list(arguments), self._folder, environment, before))
        return self._running[-1]

    def end(self) -> None:
        """Ends all of them."""
        for proxy in self._running:
            proxy.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes, and ends them after the test."""
    start = Start(tmp_path)
    yield start
    start.end()


@pytest.fixture
def two_hops(upstream: Upstream) -> TwoHops:
    return TwoHops(upstream.port)


def public_python() -> str:
    """A Python of this version that any user can run, with pymosn in PYTHON_PATH; skips the test if there is none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        with contextlib.suppress(OSError):
            found = subprocess.run(
                [candidate, "-c", "import pymosn.server.supervisor"],
                env={"PYTHONPATH": PYTHON_PATH},
                user="nobody",
                group=pwd.getpwnam("nobody").pw_gid,
                extra_groups=[],
                capture_output=True,
                cwd="/",
            )
            if found.returncode == 0:
                return candidate
    pytest.skip("no Python that the user nobody can run")


def build_shim(factory: pytest.TempPathFactory, name: str) -> str:
    """Compiles `name`.c of this folder to a library for LD_PRELOAD; skips the test without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    made = factory.mktemp("shim") / f"{name}.so"
    source = Path(__file__).parent / f"{name}.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True)
    return str(made)
