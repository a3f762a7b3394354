"""What a multiplexed connection does beside its conversations (see tests/conversations)."""

from __future__ import annotations

import pytest
from tests import bolt_frames as bolt

from pymosn.api.network import Connection, NetworkFilter
from pymosn.api.rpc import MAX_FRAME
from pymosn.api.stream import RequestReceiver, ResponseSender, StreamListener
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.message import RequestHead
from pymosn.protocol.bolt.spec import BoltSpec
from pymosn.stream.multiplexed.client import ClientOwner, MultiplexedClient
from pymosn.stream.multiplexed.options import MUCH, MultiplexedOptions
from pymosn.stream.multiplexed.server import MultiplexedServer


class Peer(Connection):
    """Counts how often other connections were given their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turns_given = 0

    def give_way(self) -> None:
        self.turns_given += 1

    def set_idle(self, seconds: float) -> None:
        pass

    def soon(self) -> FrameWriter:
        return FrameWriter()


class Done(RequestReceiver):
    """A request that is over at once."""

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self._sender.release()


class Calls(StreamListener):
    """Counts the requests that begin."""

    def __init__(self) -> None:
        self.count = 0

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        self.count += 1
        return Done(sender)


class Strays(ClientOwner):
    """Counts the replies that nobody asked for."""

    def __init__(self) -> None:
        self.count = 0

    def on_stray(self) -> None:
        self.count += 1


ONE_WAY = bolt.request(1, b"", kind=2)
REPLY = bolt.response(1)


@pytest.mark.parametrize("much", [False, True])
def test_a_peer_that_sends_much_at_once_lets_others_have_their_turn(much: bool) -> None:
    calls, strays, downstream, upstream = Calls(), Strays(), Peer(), Peer()
    halves: list[tuple[NetworkFilter, Peer, bytes, Calls | Strays]] = [
        (MultiplexedServer(BoltSpec(1), calls, MultiplexedOptions()), downstream, ONE_WAY, calls),
        (MultiplexedClient(strays, BoltSpec(1), MAX_FRAME), upstream, REPLY, strays),
    ]
    for half, peer, frame, counted in halves:
        half.on_connection(peer)
        count = int(MUCH) // len(frame) + (1 if much else 0)
        half.on_data(frame * count)
        assert (counted.count, peer.turns_given) == (count, 1 if much else 0)
