"""Drives a decoder as the stream layer does, and writes down what came out: for the codec, hostile and fuzz tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.kit.options import http_limits

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.protocol import DATA, HEAD, NEED_MORE, ProtocolError
from pymosn.core.failure import Failure
from pymosn.core.headers import HttpHeaders
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import STRICT, HttpPolicy
from pymosn.protocol.http1.encoder import encode_chunk, encode_request, encode_trailers
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.protocol.http1.response import ResponseDecoder

Fields = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """One message with all of its body that came."""

    head: HttpRequest | HttpResponse = field(compare=False)
    start: tuple[object, ...] = ()
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    minor_version: int = 1
    keep_alive: bool = True

    def __getitem__(self, name: bytes) -> bytes:
        return dict(self.fields)[name]

    def has(self, name: bytes) -> bool:
        return any(key == name for key, _ in self.fields)


@dataclass
class Outcome:
    """All that a decoder made of its input. `left`: bytes that it took into no frame."""

    messages: list[Message] = field(default_factory=list)
    failure: Failure | None = None
    detail: str = ""
    left: int = 0
    largest: int = field(default=0, compare=False)

    @property
    def reason(self) -> str:
        return self.failure.reason if self.failure else ""

    @property
    def complete(self) -> list[Message]:
        return [message for message in self.messages if message.ended]


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at each of `cuts`; never an empty part."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def request_start(decoder: RequestDecoder) -> tuple[object, ...]:
    head = decoder.head
    return (
        head.raw_method,
        head.raw_path,
        head.raw_query,
        head.raw_host,
        decoder.minor_version,
        decoder.keep_alive,
        head.content_length,
        head.expects_continue,
        head.accepts_trailers,
    )


def response_start(decoder: ResponseDecoder) -> tuple[object, ...]:
    head = decoder.head
    return (head.status, head.raw_reason, decoder.minor_version, decoder.keep_alive, head.content_length, head.has_date)


def requests(feeds: Iterable[bytes], limits: HttpLimits | None = None, policy: HttpPolicy = STRICT) -> Outcome:
    """What a RequestDecoder makes of `feeds`, one message after the other."""
    limits = limits or http_limits()
    decoder = RequestDecoder(limits, policy)
    return _drive(decoder, feeds, [])


def replies(
    feeds: Iterable[bytes],
    method: bytes = b"GET",
    limits: HttpLimits | None = None,
    eof: bool = False,
    policy: HttpPolicy = STRICT,
) -> Outcome:
    """What a ResponseDecoder makes of `feeds` as the reply to one request; what follows that reply is left."""
    decoder = ResponseDecoder(limits or http_limits(64 * 1024, 256), policy)
    decoder.expect(method)
    outcome = _drive(decoder, feeds, [method])
    if eof and outcome.failure is None and outcome.messages and decoder.finish():
        outcome.messages[-1].ended = True
    return outcome


def forwarded(message: Message) -> bytes:
    """What would go to the upstream."""
    head = message.head
    assert isinstance(head, HttpRequest)
    out = b"".join(encode_request(head))
    if head.content_length >= 0:
        return out + message.body
    out += b"".join(encode_chunk(message.body, False))
    return out + encode_trailers(HttpHeaders(b"".join(b"%s: %s\r\n" % field for field in message.trailers)))


def _drive(decoder: RequestDecoder | ResponseDecoder, feeds: Iterable[bytes], methods: list[bytes]) -> Outcome:
    outcome = Outcome()
    answered = False
    for feed in feeds:
        decoder.feed(feed)
        outcome.largest = max(outcome.largest, len(decoder._buffer) - len(feed))
        # Each frame takes at least one byte, except the one that is rejected or needs more bytes.
        steps = len(decoder._buffer) + 2
        while not answered:
            steps -= 1
            assert steps >= 0, "decode makes frames of nothing"
            try:
                found = decoder.decode()
            except ProtocolError as error:
                outcome.failure, outcome.detail = error.failure, error.detail
                return outcome
            if found == NEED_MORE:
                break
            _note(outcome, decoder, found)
            answered = bool(methods) and outcome.messages[-1].ended
    outcome.left = len(decoder._buffer) - decoder._at
    return outcome


def _note(outcome: Outcome, decoder: RequestDecoder | ResponseDecoder, found: int) -> None:
    if found == HEAD:
        head = decoder.head
        start = request_start(decoder) if isinstance(decoder, RequestDecoder) else response_start(decoder)
        message = Message(head, start, head.headers.items_raw())
        message.minor_version, message.keep_alive = int(decoder.minor_version), decoder.keep_alive
        outcome.messages.append(message)
    else:
        assert found == DATA
        assert decoder.data or decoder.end, "a frame without anything in it"
        assert not outcome.messages[-1].ended, "a body piece behind the end"
    message = outcome.messages[-1]
    message.body += decoder.data
    message.ended = decoder.end
    if decoder.end and decoder.trailers is not None:
        message.trailers = decoder.trailers.items_raw()


def assert_same(whole: Outcome, split: Outcome, may_be_too_large: bool) -> None:
    """A split input gives what the whole gives.

    A refused input is refused in any split; but a split may show the start of a message before its fault has come, and
    where both a size limit and another rule are broken, the limit may be met first.
    """
    if whole.failure is None:
        assert split == whole
        return
    assert split.failure is not None, f"whole: {whole.reason} ({whole.detail}); split: accepted"
    if may_be_too_large:
        assert split.failure.status in (whole.failure.status, 400, 414, 431, 502)
    else:
        assert split.reason == whole.reason
    complete = whole.complete
    assert split.messages[: len(complete)] == complete
