"""Starts a Dubbo provider and pymosn, calls the one through the other as curl would, and ends everything.

Run `python examples/transcoder/demo.py`.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
from pathlib import Path

from provider import Provider

HERE = Path(__file__).parent
CALLS = (
    ("/demo.Greeter/hello", '["Ada", {"born": 1815}]'),
    ("/demo.Greeter/sum?types=long,double", "[1, 2.5]"),
    ("/demo.Greeter/nothing", ""),
    ("/demo.Greeter/fail", "[]"),
    ("/demo.Nobody/hello", "[]"),
    ("/demo.Greeter/hello", '["Ada"'),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--config", default=str(HERE / "config.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--provider-port", type=int, default=20880)
    asked = arguments.parse_args()
    provider = Provider(asked.provider_port)
    command = [sys.executable, "-m", "pymosn", "start", "-c", asked.config]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert proxy.stdout is not None
        # The lines that the program writes, until it serves; their end where it cannot.
        if not any("ready:" in line for line in proxy.stdout):
            raise SystemExit("pymosn did not start")
        for path, body in CALLS:
            print(f"curl -d '{body}' 'http://127.0.0.1:{asked.port}{path}'")
            print("  ", *call(asked.port, path, body))
    finally:
        proxy.terminate()
        proxy.communicate(timeout=60)
        provider.shutdown()
        provider.server_close()


def call(port: int, path: str, body: str) -> tuple[int, str]:
    """Status and body of the reply to one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    main()
