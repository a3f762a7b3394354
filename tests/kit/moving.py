"""A client's connection that moves from one Talk to another, as from a worker to one of the next generation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tests.kit.peers import Peer
from tests.kit.talk import Talk

from pymosn.api.network import Passage
from pymosn.network.arrived import ArrivedConnection
from pymosn.network.connection import TcpConnection
from pymosn.server.upgrade.messages import MOVED, MovedConnection
from pymosn.server.upgrade.moving import message_of, passage_of


class Leaving:
    """The connections of a Talk whose worker leaves."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        #: Those that have offered themselves.
        self.offers: list[TcpConnection] = []
        talk.listener.departable = self.offers.append

    def notify(self, client: Peer, moves: bool = True) -> None:
        """The connection learns that the worker leaves."""
        self.talk.do(lambda: connection_of(client).on_depart(moves))

    def passage(self, client: Peer) -> Passage | None:
        """What the connection would take along now; None if it cannot go."""
        found: list[Passage | None] = []
        self.talk.do(lambda: found.append(self.talk.listener.passage_of(connection_of(client))))
        return found[0]

    def move(self, client: Peer, other: Talk) -> Peer:
        """Moves the connection; returns the same client at the other worker."""
        passage = self.passage(client)
        assert passage is not None, "the connection cannot move now"
        connection = connection_of(client)
        self.talk.do(lambda: self.talk.listener.depart(connection))
        assert client.transport.is_aborted
        assert not client.transport.sent_eof
        message = MOVED.decode(msgspec.msgpack.encode(message_of("l", "", passage)))
        assert isinstance(message, MovedConnection)
        return arrive(other, passage_of(message), client.takes(), list(client.transport.incoming))


def connection_of(client: Peer) -> TcpConnection:
    """The proxy's side of a client's connection."""
    connection = client.transport.protocol
    assert isinstance(connection, TcpConnection)
    return connection


def arrive(talk: Talk, passage: Passage, received: bytes = b"", waiting: Sequence[bytes] = ()) -> Peer:
    """A client whose connection was moved to this worker.

    `received`: what it has received and was not asked for. `waiting`: what waits to be read from the socket.
    """
    peer = Peer(talk.loop, f"moved client {len(talk.clients) + 1}", "192.0.2.7", 40000, talk.one_byte)
    peer.transport.received = received
    talk.clients.append(peer)
    connection = ArrivedConnection(talk.numbers.next(), talk.listener, talk.clock, talk.wheel, passage)
    peer.transport.carry(connection)
    peer.transport.incoming.extend(waiting)
    talk.do(peer.transport.pump)
    return peer
