"""Checks that responses are correct byte for byte, and that all peers do the same work."""

import socket

from bench.cases import HTTP2, MESSAGE, Case
from bench.certificate import Certificate
from bench.http2 import Client, Reply
from bench.void import Void

#: Allowed difference between the sizes of a response and of the probe's: peers write small numbers into header fields.
SIZE_TOLERANCE = 16


def fetch(port: int, path: str, fields: dict[str, str], certificate: Certificate | None = None) -> tuple[bytes, bytes]:
    """One GET on a new loopback connection; returns head and body. Raises Void unless it is a 200 with Content-Length."""
    with connect(port, certificate) as connection:
        return exchange(connection, port, path, fields)


def connect(port: int, certificate: Certificate | None) -> socket.socket:
    """A new loopback connection, with TLS if there is a certificate."""
    return certificate.connect(port) if certificate is not None else socket.create_connection(("127.0.0.1", port), 10)


def exchange(connection: socket.socket, port: int, path: str, fields: dict[str, str]) -> tuple[bytes, bytes]:
    """One GET on `connection`, which stays open. Otherwise like `fetch`."""
    try:
        connection.sendall(request_bytes(port, path, fields))
        return read_reply(connection)
    except OSError as fault:
        raise Void(f"GET {path}: {fault}") from None


def request_bytes(port: int, path: str, fields: dict[str, str]) -> bytes:
    """The GET as sent."""
    all_fields = {"Host": f"127.0.0.1:{port}", **fields}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_reply(connection: socket.socket) -> tuple[bytes, bytes]:
    """Reads head and body of one response. Raises Void, or OSError if the connection breaks."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = _length(head)
    chunks = [body]
    missing = length - len(body)
    while missing > 0:
        chunks.append(_receive(connection))
        missing -= len(chunks[-1])
    return head + b"\r\n\r\n", b"".join(chunks)


def probe(port: int, case: Case, certificate: Certificate | None = None, times: int = 3) -> int:
    """Requests the case's path a few times and compares the bodies. Returns the size of a response, head and body.

    With HTTP/2, it is the size of the body.
    """
    size = 0
    for _ in range(times):
        if case.front == HTTP2:
            head, body = b"", ask_http2(port, case.path, case, certificate).body
        else:
            head, body = fetch(port, case.path, case.fields, certificate)
        if body != case.body:
            raise Void(f"{case.path}: a body of {len(body)} bytes differs from the upstream's {len(case.body)}")
        size = len(head) + len(body)
    return size


def ask_http2(port: int, path: str, case: Case, certificate: Certificate | None = None) -> Reply:
    """The case's request for `path` on a new connection. Raises Void unless it is a 200, with the status of gRPC if due."""
    with Client(port, certificate) as client:
        reply = client.ask(path, case.fields, MESSAGE if case.message else b"")
    if reply.field(":status") != "200":
        raise Void(f"{path}: expected a 200, got {reply.field(':status')}")
    if path == case.path and case.message and reply.field("grpc-status") != "0":
        raise Void(f"{path}: the response has no trailer grpc-status: 0")
    return reply


def check_work(port: int, case: Case, certificate: Certificate | None = None) -> None:
    """Raises Void unless the proxy at `port` adds the header fields that all peers must add, and runs its filters."""
    filters = case.filters
    if case.front == HTTP2:
        reply = ask_http2(port, "/seen", case, certificate)
        head, body = b"\r\n".join([b"", *(b": ".join(field) for field in reply.head), b""]), reply.body
    else:
        head, body = fetch(port, "/seen", case.fields, certificate)
    seen = dict(line.split("=", 1) for line in body.decode().splitlines())
    expected = {"host": case.fields.get("Host", f"127.0.0.1:{port}"), "x-forwarded-proto": case.scheme}
    expected |= {f"x-bench-{k}": "alice" if k <= filters else "" for k in (1, 2, 3)}
    for name, value in expected.items():
        if seen[name] != value:
            raise Void(f"the upstream received {name}: {seen[name]!r} instead of {value!r}")
    # Not always 127.0.0.1: for a client on loopback, Envoy uses an address of the machine instead.
    for name in ("x-forwarded-for", "x-request-id"):
        if not seen[name]:
            raise Void(f"the upstream received no {name}")
    response = head.lower()
    for k in range(1, filters + 1):
        if f"\r\nx-served-{k}: bench\r\n".encode() not in response:
            raise Void(f"the response has no x-served-{k}: header filter {k} did not run")


def check_totals(case: Case, requests: int, received: int, response_size: int, arrived: int, spare: int) -> None:
    """Raises Void if the totals of a run are inconsistent.

    `received`: bytes that the load generator read. `arrived`: requests that the upstream counted. `spare`: additional
    requests that the upstream may have counted, because they were in flight when the load stopped.
    """
    if requests == 0:
        raise Void("no request completed")
    slack = requests * SIZE_TOLERANCE
    least = requests * response_size - slack
    most = (requests + case.in_flight) * response_size + slack
    if not least <= received <= most:
        raise Void(f"{requests} responses of {response_size} bytes are not {received} bytes: some differ from the probe's")
    if not requests <= arrived <= requests + spare:
        raise Void(f"{requests} requests completed but {arrived} reached the upstream")


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionError("the connection closed within a reply")
    return data


def _length(head: bytes) -> int:
    status_line, *lines = head.split(b"\r\n")
    if status_line.split(b" ")[1:2] != [b"200"]:
        raise Void(f"expected a 200, got {status_line.decode(errors='replace')!r}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise Void("the response has no content-length")
