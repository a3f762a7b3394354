"""HTTP/1 and Bolt through one port: starts both servers and pymosn, and calls them. Run `python examples/auto/demo.py`."""

import argparse
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "bolt")]

from demos import pymosn, retry, serve_http  # noqa: E402
from peers import call, serve  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "auto.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--http-port", type=int, default=8080)
    arguments.add_argument("--bolt-port", type=int, default=8081)
    options = arguments.parse_args()
    serve(options.bolt_port)
    serve_http(options.http_port)
    with pymosn(options.config):
        print("\n".join(retry(lambda: call(options.port, 2))))
        with urllib.request.urlopen(f"http://127.0.0.1:{options.port}/world", timeout=30) as response:
            print(response.read().decode())


if __name__ == "__main__":
    main()
