"""HPACK: the examples of RFC 7541 appendix C, the table, limits, and what must end a connection."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from librt.strings import BytesWriter
from tests.kit.h2_frames import literal, literals

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import HEADER_BOMB, HTTP2_COMPRESSION
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import tables
from pymosn.protocol.http2.hpack_decoder import NOTHING, HpackDecoder
from pymosn.protocol.http2.hpack_encoder import HpackEncoder, write_integer
from pymosn.protocol.http2.huffman import decode_huffman

Pairs = list[tuple[bytes, bytes]]

LIMITS = HttpLimits(16384, 100, 0)
FIRST = 62
GET: Pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
SECURE: Pairs = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]
FOUND: Pairs = [
    (b":status", b"302"),
    (b"cache-control", b"private"),
    (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
    (b"location", b"https://www.example.com"),
]
COOKIE = (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")


def new_decoder(limits: HttpLimits = LIMITS, size: int = 4096) -> HpackDecoder:
    return HpackDecoder(limits, size)


def decoded(decoder: HpackDecoder, block: bytes) -> Pairs:
    return [(entry.name.text, entry.value) for entry in decoder.decode(block, False)]


def table(decoder: HpackDecoder) -> Pairs:
    """The dynamic table, from its newest entry."""
    found: Pairs = []
    while True:
        try:
            found += decoded(decoder, integer(FIRST + len(found), 127, 0x80))
        except ProtocolError:
            return found


def integer(value: int, mask: int, first: int) -> bytes:
    out = BytesWriter()
    write_integer(out, value, mask, first)
    return out.getvalue()


def refused(block: bytes, size: int = 4096) -> str:
    """Why a new decoder does not accept a block."""
    with pytest.raises(ProtocolError) as caught:
        new_decoder(size=size).decode(block, False)
    assert caught.value.failure is HTTP2_COMPRESSION
    return caught.value.detail


# ---- the examples


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ),
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ),
    ],
    ids=["C.3", "C.4"],
)
def test_requests_of_appendix_c(blocks: tuple[str, str, str]) -> None:
    decoder = new_decoder()
    first, second, third = map(bytes.fromhex, blocks)
    assert decoded(decoder, first) == GET
    assert decoded(decoder, second) == [*GET, (b"cache-control", b"no-cache")]
    assert decoded(decoder, third) == SECURE
    assert table(decoder) == [
        (b"custom-key", b"custom-value"),
        (b"cache-control", b"no-cache"),
        (b":authority", b"www.example.com"),
    ]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120"
            " 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738"
            " 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33"
            " 3630 303b 2076 6572 7369 6f6e 3d31",
        ),
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718"
            " 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7"
            " b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ),
    ],
    ids=["C.5", "C.6"],
)
def test_responses_of_appendix_c(blocks: tuple[str, str, str]) -> None:
    decoder = new_decoder()
    assert decoded(decoder, integer(256, 31, 0x20)) == []
    first, second, third = map(bytes.fromhex, blocks)
    assert decoded(decoder, first) == FOUND
    assert decoded(decoder, second) == [(b":status", b"307"), *FOUND[1:]]
    later = (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
    assert decoded(decoder, third) == [
        (b":status", b"200"),
        FOUND[1],
        later,
        FOUND[3],
        (b"content-encoding", b"gzip"),
        COOKIE,
    ]
    assert table(decoder) == [COOKIE, (b"content-encoding", b"gzip"), later]


@pytest.mark.parametrize(
    ("block", "pairs", "is_added"),
    [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", [(b"custom-key", b"custom-header")], True),
        ("040c 2f73 616d 706c 652f 7061 7468", [(b":path", b"/sample/path")], False),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", [(b"password", b"secret")], False),
        ("82", [(b":method", b"GET")], False),
    ],
)
def test_representations_of_appendix_c(block: str, pairs: Pairs, is_added: bool) -> None:
    decoder = new_decoder()
    assert decoded(decoder, bytes.fromhex(block)) == pairs
    assert table(decoder) == (pairs if is_added else [])


@pytest.mark.parametrize(
    ("value", "mask", "coded"), [(10, 31, "0a"), (1337, 31, "1f9a0a"), (42, 255, "2a"), (31, 31, "1f00")]
)
def test_integers(value: int, mask: int, coded: str) -> None:
    assert integer(value, mask, 0) == bytes.fromhex(coded)


def test_the_static_table_is_that_of_the_rfc() -> None:
    peer = Decoder()
    for index, entry in enumerate(tables.STATIC, start=1):
        assert peer.header_table.get_by_index(index) == (entry.name.text, entry.value)
    assert len(tables.STATIC) == tables.STATIC_SIZE
    assert tables.STATIC_NAMES[b":path"] == 4
    assert tables.STATIC_NAMES[b"www-authenticate"] == 61


# ---- Huffman


def test_each_byte_alone_and_between_others() -> None:
    peer = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    for text in (
        *(bytes([byte]) for byte in range(256)),
        *(b"a" + bytes([byte]) * 3 + b"0" for byte in range(256)),
        bytes(range(256)),
        b"",
    ):
        coded = peer.encode(text)
        assert decode_huffman(b"\xff" + coded + b"\x00", 1, 1 + len(coded)) == text


@pytest.mark.parametrize(
    "coded",
    [
        "ff",  # eight ones
        "1fff",  # a code and eleven ones
        "1fffff",
        "18",  # a code and zeros
        "1e",
        "fffffffc",  # EOS, two zeros
        "ffffffff",
        "1ffffffffe",  # EOS after a letter
        "fe",  # a part of a long code
    ],
)
def test_huffman_faults(coded: str) -> None:
    data = bytes.fromhex(coded)
    with pytest.raises(ProtocolError) as caught:
        decode_huffman(data, 0, len(data))
    assert caught.value.failure is HTTP2_COMPRESSION


# ---- what ends a connection


@pytest.mark.parametrize(
    ("block", "detail"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "index beyond the table"),
        (b"\xff\x80\x80\x01", "index beyond the table"),
        (b"\x7e\x01a", "index beyond the table"),
        (b"\xff", "integer is too large or has no end"),
        (b"\xff\xff\xff\xff\xff\x0f", "integer is too large or has no end"),
        (b"\xff\x80\x80\x80\x80\x00", "integer is too large or has no end"),
        (b"\x00", "block ends within a field"),
        (b"\x00\x01a", "block ends within a field"),
        (b"\x40\x01", "string is longer than the block"),
        (b"\x00\x01a\x7f\x80\x80\x80\x01", "string is longer than the block"),
        (b"\x82\x20", "a change of the table's size after a field"),
        (integer(4097, 31, 0x20), "the table's size is larger than SETTINGS_HEADER_TABLE_SIZE"),
        (b"\x00\x81\xff\x00", "a Huffman-coded string has EOS or a part of a code"),
        (b"\x00\x81\x18\x00", "a Huffman-coded string has wrong padding"),
    ],
)
def test_faults(block: bytes, detail: str) -> None:
    assert refused(block) == detail


def test_a_block_that_is_cut_short() -> None:
    block = bytes.fromhex("400a 6375 7374 6f6d 2d6b 6579 8925 a849 e95b b8e8 b4bf")
    for size in range(1, len(block)):
        refused(block[:size])


# ---- the table


def test_sizes_of_the_table() -> None:
    decoder = new_decoder(size=8192)
    block = literals([(b"a", b"b")])[1:]
    for _ in range(200):
        decoder.decode(b"\x40" + block, False)
    assert len(table(decoder)) == 4096 // 34
    version = decoder.version
    assert decoded(decoder, integer(8192, 31, 0x20)) == []
    assert decoder.version != version
    for _ in range(300):
        decoder.decode(b"\x40" + block, False)
    assert len(table(decoder)) == 8192 // 34
    decoder.decode(integer(68, 31, 0x20), False)
    assert len(table(decoder)) == 2
    decoder.decode(b"\x20" + integer(68, 31, 0x20) + b"\x82", False)
    assert table(decoder) == []
    with pytest.raises(ProtocolError):
        decoder.decode(integer(8193, 31, 0x20), False)


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = new_decoder()
    decoder.decode(b"\x40\x01a\x01b", False)
    assert decoded(decoder, b"\x40" + literal(b"a", b"b" * 5000)[1:]) == [(b"a", b"b" * 5000)]
    assert table(decoder) == []


def test_a_large_table_is_not_moved_for_each_entry() -> None:
    decoder = new_decoder(HttpLimits(1 << 24, 1 << 20, 0), 1 << 20)
    decoder.decode(integer(1 << 20, 31, 0x20), False)
    for _ in range(3):
        found = decoder.decode(b"".join(b"\x40\x01n\x05%05d" % number for number in range(40000)), False)
    assert len(found) == 40000
    kept = (1 << 20) // 38
    for back in (0, 1, kept - 1):
        assert decoded(decoder, integer(FIRST + back, 127, 0x80)) == [(b"n", b"%05d" % (39999 - back))]
    with pytest.raises(ProtocolError):
        decoder.decode(integer(FIRST + kept, 127, 0x80), False)


def test_a_name_is_taken_from_the_entry_that_is_evicted_for_it() -> None:
    decoder = new_decoder()
    name = b"n" * 3000
    decoder.decode(b"\x40" + literal(name, b"1")[1:], False)
    value = b"v" * 1000
    assert decoded(decoder, integer(FIRST, 63, 0x40) + literal(b"", value)[2:]) == [(name, value)]
    assert table(decoder) == [(name, value)]


# ---- limits


def test_a_bomb_is_not_stored_but_changes_the_table() -> None:
    decoder = new_decoder(HttpLimits(8192, 100, 0))
    decoder.decode(b"\x40" + literal(b"a", b"b" * 4000)[1:], False)
    found = decoder.decode(b"\xbe" * 20 + b"\x40\x01c\x01d", False)
    assert len(found) == 2
    assert decoder.overflow == 0
    assert table(decoder)[0] == (b"c", b"d")
    assert decoded(decoder, b"\x82") == [(b":method", b"GET")]
    assert decoder.overflow == NOTHING


def test_a_bomb_that_is_many_times_larger_than_the_limit_ends_the_connection() -> None:
    decoder = new_decoder(HttpLimits(8192, 100, 0))
    decoder.decode(b"\x40" + literal(b"a", b"b" * 4000)[1:], False)
    decoder.decode(b"\xbe" * 25, False)
    with pytest.raises(ProtocolError) as caught:
        decoder.decode(b"\xbe" * 16_000, False)
    assert caught.value.failure is HEADER_BOMB


# ---- encoding


class Sender:
    """An encoder with the decoder of another library."""

    def __init__(self) -> None:
        self.encoder = HpackEncoder()
        self.peer = Decoder()

    def send(self, *pairs: tuple[bytes, bytes]) -> tuple[bytes, Pairs]:
        out = BytesWriter()
        self.encoder.begin(out)
        for name, value in pairs:
            key = name + b":" + value
            if not self.encoder.write_known(out, key):
                self.encoder.write_new(out, key, tables.STATIC_NAMES.get(name, 0), name, value)
        block = out.getvalue()
        return block, [(name, value) for name, value in self.peer.decode(block, raw=True)]


def test_what_comes_twice_is_added() -> None:
    sender = Sender()
    pair = (b"x-name", b"value")
    assert sender.send(pair) == (literal(*pair), [pair])
    assert not sender.encoder.is_settled
    assert sender.send(pair) == (b"\x40" + literal(*pair)[1:], [pair])
    assert not sender.encoder.is_settled
    assert sender.send(pair) == (b"\xbe", [pair])
    assert sender.encoder.is_settled


def test_the_oldest_is_evicted() -> None:
    sender = Sender()
    pairs = [(b"name-%d" % number, b"v" * 60) for number in range(60)]
    for _ in range(4):
        for pair in pairs:
            assert sender.send(pair)[1] == [pair]
    assert sender.send(*pairs[-30:]) == (bytes(range(0x80 | (FIRST + 29), 0x80 | (FIRST - 1), -1)), pairs[-30:])


def test_an_index_of_more_than_one_byte() -> None:
    sender = Sender()
    pairs = [(b"n%d" % number, b"v") for number in range(100)]
    for _ in range(4):
        assert sender.send(*pairs)[1] == pairs
    assert sender.send(pairs[0])[0] == integer(FIRST + 99, 127, 0x80)


@pytest.mark.parametrize(
    ("sizes", "updates"),
    [
        ((4096,), b""),
        ((65536,), b""),
        ((0,), b"\x20"),
        ((100,), integer(100, 31, 0x20)),
        ((0, 4096), b"\x20" + integer(4096, 31, 0x20)),
        ((100, 0, 200), b"\x20" + integer(200, 31, 0x20)),
        ((0, 100, 65536), b"\x20" + integer(4096, 31, 0x20)),
    ],
)
def test_the_peer_is_told_of_a_smaller_table(sizes: tuple[int, ...], updates: bytes) -> None:
    sender = Sender()
    pair = (b"x-name", b"value")
    for _ in range(2):
        sender.send(pair)
    for size in sizes:
        sender.encoder.set_table_size(size)
        sender.peer.max_allowed_table_size = size
    sender.peer.max_allowed_table_size = max(sizes)
    block, found = sender.send(pair)
    assert found == [pair]
    assert block.startswith(updates or b"\xbe")
    for _ in range(3):
        assert sender.send(pair)[1] == [pair]


def test_what_fills_the_table_alone_stays_outside() -> None:
    sender = Sender()
    pair = (b"x-name", b"v" * 3000)
    for _ in range(3):
        assert sender.send(pair)[1] == [pair]
        assert sender.encoder.is_settled
    assert not sender.encoder.version


def test_an_encoder_of_another_library_is_understood() -> None:
    peer, decoder = Encoder(), new_decoder()
    for number in range(300):
        pairs = [(b"name-%d" % (number % 7), b"value %d" % (number % 11)), (b":path", b"/%d" % number)]
        assert decoded(decoder, peer.encode(pairs, huffman=number % 2 == 0)) == pairs
