"""Random events of HTTP/2 on both sides, by the hundred: nothing leaks, nothing stalls, and no byte is lost or changed.

`Chaos` plays failures of every kind. In the end each exchange has ended, and all permits, gauges, timers and connections
are given back (`Talk.end`). `Flow` moves content both ways while windows and sockets open and close.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.kit import h2_frames as wire
from tests.kit.h2_end import Stream
from tests.kit.h2_peers import H2Client, H2Peer, H2Upstream, h2_client, h2_upstream, request
from tests.kit.talk import HOST, Talk

from pymosn.api import Exchange, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED, CONNECT_TIMEOUT
from pymosn.protocol.http2.frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    LARGEST_STREAM_ID,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    REFUSED_STREAM,
)
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.plan import HeartbeatPlan, HostPlan, LimitPlan

CODES = [int(code) for code in (REFUSED_STREAM, CANCEL, NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM)]
STREAMS = int(MAX_CONCURRENT_STREAMS)
WINDOW = int(INITIAL_WINDOW_SIZE)


class Waiting(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)

    async def on_response(self, exchange: Exchange) -> None:
        await asyncio.sleep(0)


class Chaos:
    """A talk in which anything may happen."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        policy = draw.choice([None, RetryPolicy(True, 1), RetryPolicy(True, 2)])
        plan: dict[str, Any] = {
            "upstream_protocol": "Http2",
            "max_connection_age": draw.choice([0.0, 20.0]),
            "max_requests_per_connection": draw.choice([0, 0, 3]),
            "limits": LimitPlan(
                connections=draw.choice([0, 1, 2]),
                pending=draw.choice([0, 1, 3]),
                requests=draw.choice([0, 4, 100]),
                retries=draw.choice([0, 1]),
            ),
            "heartbeats": draw.choice([HeartbeatPlan(), HeartbeatPlan(10.0, 2.0, 6, 10.0)]),
        }
        self.talk = Talk(
            protocols=["Http2"],
            hosts=[f"10.0.0.{number}:80" for number in range(1, draw.randrange(2, 4))],
            plan=plan,
            routes=[Route("all", AnyRequest(), Forward("service", 5.0, ForwardOptions(retry_policy=policy)))],
            filters={"waiting": Waiting({})} if draw.random() < 0.3 else {},
            stream_idle_timeout=30.0,
        )
        self.clients: list[H2Client] = []
        self.upstreams: list[H2Upstream] = []
        self.streams: list[tuple[H2Client, Stream]] = []
        self.events = [
            *(self.connect, self.ask, self.ask, self.ask, self.go_on_asking, self.dial, self.dial, self.dial),
            *(self.answer, self.answer, self.answer, self.end_connection, self.change_limit, self.advance),
            *(self.lose_client, self.change_hosts, self.stall),
        ]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.draw.choice(self.events)()
        for peer in self.open():
            peer.peer.reads_on()
        self.settle_dials()
        self.talk.advance(130.0)
        self.settle_dials()
        self.talk.advance(70.0)
        counters = self.talk.upstream_counters()
        assert "request_active" not in counters, counters
        for peer in self.talk.clients + self.talk.upstreams:
            peer.transport.received = b""
        self.talk.end()

    def open(self) -> list[H2Peer]:
        both: list[H2Peer] = [*self.clients, *self.upstreams]
        return [peer for peer in both if not peer.peer.transport.is_lost]

    def a_client(self) -> H2Client | None:
        found = [client for client in self.clients if client.is_open()]
        return self.draw.choice(found) if found else None

    def an_upstream(self) -> H2Upstream | None:
        found = [upstream for upstream in self.upstreams if not upstream.peer.transport.is_lost]
        return self.draw.choice(found) if found else None

    # ---- clients

    def connect(self) -> None:
        if len(self.clients) < 6:
            self.clients.append(h2_client(self.talk))

    def ask(self) -> None:
        client = self.a_client()
        if client is None:
            self.connect()
            return
        kind = self.draw.randrange(4)
        body = b"" if kind < 2 else b"x" * self.draw.choice([1, 1000, 90_000])
        fields = request(b"POST" if body else b"GET")
        self.streams.append((client, client.requests(fields, body, end=kind < 3)))

    def go_on_asking(self) -> None:
        if not self.streams:
            return
        client, stream = self.draw.choice(self.streams)
        if stream.is_done or client.peer.transport.is_lost:
            return
        if stream.is_ended or self.draw.random() < 0.5:
            client.resets_stream(stream)
        else:
            client.sends_data(stream, b"z" * self.draw.choice([0, 10, 70_000]), True)

    def lose_client(self) -> None:
        client = self.a_client()
        if client is not None and self.draw.random() < 0.3:
            client.resets()

    # ---- hosts

    def dial(self) -> None:
        talk, draw = self.talk, self.draw
        if not talk.dials:
            return
        dial = talk.dials.pop(draw.randrange(len(talk.dials)))
        chance = draw.random()
        if chance < 0.2:
            dial.fails(draw.choice([CONNECT_REFUSED, CONNECT_TIMEOUT]))
            return
        peer = dial.connects(lost=chance < 0.25)
        if not peer.transport.is_lost:
            settings = ((STREAMS, draw.choice([0, 1, 2, 100])),) if draw.random() < 0.6 else ()
            upstream = h2_upstream(peer, settings)
            upstream.end.on_change = self.note_reset
            upstream.end.answers = draw.random() < 0.9
            self.upstreams.append(upstream)

    def note_reset(self, stream: Stream) -> None:
        """A stream that the proxy has reset counts no more."""
        stream.is_reset = stream.is_reset or stream.code >= 0

    def settle_dials(self) -> None:
        while self.talk.dials:
            self.talk.dials.pop().fails(CONNECT_REFUSED)

    def answer(self) -> None:
        upstream = self.an_upstream()
        if upstream is None:
            return
        found = [each for each in upstream.end.streams.values() if each.heads and not each.is_ended and not each.is_reset]
        if not found:
            return
        stream, draw = self.draw.choice(found), self.draw
        kind = draw.randrange(8)
        if kind < 3:
            upstream.responds(stream, draw.choice([200, 503]), body=b"r" * draw.choice([0, 10, 100_000]))
        elif kind == 3:
            upstream.responds(stream, 200, body=b"in part", end=False)
        elif kind == 4:
            upstream.responds(stream, 103, end=False)
        elif kind == 5:
            upstream.responds(stream, 200, end=False)
            upstream.sends_trailers(stream, [(b"a", b"b")])
        else:
            upstream.resets_stream(stream, draw.choice(CODES))

    def end_connection(self) -> None:
        upstream, draw = self.an_upstream(), self.draw
        if upstream is None:
            return
        kind = draw.randrange(6)
        last = max(upstream.end.streams, default=0)
        if kind < 3:
            upstream.sends(
                wire.goaway(draw.choice([int(LARGEST_STREAM_ID), 0, last, max(last - 2, 0)]), draw.choice([0, 2]))
            )
        elif kind == 3:
            upstream.resets()
        elif kind == 4:
            upstream.peer.shuts()
        else:
            upstream.sends(wire.data(0, b"x"))

    def change_limit(self) -> None:
        upstream = self.an_upstream()
        if upstream is None or upstream.peer.transport.waiting:
            return
        limit = upstream.end.own_settings[STREAMS] = self.draw.choice([0, 1, 2, 100])
        upstream.sends(wire.settings((STREAMS, limit)))

    # ---- the rest

    def advance(self) -> None:
        self.talk.advance(self.draw.choice([0.1, 0.1, 0.1, 1.0, 6.0, 12.0, 61.0]))

    def change_hosts(self) -> None:
        if self.draw.random() < 0.3:
            hosts = [HostPlan(f"10.0.0.{number}:80") for number in range(1, 4) if self.draw.random() < 0.6]
            self.talk.change("service", hosts=tuple(hosts) or (HostPlan(HOST),))

    def stall(self) -> None:
        if not self.open() or self.draw.random() < 0.7:
            return
        peer = self.draw.choice(self.open()).peer
        if peer.transport.is_stalled:
            peer.reads_on()
        else:
            peer.stalls()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nothing_leaks(seed: int) -> None:
    Chaos(seed).run(120)


class Flow:
    """Streams that carry content both ways."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.talk = Talk(protocols=["Http2"], plan={"upstream_protocol": "Http2"})
        sizes = [300, 5000, 65_535, 300_000]
        self.client = h2_client(self.talk, settings=((WINDOW, draw.choice(sizes)),), window=draw.choice([0, 1 << 20]))
        self.largest = draw.choice([2000, 60_000, 400_000])
        self.pairs: list[tuple[Stream, Stream]] = []
        #: What was sent on each: by the client, and by the host.
        self.sent: list[list[bytes]] = []
        settings = ((WINDOW, draw.choice(sizes)),)
        for _ in range(5):
            asked = self.client.requests(request(b"POST"), end=False)
            if not self.pairs:
                self.upstream = h2_upstream(self.talk.expect_dial(), settings, draw.choice([0, 1 << 20]))
            taken = self.upstream.takes_stream()
            self.upstream.responds(taken, 200, end=False)
            self.pairs.append((asked, taken))
            self.sent.append([b"", b""])
        self.client.end.grants = self.upstream.end.grants = False

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.talk.clock.now += 0.1  # so that windows are not opened as by a flood
            self.draw.choice([self.send, self.send, self.grant, self.grant, self.stall, self.read, self.change_window])()
        for peer in (self.client, self.upstream):
            peer.peer.reads_on()
        for asked, _ in self.pairs:
            self.client.sends_data(asked, b"", True)
        for _ in range(200):
            self.talk.clock.now += 1.0
            self.open_windows(self.client)
            self.open_windows(self.upstream)
        for number, (asked, taken) in enumerate(self.pairs):
            sizes = [len(data) for data in self.sent[number]]
            assert ([len(taken.data), len(asked.data)], taken.has_end) == (sizes, True)
            is_same = [taken.data, asked.data] == self.sent[number]
            assert is_same
            self.upstream.sends_data(taken, b"", True)
            assert asked.has_end
        self.talk.end()

    def one(self) -> H2Peer:
        return self.draw.choice([self.client, self.upstream])

    def send(self) -> None:
        number, side = self.draw.randrange(len(self.pairs)), self.draw.randrange(2)
        data = self.draw.randbytes(self.draw.randrange(1, self.largest))
        self.sent[number][side] += data
        peer: H2Peer = self.upstream if side else self.client
        peer.sends_data(self.pairs[number][side], data)

    def grant(self) -> None:
        peer = self.one()
        stream = self.draw.choice([None, *peer.end.streams.values()])
        peer.end.grant(stream, self.draw.randrange(1, self.draw.choice([10, 5000, 200_000])))
        peer.settle()

    def open_windows(self, peer: H2Peer) -> None:
        """Lets the proxy send a million bytes more, on each stream and in all."""
        for stream in (None, *peer.end.streams.values()):
            if stream is None or not stream.is_done:
                window = peer.end.own_window if stream is None else stream.own_window
                if window < 500_000:
                    peer.end.grant(stream, 1_000_000 - window)
        peer.settle()

    def stall(self) -> None:
        peer = self.one().peer
        if peer.transport.is_stalled:
            peer.reads_on()
        else:
            peer.stalls()

    def read(self) -> None:
        peer = self.one()
        if waiting := len(peer.peer.transport.waiting):
            peer.peer.reads(self.draw.randrange(1, waiting + 1))
            peer.settle()

    def change_window(self) -> None:
        """The initial window becomes another one; those of open streams change as much, and may become negative."""
        peer = self.one()
        end, transport = peer.end, peer.peer.transport
        if transport.is_stalled or transport.waiting or self.draw.random() < 0.5:
            return
        size = self.draw.choice([0, 1, 300, 65_535, 200_000])
        change = size - end.own_settings[WINDOW]
        end.own_settings[WINDOW] = size
        for stream in end.streams.values():
            stream.own_window += change
        peer.sends(wire.settings((WINDOW, size)))


@pytest.mark.parametrize("seed", range(12))
def test_every_byte_arrives_whatever_the_windows(seed: int) -> None:
    Flow(seed).run(150)
