"""A gRPC service without generated code: messages are plain text. Run `python greeter.py` to serve it on port 50051."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


def hello(name: bytes, context: Any) -> bytes:
    """Greets; a call without a name fails."""
    if not name:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "who are you?")
    return b"Hello, " + name


def count(most: bytes, context: Any) -> Iterator[bytes]:
    """Counts up to a number, a message each."""
    for number in range(1, int(most) + 1):
        yield b"%d" % number


def join(words: Iterator[bytes], context: Any) -> bytes:
    """All messages of the client in one."""
    return b" ".join(words)


def shout(words: Iterator[bytes], context: Any) -> Iterator[bytes]:
    """Answers each message as it arrives."""
    for word in words:
        yield word.upper()


def serve(port: int) -> Any:
    """Starts the service, and `grpc.health.v1.Health`; the server. Its `stop(None)` ends it."""
    methods = {
        "Hello": grpc.unary_unary_rpc_method_handler(hello),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Shout": grpc.stream_stream_rpc_method_handler(shout),
    }
    # HealthCheckResponse with status SERVING, in protobuf.
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")}
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("demo.Greeter", methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        raise SystemExit(f"port {port} is in use")
    server.start()
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 50051).wait_for_termination()
