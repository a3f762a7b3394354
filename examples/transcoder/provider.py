"""A small Dubbo provider for the demo, written in Python: `demo.Greeter` with `hello`, `sum`, `nothing` and `fail`."""

from __future__ import annotations

import socketserver
import threading

from pymosn.api.protocol import HEARTBEAT, NEED_MORE, REQUEST
from pymosn.protocol.dubbo.attachments import argument_count
from pymosn.protocol.dubbo.codec import DubboDecoder
from pymosn.protocol.dubbo.frames import HESSIAN2, OK, SERVICE_NOT_FOUND, make_frame
from pymosn.protocol.dubbo.values import Hessian2ValueReader, write_value

EXCEPTION = (
    b"C"
    + write_value("demo.Unhappy")
    + write_value(1)
    + write_value("detailMessage")
    + b"\x60"
    + write_value("as you wished")
)


class Provider(socketserver.ThreadingTCPServer):
    """Serves on `127.0.0.1:port` until it is shut down."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Caller)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Caller(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        decoder = DubboDecoder(1 << 20)
        while data := self.request.recv(65536):
            decoder.feed(data)
            while (found := decoder.decode()) != NEED_MORE:
                if found == HEARTBEAT:
                    self.request.sendall(decoder.answer)
                elif found == REQUEST and decoder.request is not None:
                    status, body = result(decoder.request.payload)
                    self.request.sendall(make_frame(HESSIAN2, status, decoder.request_id, body))


def result(body: bytes) -> tuple[int, bytes]:
    """Status and body of the response to the call `body`."""
    reader = Hessian2ValueReader(body)
    _, service, _, method, types = (reader.value() for _ in range(5))
    arguments = [reader.value() for _ in range(argument_count(str(types).encode()))]
    if service != "demo.Greeter" or method not in ("hello", "sum", "nothing", "fail"):
        return SERVICE_NOT_FOUND, write_value(f"no {method}({types}) of {service} here")
    if method == "fail":
        return OK, write_value(0) + EXCEPTION
    if method == "nothing":
        return OK, write_value(2)
    value: object = sum(number for number in arguments if isinstance(number, (int, float)))
    if method == "hello":
        value = {"greeting": "hello " + " and ".join(map(str, arguments)), "types": types}
    return OK, write_value(1) + write_value(value)
