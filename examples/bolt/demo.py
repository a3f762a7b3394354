"""Starts a Bolt server and pymosn with both hops, calls through them and ends. Run `python examples/bolt/demo.py`."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from peers import call, serve

HERE = Path(__file__).parent


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "both.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--server-port", type=int, default=8080)
    asked = arguments.parse_args()
    serve(asked.server_port)
    proxy = subprocess.Popen([sys.executable, "-m", "pymosn", "start", "-c", asked.config], stdout=subprocess.DEVNULL)
    try:
        for reply in calls(asked.port):
            print(reply)
    finally:
        proxy.terminate()
        proxy.wait(20)


def calls(port: int) -> list[str]:
    """Three calls, once the proxy is there."""
    for _ in range(100):
        try:
            return call(port, 3)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


if __name__ == "__main__":
    main()
