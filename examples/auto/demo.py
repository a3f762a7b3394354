"""HTTP/1 and Bolt through one port: starts both servers and pymosn and calls. Run `python examples/auto/demo.py`."""

import argparse
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bolt"))

from peers import call, serve  # noqa: E402


class Hello(BaseHTTPRequestHandler):
    """The HTTP server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello {self.path}".encode())

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "auto.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--http-port", type=int, default=8080)
    arguments.add_argument("--bolt-port", type=int, default=8081)
    asked = arguments.parse_args()
    serve(asked.bolt_port)
    server = HTTPServer(("127.0.0.1", asked.http_port), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = subprocess.Popen([sys.executable, "-m", "pymosn", "start", "-c", asked.config], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                print("\n".join(call(asked.port, 2)))
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{asked.port}/world", timeout=10) as reply:
            print(reply.read().decode())
    finally:
        proxy.terminate()
        proxy.wait(20)


if __name__ == "__main__":
    main()
