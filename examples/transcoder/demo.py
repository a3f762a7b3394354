"""Starts a Dubbo provider and pymosn, calls the provider through pymosn as curl would, and stops both.

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
    options = arguments.parse_args()
    provider = Provider(options.provider_port)
    command = [sys.executable, "-m", "pymosn", "start", "-c", options.config]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert proxy.stdout is not None
        # Reads the program's output until it is ready; it ends if the program cannot start.
        if not any("ready:" in line for line in proxy.stdout):
            raise SystemExit("pymosn did not start")
        for path, body in CALLS:
            print(f"curl -d '{body}' 'http://127.0.0.1:{options.port}{path}'")
            print("  ", *call(options.port, path, body))
    finally:
        proxy.terminate()
        proxy.communicate(timeout=60)
        provider.shutdown()
        provider.server_close()


def call(port: int, path: str, body: str) -> tuple[int, str]:
    """Status and body of the response to one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    main()
