"""Fuzzing of HPACK and the heads of HTTP/2, compared with the `hpack` library and, where it is installed, with nghttp2.

Whatever is decoded without an error is what they decode; whatever is encoded is read by them as it was meant; and what is
forwarded over HTTP/1 is read by our own HTTP/1 decoder as the same request.
"""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz
from tests.kit.h2_frames import frame, literals
from tests.kit.options import http1_policy
from tests.unit.protocol.decoding import requests

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import HTTP2_COMPRESSION
from pymosn.core.headers import HttpHeaders, wire_lines
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import STRICT
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http2 import frames as known
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.hpack_decoder import HpackDecoder
from pymosn.protocol.http2.request import RequestHeads
from pymosn.protocol.http2.response import ResponseHeads

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

Pairs = list[tuple[bytes, bytes]]
WIDE = HttpLimits(1 << 20, 10000, 0)
SMALL = HttpLimits(200, 8, 0)
COMPATIBLE = http1_policy(is_strict=False, trusts_peer=True, merges_slashes=False)

GOOD_NAMES = st.sampled_from(
    b"accept x-a x-b cookie user-agent x-forwarded-for x-real-ip x_y authorization set-cookie grpc-timeout x-mosn-a".split()
    + b"x-mosn-try-timeout via date trailer content-type forwarded x_forwarded_for x-request-id".split()
)
NAMES = (
    GOOD_NAMES
    | st.sampled_from(
        b"te host content-length connection transfer-encoding expect upgrade :path :method :status :authority :x X-U".split()
    )
    | st.binary(max_size=6)
)
GOOD_VALUES = st.sampled_from([b"", b"1", b"0", b"a=1, b", b"application/grpc", b"x" * 130, b"\xc3\xbc", b"a:b"])
VALUES = GOOD_VALUES | st.binary(max_size=12)
FIELD = st.tuples(NAMES, VALUES)
FIELDS = st.lists(
    st.tuples(GOOD_NAMES, GOOD_VALUES)
    | st.sampled_from(
        [(b"te", b"trailers"), (b"host", b"a.example"), (b"content-length", b"0"), (b"expect", b"100-continue")]
    ),
    max_size=6,
)
GOOD_PSEUDO = st.builds(
    lambda method, path, host: [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", host)],
    st.sampled_from([b"GET", b"GET", b"POST", b"PUT", b"X-OWN"]),
    st.sampled_from([b"/", b"/a", b"/a//b/%2e./c?d", b"/a/../b;c?", b"/?a=%00|b"]),
    st.sampled_from([b"a.example", b"A:80", b"[::1]:1", b"a.example"]),
)
ANY_PSEUDO = st.fixed_dictionaries(
    {
        b":method": st.sampled_from([b"GET", b"GET", b"POST", b"OPTIONS", b"CONNECT", b"get", b"G T"])
        | st.binary(max_size=4),
        b":scheme": st.sampled_from([b"http", b"http", b"http", b"https", b"HTTP", b"h\n"]),
        b":path": st.sampled_from([b"/", b"/a?d", b"*", b"", b"a", b"/ b"])
        | st.binary(max_size=8).map(lambda path: b"/" + path),
        b":authority": st.sampled_from([b"a.example", b"A:80", b"a@b", b"a,b", b""]) | st.binary(max_size=5),
    },
    optional={b":protocol": st.sampled_from([b"websocket", b"", b"a b"])},
).map(lambda given: list(given.items()))
TUNNEL = GOOD_PSEUDO.map(lambda pairs: [(b":method", b"CONNECT"), *pairs[1:], (b":protocol", b"websocket")])
HEAD = (
    st.builds(lambda pseudo, fields: pseudo + fields, GOOD_PSEUDO, FIELDS)
    | st.builds(lambda pseudo, fields: pseudo + fields, GOOD_PSEUDO | TUNNEL, FIELDS)
    | st.builds(lambda pseudo, fields, more: pseudo + fields + [more], GOOD_PSEUDO, FIELDS, FIELD)
    | st.builds(lambda pseudo, fields: pseudo + fields, ANY_PSEUDO, st.lists(FIELD, max_size=2))
)
#: Parts of header blocks, right and wrong: fields of the static and of a small dynamic table, literals, sizes of the table.
INDEX = st.integers(1, 70).map(lambda index: bytes([0x80 | index]))
LITERAL = st.builds(
    lambda first, name, value: bytes([first]) + literals([(name, value)])[1:],
    st.sampled_from([0x00, 0x40, 0x40, 0x10]),
    NAMES,
    VALUES,
)
NAMED = st.builds(
    lambda first, value: bytes([first]) + literals([(b"", value)])[2:],
    st.sampled_from([0x01, 0x0E, 0x44, 0x5F, 0x7E, 0x7F, 0x11]),
    VALUES,
)
HUFFMAN = st.builds(lambda head: Encoder().encode(head, huffman=True), st.lists(FIELD, max_size=3))
RESIZE = st.sampled_from([b"\x20", b"\x3f\x45", b"\x3f\xe1\x1f", b"\x3f\xe2\x1f"])
RAW = st.binary(max_size=8)
BLOCK = st.builds(
    lambda sizes, parts: b"".join([*sizes, *parts]),
    st.lists(RESIZE, max_size=2),
    st.lists(INDEX | LITERAL | NAMED | HUFFMAN | RAW),
)
BLOCKS = st.lists(BLOCK, max_size=6)


def ours(decoder: HpackDecoder, block: bytes) -> Pairs | None:
    failure = None
    try:
        return [(entry.name.text, entry.value) for entry in decoder.decode(block, False)]
    except ProtocolError as error:
        failure = error.failure
    assert failure is HTTP2_COMPRESSION
    return None


def theirs(peer: Decoder, block: bytes) -> Pairs | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in peer.decode(block, raw=True)]
    except (HPACKError, UnicodeDecodeError):
        return None


def has_long_integer(block: bytes) -> bool:
    """Whether an integer may have more continuation bytes than we accept, and the library does."""
    return any(all(byte >= 128 for byte in block[at : at + 4]) for at in range(len(block) - 3))


def check_decoding(blocks: list[bytes]) -> None:
    decoder, peer = HpackDecoder(WIDE, 4096), Decoder(max_header_list_size=1 << 22)
    for block in blocks:
        mine, other = ours(decoder, block), theirs(peer, block)
        if mine != other and mine is None and has_long_integer(block):
            return
        assert mine == other
        if mine is None:
            return


def test_blocks_are_what_another_library_decodes() -> None:
    fuzz(check_decoding, 300, BLOCKS)


def check_limits(blocks: list[bytes]) -> None:
    """What a decoder with limits returns is the beginning of what one without returns, and their tables stay equal."""
    small, wide = HpackDecoder(SMALL, 4096), HpackDecoder(WIDE, 4096)
    for block in blocks:
        mine, other = ours(small, block), ours(wide, block)
        assert (mine is None) == (other is None)
        if mine is None or other is None:
            return
        assert mine == other[: len(mine)]
        assert (len(mine) < len(other)) == (small.overflow >= 0)
        assert sum(len(name) + len(value) + 4 for name, value in mine) <= SMALL.head


def test_limits_do_not_change_the_table() -> None:
    fuzz(check_limits, 150, BLOCKS)


def nghttp2(blocks: list[bytes]) -> dict[int, Pairs]:
    """The heads that nghttp2 accepts, by their place. It leaves out invalid fields."""
    import ngh2

    peer = ngh2.Connection(ngh2.Role.SERVER)
    peer.initiate_connection()
    found: dict[int, Pairs] = {}
    data = known.PREFACE + frame(known.SETTINGS, 0, 0)
    for number, block in enumerate(blocks):
        data += frame(known.HEADERS, int(known.END_HEADERS | known.END_STREAM), 2 * number + 1, block)
    peer.receive_data(data)
    for event in peer.events():
        if isinstance(event, ngh2.RequestReceived):
            found[event.stream_id // 2] = [(bytes(field[0]), bytes(field[1])) for field in event.headers]
    return found


def check_nghttp2(heads: list[Pairs]) -> None:
    """What it accepts, we read alike; the blocks come from a third library."""
    encoder = Encoder()
    blocks = [encoder.encode(head, huffman=True) for head in heads]
    decoder = HpackDecoder(WIDE, 4096)
    mine = [ours(decoder, block) for block in blocks]
    assert mine == heads
    for number, other in nghttp2(blocks).items():
        assert other == [pair for pair in heads[number] if pair in other]


def test_heads_are_what_nghttp2_reads() -> None:
    pytest.importorskip("ngh2")
    fuzz(check_nghttp2, 150, st.lists(HEAD, max_size=4))


def pairs_of(lines: bytes) -> Pairs:
    found: Pairs = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        found.append((name.lower(), value.strip(b" \t")))
    return found


def reference(head: Pairs) -> bool:
    """Whether a head is well-formed by the plainest reading of RFC 9113 section 8.2, its pseudo-header fields aside."""
    for name, value in head:
        if not name or name != name.lower() or any(byte <= 32 or byte >= 127 for byte in name) or b":" in name[1:]:
            return False
        if any(byte in b"\r\n\0" for byte in value) or value != value.strip(b" \t"):
            return False
        if name in (b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"):
            return False
    return True


def check_requests(heads: list[Pairs], end: bool, is_compatible: bool) -> None:
    policy = COMPATIBLE if is_compatible else STRICT
    decoder, encoder = RequestHeads(HttpLimits(65536, 100, 0), policy, b"", 4096), Encoder()
    writer, peer = HeadEncoder(), Decoder()
    for pairs in [*heads, *heads, *heads]:  # so that tables and memories of the last block take part
        fresh = RequestHeads(HttpLimits(65536, 100, 0), policy, b"", 4096)
        failure = decoder.decode(encoder.encode(pairs), end)
        assert fresh.decode(literals(pairs), end) is failure
        assert decoder.detail == fresh.detail
        if failure is not None:
            continue
        assert reference(pairs)
        head = decoder.head
        assert described(head) == described(fresh.head)
        check_as_http1(head, end)
        check_as_http2(head, [(bytes(n), bytes(v)) for n, v in peer.decode(writer.request(head), raw=True)])
        head.headers.set("x-changed", "1")


def described(head: HttpRequest) -> tuple[object, ...]:
    start = (
        head.raw_method,
        head.raw_path,
        head.raw_query,
        head.raw_host,
        head.raw_tunnel,
        head.content_length,
        head.timeout,
    )
    facts = (head.has_forwarded_for, head.has_forwarded_proto, head.has_timeout, head.expects_continue, type(head))
    return (*start, *facts, wire_lines(head.headers))


def by_name(pairs: Pairs) -> Pairs:
    """Sorted by name: a tolerant decoder of HTTP/1 moves the content-length."""
    return sorted(pairs, key=lambda pair: pair[0])


def check_as_http1(head: HttpRequest, end: bool) -> None:
    """Our HTTP/1 decoder reads the same request in what an HTTP/1 host gets, and no second one."""
    wire = b"".join(encode_request(head))
    if head.content_length > 0:
        wire += b"b" * int(head.content_length) if head.content_length < 100 else b""
    elif head.content_length < 0:
        wire += b"0\r\n\r\n"
    outcome = requests([wire], policy=http1_policy(is_strict=False, trusts_peer=True, merges_slashes=False))
    assert outcome.failure is None, outcome.detail
    assert len(outcome.messages) == 1
    again = outcome.messages[0].head
    assert isinstance(again, HttpRequest)
    assert (again.raw_method, again.raw_path, again.raw_query) == (head.raw_method, head.raw_path, head.raw_query)
    assert (again.raw_host, again.raw_tunnel, again.content_length) == (head.raw_host, head.raw_tunnel, head.content_length)
    assert by_name(pairs_of(wire_lines(again.headers))) == by_name(pairs_of(wire_lines(head.headers)))
    assert pairs_of(wire_lines(head.headers))[0][0] == b"host"


def check_as_http2(head: HttpRequest, sent: Pairs) -> None:
    fields = [pair for pair in pairs_of(wire_lines(head.headers)) if pair[0] != b"host"]
    te = [] if head.raw_tunnel else [(b"te", b"trailers")]
    assert [pair for pair in sent if not pair[0].startswith(b":")] == te + fields
    assert reference(sent)
    again = RequestHeads(HttpLimits(65536, 100, 0), COMPATIBLE, b"", 4096)
    assert again.decode(literals(sent), head.content_length == 0) is None, again.detail
    assert described(again.head)[:6] == described(head)[:6]


def test_requests_mean_the_same_everywhere() -> None:
    fuzz(check_requests, 300, st.lists(HEAD, max_size=4), st.booleans(), st.booleans())


def check_responses(heads: list[Pairs], end: bool) -> None:
    decoder, encoder = ResponseHeads(HttpLimits(65536, 100, 0), 4096), Encoder()
    writer, peer = HeadEncoder(), Decoder()
    for pairs in [*heads, *heads, *heads]:
        fresh = ResponseHeads(HttpLimits(65536, 100, 0), 4096)
        failure = decoder.decode(encoder.encode(pairs), end, False, b"")
        assert fresh.decode(literals(pairs), end, False, b"") is failure
        trailers = decoder.decode_trailers(encoder.encode(pairs))
        assert fresh.decode_trailers(literals(pairs)) is trailers
        if trailers is None and decoder.trailers is not None and fresh.trailers is not None:
            assert wire_lines(decoder.trailers) == wire_lines(fresh.trailers)
            sent = [(bytes(n), bytes(v)) for n, v in peer.decode(writer.trailers(decoder.trailers), raw=True)]
            assert sent == pairs_of(wire_lines(decoder.trailers))
        if failure is not None:
            continue
        assert reference(pairs)
        assert wire_lines(decoder.head.headers) == wire_lines(fresh.head.headers)
        sent = [(bytes(n), bytes(v)) for n, v in peer.decode(writer.response(decoder.head), raw=True)]
        assert sent == [(b":status", b"%d" % decoder.head.status), *pairs_of(wire_lines(decoder.head.headers))]


def test_responses_mean_the_same_everywhere() -> None:
    response = st.builds(
        lambda status, fields: [(b":status", status), *fields],
        st.sampled_from([b"200", b"200", b"204", b"304", b"404", b"103", b"101", b"99", b"2 0"]),
        FIELDS | st.lists(FIELD, max_size=2),
    )
    fuzz(check_responses, 150, st.lists(response, max_size=4), st.booleans())


def check_lines(lines: list[bytes], size: int) -> None:
    """Whatever lines a head has, and whatever the peer's table: what is sent can be read, and is well-formed."""
    writer, peer = HeadEncoder(), Decoder()
    for number, line in enumerate([*lines, *lines, *lines]):
        if number == len(lines):
            writer.set_table_size(size)
            peer.max_allowed_table_size = size
        head = HttpResponse(200, b"", HttpHeaders(line + b"\r\n" + b"".join([other + b"\r\n" for other in lines])))
        sent = peer.decode(writer.response(head), raw=True)
        assert reference([(bytes(n), bytes(v)) for n, v in sent])
        for pair in sent:
            if pair[0] in (b"authorization", b"cookie", b"set-cookie"):
                assert isinstance(pair, NeverIndexedHeaderTuple)


def test_whatever_is_sent_is_well_formed() -> None:
    line = st.builds(lambda name, gap, value: name + b":" + gap + value, NAMES, st.sampled_from([b" ", b"", b"\t "]), VALUES)
    clean = (line | st.binary(max_size=20)).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b""))
    fuzz(check_lines, 150, st.lists(clean, max_size=8), st.sampled_from([0, 64, 200, 4096, 65536]))
