"""Starts a Bolt server and pymosn with both hops, and calls through them. Run `python examples/bolt/demo.py`."""

import argparse
import sys
from pathlib import Path

from peers import call, serve

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from demos import pymosn, retry  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "both.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--server-port", type=int, default=8080)
    options = arguments.parse_args()
    serve(options.server_port)
    with pymosn(options.config):
        for response in retry(lambda: call(options.port, 3)):
            print(response)


if __name__ == "__main__":
    main()
