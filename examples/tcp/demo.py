"""HTTP and bytes of any other kind through one port: starts both servers and pymosn. Run `python examples/tcp/demo.py`."""

import argparse
import socket
import sys
import threading
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from demos import patiently, pymosn, serve_http  # noqa: E402


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
    asked = arguments.parse_args()
    serve_http(asked.http_port)
    threading.Thread(target=shout, args=(socket.create_server(("127.0.0.1", asked.tcp_port)),), daemon=True).start()
    with pymosn(asked.config):
        print(patiently(lambda: say(asked.port, "what protocol is this?")))
        with urllib.request.urlopen(f"http://127.0.0.1:{asked.port}/world", timeout=30) as reply:
            print(reply.read().decode())


if __name__ == "__main__":
    main()
