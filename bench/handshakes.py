"""The load of the handshake cases: parallel connections, each for one GET, all with full or all with resumed handshakes.

    python -m bench.handshakes PORT SECONDS PARALLEL full|resumed CHAIN < REQUEST

It runs in a process on the load core, and prints the line that wrk prints with `load.lua`. wrk itself resumes sessions on
some connections and does not tell on which.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import quantiles

from bench.cases import FULL, SMALL_BODY, Case
from bench.certificate import NAME, SUITE, Certificate, client_context
from bench.load import LoadResult, parse
from bench.processes import on_core
from bench.verify import read_reply, request_bytes
from bench.void import Void


class Handshakes:
    """Clients on one core, each in a thread."""

    def __init__(self, port: int, request: bytes, context: ssl.SSLContext) -> None:
        self._port = port
        self._request = request
        self._context = context
        self._session: ssl.SSLSession | None = None
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._bytes = 0
        self._fault = ""

    def run(self, seconds: float, parallel: int, kind: str) -> dict[str, object]:
        """Loads the proxy; returns the figures. Raises Void if one connection is not as it must be."""
        session = self._ask()
        if kind != FULL:
            self._session = session  # all resume it
        self._times.clear()
        self._bytes = 0
        started = time.perf_counter()
        threads = [threading.Thread(target=self._repeat, args=(started + seconds,)) for _ in range(parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._fault:
            raise Void(self._fault)
        passed = time.perf_counter() - started
        cuts = quantiles(self._times, n=100) if len(self._times) > 1 else [0.0] * 99
        return {
            "requests": len(self._times),
            "bytes": self._bytes,
            "microseconds": int(passed * 1e6),
            "p50": int(cuts[49] * 1e6),
            "p99": int(cuts[98] * 1e6),
            "errors": {},
        }

    def _repeat(self, until: float) -> None:
        try:
            while time.perf_counter() < until and not self._fault:
                self._ask()
        except (OSError, Void) as fault:
            self._fault = f"connection {len(self._times) + 1}: {fault}"

    def _ask(self) -> ssl.SSLSession | None:
        started = time.perf_counter()
        raw = socket.create_connection(("127.0.0.1", self._port), 10)
        with self._context.wrap_socket(raw, server_hostname=NAME, session=self._session) as connection:
            agreed = connection.version(), (connection.cipher() or ("",))[0], connection.session_reused
            if agreed != ("TLSv1.3", SUITE, self._session is not None):
                raise Void(f"version, cipher suite and whether it is resumed: {agreed}")
            connection.sendall(self._request)
            head, body = read_reply(connection)
            if connection.recv(1):
                raise Void("received more than the response")
            if body != SMALL_BODY:
                raise Void(f"the body is {body[:80]!r}")
            session = connection.session
        with self._lock:
            self._times.append(time.perf_counter() - started)
            self._bytes += len(head) + len(body)
        return session


def run_handshakes(port: int, case: Case, seconds: int, certificate: Certificate, core: int) -> LoadResult:
    """Loads the proxy at `port` from a process on `core`. Raises Void if one connection is not as it must be."""
    arguments = [str(port), str(seconds), str(case.connections), case.handshakes, str(certificate.chain)]
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.handshakes", *arguments],
            env={**os.environ, "OPENSSL_CONF": str(certificate.client_settings)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    try:
        output, _ = process.communicate(request_bytes(port, case.path, case.fields), timeout=seconds + 30)
    finally:
        process.kill()
        process.wait()
    return parse(output.decode(errors="replace"))


def main(arguments: list[str]) -> int:
    """Runs one load; returns the exit code."""
    port, seconds, parallel, kind, chain = arguments
    load = Handshakes(int(port), sys.stdin.buffer.read(), client_context(Path(chain)))
    try:
        result = load.run(float(seconds), int(parallel), kind)
    except (OSError, Void) as fault:
        print(f"a handshake failed: {fault}")
        return 1
    print(f"result {json.dumps(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
