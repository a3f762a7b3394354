"""HTTP and bytes of any other kind through one port: starts both servers and pymosn. Run `python examples/tcp/demo.py`."""

import argparse
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

HERE = Path(__file__).parent


class Hello(BaseHTTPRequestHandler):
    """The HTTP server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello {self.path}".encode())

    def log_message(self, *arguments: object) -> None:
        pass


def shout(listener: socket.socket) -> None:
    """The other server: gives back what it gets, in capitals, when the client has said everything."""
    while True:
        connection, _ = listener.accept()
        with connection:
            said = b""
            while data := connection.recv(65536):
                said += data
            connection.sendall(said.upper())


def say(port: int, text: str) -> str:
    """Says `text`, which is no protocol's, and gives the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", default=str(HERE / "fallback.json"))
    arguments.add_argument("--port", type=int, default=2046)
    arguments.add_argument("--http-port", type=int, default=8080)
    arguments.add_argument("--tcp-port", type=int, default=9090)
    asked = arguments.parse_args()
    server = HTTPServer(("127.0.0.1", asked.http_port), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=shout, args=(socket.create_server(("127.0.0.1", asked.tcp_port)),), daemon=True).start()
    proxy = subprocess.Popen([sys.executable, "-m", "pymosn", "start", "-c", asked.config], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                print(say(asked.port, "what protocol is this?"))
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
