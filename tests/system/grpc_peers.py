"""A grpcio server with every kind of call, and generic clients for it: messages are bytes, so that nothing is generated."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SERVICE = "test.Echo"
PATIENCE = 20.0
#: No limit of a message, on both sides.
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class EchoServer:
    """The service `test.Echo`, and `grpc.health.v1.Health`."""

    def __init__(self, name: str = "one") -> None:
        self.name = name
        self.is_serving = True
        #: Calls of `Flaky` that fail before one succeeds, and of calls in all.
        self.failures = 0
        self.calls = 0
        #: Set when a call was cancelled by its client; holds the time that a call had left when it arrived.
        self.was_cancelled = threading.Event()
        self.time_left = 0.0
        self._server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {
            "Say": unary(self._say),
            "Name": unary(lambda request, context: self.name.encode()),
            "Fail": unary(self._fail),
            "Flaky": unary(self._flaky),
            "FlakyStream": stream(self._flaky_stream),
            "HeadThenFail": unary(self._head_then_fail),
            "Sleep": unary(self._sleep),
            "Count": stream(self._count),
            "Endless": stream(self._endless),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        health = {"Check": unary(self._check)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, methods),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            )
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE)

    def _check(self, request: bytes, context: Any) -> bytes:
        return b"\x08\x01" if self.is_serving else b"\x08\x02"

    def _say(self, request: bytes, context: Any) -> bytes:
        """Echoes the message and the metadata whose names begin with `x-`."""
        found = tuple((key, value) for key, value in context.invocation_metadata() if key.startswith("x-"))
        context.send_initial_metadata(found)
        context.set_trailing_metadata((("x-end", "done"), ("x-end-bin", b"\0\xff")))
        return request

    def _fail(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-why", "told to"),))
        context.abort(grpc.StatusCode(_status(int(request))), "50 % kaputt: größer \u20ac\n")
        return b""

    def _flaky(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        if self.calls <= self.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return request

    def _flaky_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.calls += 1
        yield request
        context.abort(grpc.StatusCode.UNAVAILABLE, "after a message")

    def _head_then_fail(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        context.send_initial_metadata((("x-try", str(self.calls)),))
        if self.calls <= self.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return request

    def _sleep(self, request: bytes, context: Any) -> bytes:
        self.time_left = context.time_remaining() or 0.0
        context.add_callback(self._on_end)
        threading.Event().wait(float(request)) if float(request) else None
        return b"awake"

    def _on_end(self) -> None:
        self.was_cancelled.set()

    def _count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def _endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self._on_end)
        yield b"first"
        while context.is_active():
            self.was_cancelled.wait(0.01)

    def _sum(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"%d" % sum(int(request) for request in requests)

    def _chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request[::-1]


def _status(number: int) -> Any:
    return next(code.value for code in grpc.StatusCode if code.value[0] == number)


class Client:
    """A channel, and its calls by the name of the method. `repeats`: calls that the server has not processed."""

    def __init__(self, port: int, *options: tuple[str, Any], compression: Any = None, repeats: bool = False) -> None:
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            options=[*UNLIMITED, ("grpc.enable_retries", int(repeats)), *options],
            compression=compression,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def unary(self, method: str, service: str = SERVICE) -> Any:
        return self._channel.unary_unary(f"/{service}/{method}")

    def streams(self, method: str) -> Any:
        """A call whose server streams."""
        return self._channel.unary_stream(f"/{SERVICE}/{method}")

    def uploads(self, method: str) -> Any:
        """A call whose client streams."""
        return self._channel.stream_unary(f"/{SERVICE}/{method}")

    def chats(self, method: str) -> Any:
        """A call in which both stream."""
        return self._channel.stream_stream(f"/{SERVICE}/{method}")
