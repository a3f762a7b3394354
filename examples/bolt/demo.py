"""Starts a Bolt server and pymosn with both hops, calls through them and ends. Run `python examples/bolt/demo.py`."""

import argparse
import sys
from pathlib import Path

from peers import call, serve

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from demos import patiently, pymosn  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "both.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--server-port", type=int, default=8080)
    asked = arguments.parse_args()
    serve(asked.server_port)
    with pymosn(asked.config):
        for reply in patiently(lambda: call(asked.port, 3)):
            print(reply)


if __name__ == "__main__":
    main()
