"""gRPC through pymosn: starts a service and pymosn, and makes calls of each kind. Run `python examples/grpc/demo.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from demos import pymosn  # noqa: E402
from greeter import serve  # noqa: E402


def calls(port: int) -> Iterator[str]:
    """A line for each call."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        service = "/demo.Greeter"
        yield f"Hello: {channel.unary_unary(f'{service}/Hello')(b'Ada', timeout=10).decode()}"
        yield f"Count: {[message.decode() for message in channel.unary_stream(f'{service}/Count')(b'3', timeout=10)]}"
        yield f"Join:  {channel.stream_unary(f'{service}/Join')(iter([b'a', b'b']), timeout=10).decode()}"
        answers = channel.stream_stream(f"{service}/Shout")(iter([b"a", b"b"]), timeout=10)
        yield f"Shout: {[message.decode() for message in answers]}"
        for method in (f"{service}/Hello", "/demo.Nobody/Hello"):
            try:
                channel.unary_unary(method)(b"", timeout=10)
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call):
                    yield f"{method}: {error.code().name}, {error.details()}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--config", default=str(HERE / "config.json"))
    arguments.add_argument("--port", type=int, default=2045)
    arguments.add_argument("--service-port", type=int, default=50051)
    options = arguments.parse_args()
    server = serve(options.service_port)
    with pymosn(options.config):
        print("\n".join(calls(options.port)))
    server.stop(None)


if __name__ == "__main__":
    main()
