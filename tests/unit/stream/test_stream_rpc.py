"""Multiplexed connections: what tests/conversations does not cover."""

from __future__ import annotations

import contextlib

import pytest
from tests.kit import bolt_frames as bolt
from tests.kit.options import rpc_options

from pymosn.api.network import Connection, NetworkFilter
from pymosn.api.rpc import MAX_FRAME, RpcRequest, RpcResponse
from pymosn.api.stream import RequestReceiver, ResponseReceiver, ResponseSender, StreamHandler
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, HttpHeaders
from pymosn.core.message import RequestHead
from pymosn.protocol.bolt.codec import BoltSpec
from pymosn.stream.rpc.client import RpcClient
from pymosn.stream.rpc.options import YIELD_SIZE
from pymosn.stream.rpc.server import RpcServer
from pymosn.stream.shared import SharedPool


class Peer(Connection):
    """Counts how often other connections were given their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turns_given = 0
        self.out = FrameWriter()

    def yield_reading(self) -> None:
        self.turns_given += 1

    def set_idle(self, seconds: float) -> None:
        pass

    def batch_writer(self) -> FrameWriter:
        return self.out


class Done(RequestReceiver):
    """A request that is over at once."""

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self._sender.release()


class Calls(StreamHandler):
    """Counts the requests that begin."""

    def __init__(self) -> None:
        self.count = 0

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        self.count += 1
        return Done(sender)


class Strays(SharedPool):
    """Counts unexpected replies."""

    def __init__(self) -> None:
        self.count = 0

    def on_unexpected_message(self) -> None:
        self.count += 1


ONE_WAY = bolt.request(1, b"", kind=2)
REPLY = bolt.response(1)


@pytest.mark.parametrize("much", [False, True])
def test_a_peer_that_sends_much_at_once_lets_others_have_their_turn(much: bool) -> None:
    calls, strays, downstream, upstream = Calls(), Strays(), Peer(), Peer()
    halves: list[tuple[NetworkFilter, Peer, bytes, Calls | Strays]] = [
        (RpcServer(BoltSpec(1), calls, rpc_options()), downstream, ONE_WAY, calls),
        (RpcClient(strays, BoltSpec(1), MAX_FRAME), upstream, REPLY, strays),
    ]
    for half, peer, frame, counted in halves:
        half.on_connection(peer)
        count = int(YIELD_SIZE) // len(frame) + (1 if much else 0)
        half.on_data(frame * count)
        assert (counted.count, peer.turns_given) == (count, 1 if much else 0)


class HalfRequest(RpcRequest):
    """Of a package whose code fails in the middle of a frame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(HttpHeaders(), 1, b"", b"", False)
        self.error = error

    def build(self, number: int, payload: bytes, out: FrameWriter) -> None:
        out.write(b"half")
        raise self.error


class HalfReply(RpcResponse):
    """The same of a reply."""

    def build(self, number: int, payload: bytes, out: FrameWriter) -> None:
        out.write(b"half")
        raise KeyError


@pytest.mark.parametrize("error", [KeyError("x"), HeaderError("x")])
def test_half_a_request_is_not_sent(error: Exception) -> None:
    upstream = Peer()
    client = RpcClient(Strays(), BoltSpec(1), MAX_FRAME)
    client.on_connection(upstream)
    client.probe()
    size = upstream.out.size()
    stream = client.open_stream(ResponseReceiver())
    with contextlib.suppress(KeyError, NotImplementedError):
        stream.send_request(HalfRequest(error), b"", True)
    assert (upstream.out.size(), client.load()) == (size, 0)


def test_half_a_reply_is_not_sent() -> None:
    downstream = Peer()
    server = RpcServer(BoltSpec(1), Calls(), rpc_options())
    server.on_connection(downstream)
    server.on_data(bolt.request(1, command=0))  # a heartbeat: its answer is to stay
    size = downstream.out.size()
    assert size > 0
    with pytest.raises(KeyError):
        server.send(HalfRequest(KeyError()), HalfReply(HttpHeaders(), 200, b"", b""), b"")
    assert downstream.out.size() == size
