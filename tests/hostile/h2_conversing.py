"""Runs the tables of HTTP/2 through layers 2 to 4, and holds what came of each variant against what its row says.

The upstream is a recorder: of HTTP/1 it reads every byte with a strict parser, of HTTP/2 every frame with a strict end. It
answers each complete request. Every variant has a connection of its own, on which a good request follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.hostile.h2_cases import EITHER, ENDED, GOOD, OK, REFUSED, RESET, H2Case, Pairs, Variant
from tests.hostile.recorder import Malformed, read_request
from tests.kit.h2_end import Stream
from tests.kit.h2_peers import H2Client, H2Upstream, h2_client
from tests.kit.http1_text import Http1Text
from tests.kit.peers import Peer
from tests.kit.talk import Talk

PROTOCOL_ERROR = 1
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: What the proxy writes itself, or may leave out.
_OWN = (b"te", b"transfer-encoding", b"connection", b"trailer")


@dataclass
class Message:
    """One complete request at the upstream. `fields`: method, path and host first."""

    fields: Pairs
    body: bytes = b""
    trailers: Pairs = ()


@dataclass
class Seen:
    """What an upstream has got: complete requests, connections or streams with a part of one, and what is no HTTP."""

    requests: list[Message] = field(default_factory=list)
    open_parts: int = 0
    parts: int = 0
    broken: list[str] = field(default_factory=list)


class Http1Recorder:
    """An upstream connection that speaks HTTP/1."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._data = b""

    @property
    def is_over(self) -> bool:
        return self._peer.transport.is_lost

    def look(self, seen: Seen) -> None:
        """Adds what has come since the last time, and answers."""
        self._data += self._peer.takes()
        while self._data:
            try:
                found = read_request(self._data)
            except Malformed as fault:
                seen.broken.append(f"{fault} in {self._data[:300]!r}")
                self._data = b""
                return
            if found is None:
                return
            request, size = found
            self._data = self._data[size:]
            seen.requests.append(message_of(Http1Text(True).feed(request.raw)))
            self._peer.sends(ANSWER)

    def end(self, seen: Seen) -> None:
        """Adds what is left incomplete."""
        if self._data:
            seen.parts += 1
            seen.open_parts += not (self._peer.transport.is_closing or self._peer.transport.is_lost)
            self._data = b""
            if not self._peer.transport.is_lost:
                self._peer.resets()


class Http2Recorder:
    """An upstream connection that speaks HTTP/2."""

    def __init__(self, peer: Peer) -> None:
        self._upstream = H2Upstream(peer)
        self._streams: list[Stream] = []

    @property
    def is_over(self) -> bool:
        return self._upstream.peer.transport.is_lost

    def look(self, seen: Seen) -> None:
        while not self._upstream.got_nothing():
            self._streams.append(self._upstream.takes_stream())
        for stream in [one for one in self._streams if one.has_end]:
            self._streams.remove(stream)
            known = dict(stream.heads[0])
            rest = [pair for pair in stream.heads[0] if not pair[0].startswith(b":")]
            start = [(b":method", known[b":method"]), (b":path", known[b":path"]), (b"host", known[b":authority"])]
            fields = tuple(pair for pair in [*start, *rest] if pair[0] not in _OWN)
            seen.requests.append(Message(fields, stream.data, tuple(stream.trailers or ())))
            self._upstream.responds(stream, 200, [(b"content-length", b"2")], b"ok")

    def end(self, seen: Seen) -> None:
        seen.parts += len(self._streams)
        seen.open_parts += len([stream for stream in self._streams if stream.code < 0 and not self.is_over])
        self._streams.clear()


def message_of(events: list[Any]) -> Message:
    _, (method, target), fields = events[0]
    body = b"".join(event[1] for event in events if event[0] == "data")
    trailers = next((event[1] for event in events if event[0] == "trailers"), [])
    return Message(((b":method", method), (b":path", target), *fields), body, tuple(trailers))


class Rig:
    """One worker and its upstreams, for any number of variants."""

    def __init__(self, upstream_protocol: str, protocol: str = "Http2") -> None:
        """`protocol`: of the clients."""
        self.talk = Talk(protocols=(protocol,), upstream_protocol=upstream_protocol)
        self._recorder = Http2Recorder if upstream_protocol == "Http2" else Http1Recorder
        self._recorders: list[Http1Recorder | Http2Recorder] = []

    def end(self) -> None:
        self.talk.end()

    def run(self, case: H2Case, variant: Variant) -> list[str]:
        """What is not as the row says."""
        talk = self.talk
        before = len(talk.outcomes.exchanges)
        client = h2_client(talk)
        stream = client.end.new_stream()
        data = variant.frames(client.end.encoder, stream.number)
        client.peer._one_byte = variant.bytewise
        client.sends(data)
        client.peer._one_byte = False
        seen = self._look()
        good = None if client.end.goaways or not client.is_open() else client.requests(GOOD)
        behind = self._look()
        faults = self._judge(case, client, stream, seen, variant.bytewise)
        if good is not None and good.status != 200:
            faults.append(f"the good request that follows got {good.status}, reset with {good.code}")
        if [request.fields[1] for request in behind.requests] != [(b":path", b"/good")] * (good is not None):
            faults.append(f"upstream behind it: {behind}")
        for recorder in self._recorders:
            recorder.end(behind)
        faults += self._logged(case, before, 1 + (good is not None))
        client.resets()
        self._tidy()
        return faults

    def carry(self, data: bytes) -> Seen:
        """What the upstream gets of what a client of HTTP/1 sends. Its host has no rest of it afterwards."""
        client = self.talk.connect()
        client.sends_whole(data)
        seen = self._look()
        while more := self._look().requests:
            seen.requests += more
        client.takes()
        client.resets()
        for recorder in self._recorders:
            recorder.end(seen)
        self._tidy()
        return seen

    def _tidy(self) -> None:
        self._recorders = [recorder for recorder in self._recorders if not recorder.is_over]
        self.talk.clients.clear()
        self.talk.upstreams[:] = [peer for peer in self.talk.upstreams if not peer.transport.is_lost]

    def _look(self) -> Seen:
        seen = Seen()
        while self.talk.dials:
            self._recorders.append(self._recorder(self.talk.expect_dial(self.talk.dials[0].address)))
        for recorder in self._recorders:
            recorder.look(seen)
        return seen

    def _judge(self, case: H2Case, client: H2Client, stream: Stream, seen: Seen, bytewise: bool) -> list[str]:
        faults = [f"upstream: {text}" for text in seen.broken]
        outcome = case.outcome
        got = f"status {stream.status}, reset with {stream.code}, goaway {client.goaway()}"
        if outcome == OK:
            return faults + self._judge_said(case, stream, seen, got)
        if seen.requests and not (bytewise and case.in_body and _is_start(case, seen)):
            faults.append(f"reached the upstream: {seen.requests}")
        is_reset = stream.code == PROTOCOL_ERROR
        is_refused = 400 <= stream.status < 500
        is_ended = client.goaway() > 0
        right = {RESET: is_reset, REFUSED: is_reset or is_refused, ENDED: is_ended}
        right[EITHER] = right[REFUSED] or is_ended
        if not right.get(str(outcome), stream.status == outcome):
            faults.append(f"{got}, not {outcome}")
        if outcome not in (ENDED, EITHER) and client.end.goaways:
            faults.append(f"the connection ended: {client.end.goaways}")
        parts = Seen()
        for recorder in self._recorders:
            recorder.end(parts)
        if parts.parts and not case.in_body:
            faults.append("a part of it reached the upstream")
        if parts.open_parts:
            faults.append("a part of it is at the upstream, and was not cut")
        return faults

    def _judge_said(self, case: H2Case, stream: Stream, seen: Seen, got: str) -> list[str]:
        if stream.status != 200 or stream.data != b"ok":
            return [got]
        if len(seen.requests) != 1:
            return [f"{len(seen.requests)} requests upstream"]
        request = seen.requests[0]
        said, found = compared(case.message()), compared(request.fields)
        faults = [] if said == found else [f"said {said}, upstream got {found}"]
        if request.body != case.content:
            faults.append(f"content {request.body!r}")
        if request.trailers != (case.trailers or ()):
            faults.append(f"trailers {request.trailers}")
        return faults

    def _logged(self, case: H2Case, before: int, most: int) -> list[str]:
        """Each request is logged once; a refused one with a reason word."""
        reasons = self.talk.reasons()[before:]
        if len(reasons) != most and case.outcome not in (ENDED, EITHER):
            return [f"logged {reasons}"]
        if case.outcome not in (OK, ENDED, EITHER) and "ok" in reasons[:1]:
            return ["refused without a reason word"]
        return []


def _is_start(case: H2Case, seen: Seen) -> bool:
    """Whether the upstream got as much content as was announced, before more came."""
    lengths = [int(value) for name, value in case.fields if name == b"content-length"]
    return len(lengths) == 1 and [request.body for request in seen.requests] == [case.content[: lengths[0]]]


def compared(fields: Pairs) -> Pairs:
    """To compare: the odd fields take several places, and a length of 0 is the same as none."""
    kept = [pair for pair in fields if pair[0] not in _OWN and pair != (b"content-length", b"0")]
    return (*kept[:3], *sorted(kept[3:], key=lambda pair: pair[0]))
