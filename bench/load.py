"""The load generator: wrk, a closed loop of connections with one request in flight on each."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.install import debian_tool
from bench.processes import on_core
from bench.void import Void

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class LoadResult:
    """The figures of wrk. Latencies are microseconds, from sending a request to the end of its response."""

    requests: int
    bytes: int
    seconds: float
    p50: int
    p99: int


class Wrk:
    """Debian's wrk on the load core."""

    def __init__(self, core: int, tls_settings: Path) -> None:
        """`tls_settings`: for OpenSSL. Raises Unavailable if wrk cannot be found or installed."""
        self.program = debian_tool("wrk")
        self.core = core
        self.environment = {**os.environ, "OPENSSL_CONF": str(tls_settings)}

    def run(self, port: int, case: Case, seconds: int) -> LoadResult:
        """Loads the proxy at `port`. Raises Void if any request fails."""
        with on_core(self.core):
            process = subprocess.Popen(
                self._command(port, case, seconds),
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            output, _ = process.communicate(timeout=seconds + 30)
        finally:
            process.kill()
            process.wait()
        return parse(output)

    def warm_up(self, port: int, case: Case, seconds: float) -> None:
        """Applies the same load for a moment, without counting. Raises Void if any request fails."""
        with on_core(self.core):
            process = subprocess.Popen(
                self._command(port, case, 60),
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        parse(output)

    def _command(self, port: int, case: Case, seconds: int) -> list[str]:
        command = [
            self.program,
            "-t",
            "1",
            "-c",
            str(case.connections),
            "-d",
            f"{seconds}s",
            "--timeout",
            "10s",
        ]
        for name, value in case.fields.items():
            command += ["-H", f"{name}: {value}"]
        return [*command, "-s", str(SCRIPT), f"{case.scheme}://127.0.0.1:{port}{case.path}"]


def parse(output: str) -> LoadResult:
    """Parses the output of `load.lua`. Raises Void if it is missing or contains errors."""
    result = result_of(output, "wrk")
    errors = {kind: count for kind, count in result["errors"].items() if count}
    if errors:
        text = ", ".join(f"{count} {kind}" for kind, count in errors.items())
        raise Void(f"wrk counted errors: {text}, in addition to {result['requests']} completed requests")
    return LoadResult(result["requests"], result["bytes"], result["microseconds"] / 1e6, result["p50"], result["p99"])


def result_of(output: str, program: str) -> dict[str, Any]:
    """The object after `result ` in the output of a load generator. Raises Void if there is none."""
    for line in output.splitlines():
        if line.startswith("result "):
            found: dict[str, Any] = json.loads(line.removeprefix("result "))
            return found
    raise Void(f"{program} printed no result: {output.strip()[-300:] or 'no output'}")
