"""HTTP/1 and Bolt through one port: starts both servers and pymosn and calls. Run `python examples/auto/demo.py`."""

import argparse
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "bolt")]

from demos import patiently, pymosn, serve_http  # noqa: E402
from peers import call, serve  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "auto.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--http-port", type=int, default=8080)
    arguments.add_argument("--bolt-port", type=int, default=8081)
    asked = arguments.parse_args()
    serve(asked.bolt_port)
    serve_http(asked.http_port)
    with pymosn(asked.config):
        print("\n".join(patiently(lambda: call(asked.port, 2))))
        with urllib.request.urlopen(f"http://127.0.0.1:{asked.port}/world", timeout=30) as reply:
            print(reply.read().decode())


if __name__ == "__main__":
    main()
