"""HTTP over a unix socket, as for changes through the admin API."""

import http.client
import json
import socket
from typing import Any


class UnixHttp(http.client.HTTPConnection):
    """A connection to the unix socket at a path."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def post_unix(path: str, target: str, value: Any, timeout: float) -> tuple[int, Any]:
    """POSTs a value as JSON (None: no body); returns the status and the JSON of the response."""
    connection = UnixHttp(path, timeout)
    try:
        connection.request("POST", target, None if value is None else json.dumps(value))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
