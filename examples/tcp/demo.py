"""HTTP and other protocols through one port: starts both servers and pymosn. Run `python examples/tcp/demo.py`."""

import argparse
import socket
import sys
import threading
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from demos import pymosn, retry, serve_http  # noqa: E402


def shout(listener: socket.socket) -> None:
    """The TCP server: returns each connection's data in upper case once the client has half-closed."""
    while True:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
            connection.sendall(received.upper())


def exchange(port: int, text: str) -> str:
    """Sends `text`, which is in no known protocol, and returns the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
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
    options = arguments.parse_args()
    serve_http(options.http_port)
    threading.Thread(target=shout, args=(socket.create_server(("127.0.0.1", options.tcp_port)),), daemon=True).start()
    with pymosn(options.config):
        print(retry(lambda: exchange(options.port, "what protocol is this?")))
        with urllib.request.urlopen(f"http://127.0.0.1:{options.port}/world", timeout=30) as response:
            print(response.read().decode())


if __name__ == "__main__":
    main()
