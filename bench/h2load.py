"""The load generator of the HTTP/2 cases: h2load, a closed loop of connections with many requests in flight on each."""

import os
import re
import subprocess
from pathlib import Path
from statistics import quantiles

from bench.cases import MESSAGE, Case
from bench.install import debian_tool
from bench.load import LoadResult
from bench.processes import on_core
from bench.void import Void

COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")


class H2load:
    """The program h2load on the load core."""

    def __init__(self, core: int, directory: Path, tls_settings: Path) -> None:
        """`directory`: for its files. `tls_settings`: for OpenSSL. Raises Unavailable if it cannot be found or installed."""
        self.program = debian_tool("h2load", package="nghttp2-client")
        self.core = core
        self.environment = {**os.environ, "OPENSSL_CONF": str(tls_settings)}
        self.log = directory / "h2load.log"
        self.message = directory / "h2load.message"
        self.message.write_bytes(MESSAGE)

    def run(self, port: int, case: Case, seconds: float) -> LoadResult:
        """Loads the proxy at `port`; `bytes` are those of the bodies. Raises Void if any request fails."""
        self.log.unlink(missing_ok=True)
        command = [
            self.program,
            "-t",
            "1",
            "-c",
            str(case.connections),
            "-m",
            str(case.parallel),
            "-D",
            f"{int(seconds * 1000)}ms",
        ]
        command += ["--log-file", str(self.log)]
        for name, value in case.fields.items():
            command += ["-H", f"{name}: {value}"]
        if case.message:
            command += ["-d", str(self.message)]
        with on_core(self.core):
            done = subprocess.run(
                [*command, f"{case.scheme}://127.0.0.1:{port}{case.path}"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds + 60,
            )
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return parse(done.stdout, [int(line.rpartition("\t")[2]) for line in lines])

    def warm_up(self, port: int, case: Case, seconds: float) -> None:
        """The same load for a moment, without counting."""
        self.run(port, case, seconds)


def parse(output: str, latencies: list[int]) -> LoadResult:
    """Parses the output of h2load and the microseconds from its log. Raises Void if it is missing or contains errors."""
    counts, took = COUNTS.search(output), re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", output)
    statuses = re.search(r"status codes: (\d+) 2xx, (.*)", output)
    data = re.search(r", [^,]*\((\d+)\) data", output)
    if counts is None or took is None or statuses is None or data is None:
        raise Void(f"h2load printed no result: {output.strip()[-300:] or 'no output'}")
    total, done, succeeded, failed, errored = map(int, counts.groups())
    if failed or errored or not total == done == succeeded or statuses[2] != "0 3xx, 0 4xx, 0 5xx":
        raise Void(f"h2load counted errors: {counts[0]}; status codes: {statuses[1]} 2xx, {statuses[2]}")
    seconds = float(took[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[took[2]]
    cuts = quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return LoadResult(total, int(data[1]), seconds, int(cuts[49]), int(cuts[98]))
