"""Bytes that peers may send to do harm, for every RPC protocol: what a client says, and what a server answers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.hostile.bolt_table import TABLE as BOLT_TABLE
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.rpc_wires import Wire, carried
from tests.unit.protocol.test_tars_codec import packet, pair
from tests.unit.protocol.test_tars_codec import request as tars_request

CONTENT = carried("content")
#: The reason for refusing a message where something reads its headers.
UNREADABLE = "unreadable_headers"
HELD_LENGTHS = {"bolt": 14 + 4, "boltv2": 16 + 4, "dubbo": 12, "dubbo-thrift": 0, "tars": 0}
MIB = 1 << 20


class Attack(NamedTuple):
    """What a client sends. `reason`: the word of the refusal, empty for none. `replies`: how many frames come back."""

    name: str
    data: bytes
    reason: str = ""
    replies: int = 0

    def __str__(self) -> str:
        return self.name


def with_length(wire: Wire, length: int) -> bytes:
    """A call that claims another length than it has."""
    raw = bytearray(wire.request(1, CONTENT))
    struct.pack_into(">I", raw, HELD_LENGTHS[wire.name], length)
    return bytes(raw)


def common(wire: Wire) -> Iterator[Attack]:
    """What can be done in any protocol."""
    good = wire.request(1, CONTENT)
    yield Attack("rubbish", b"\x01" + b"\xfe" * 100, "bad_frame")
    yield Attack("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_frame")
    for length in (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF):
        yield Attack(f"length {length}", with_length(wire, length), "frame_too_large")
    # Of dubbo-thrift the second length differs then.
    reason = "bad_frame" if wire.name == "dubbo-thrift" else "frame_too_large"
    yield Attack("17 MiB", with_length(wire, 17 * MIB), reason)
    for size in sorted({1, 2, 3, 5, *range(8, len(good), 7), len(good) - 1}):
        yield Attack(f"cut off at {size}", good[:size], "truncated_frame")
    yield Attack("a length that is short by one", with_length(wire, claimed(wire, good) - 1) + good, "bad_frame")
    yield Attack("replies that nobody asked for", wire.reply(7, CONTENT) * 2000 + good, "unasked_reply", 1)
    yield Attack("rubbish behind a good call", good + b"\x03" * 50, "bad_frame")
    if beat := wire.heartbeat(3):
        yield Attack("a thousand heartbeats", beat * 1000, "", 1000)
    yield Attack("no content", wire.request(1, b""), "", 1)
    yield Attack("the highest ids", wire.request(0x7FFFFFFF, CONTENT), "", 1)


def claimed(wire: Wire, frame: bytes) -> int:
    return int(struct.unpack_from(">I", frame, HELD_LENGTHS[wire.name])[0])


def of_bolt(wire: Wire) -> Iterator[Attack]:
    """The table of `tests/hostile`, and times that are none."""
    for case in BOLT_TABLE:
        if case.reason:
            yield Attack(case.name, case.data, case.reason)
    v2 = wire.name == "boltv2"
    for timeout in (-1, -(2**31), 0, 2**31 - 1):
        raw = bolt.request(1, CONTENT, {"service": wire.name}, timeout, v2=v2, crc=v2)
        yield Attack(f"a time of {timeout}", raw, "", 1)


def bomb(value: bytes, types: str = "Ljava/lang/Object;", attachments: bytes = b"H\x07timeout\x0530000Z") -> bytes:
    """A call of Dubbo with that argument. `timeout` makes pymosn look behind it."""
    write = dubbo.Hessian2().write
    front = b"".join(write(text) for text in ("2.0.2", "dubbo", "1", "echo", types))
    return dubbo.frame(0xC2, 0, front + value + attachments + CONTENT)


def of_dubbo(_: Wire) -> Iterator[Attack]:
    """Hessian 2 that costs its reader more than its writer, or claims what is not there.

    Calls whose attachments cannot be read are refused, because the route reads the service, and an attachment may name
    another one.
    """
    values = {
        "lists, 9,999 deep": b"W" * 9_999 + b"Z" * 9_999,
        "lists, 200,000 deep": b"W" * 200_000,
        "maps, 200,000 deep": b"H" * 200_000,
        "a list of 2^31 - 1": b"X\x49\x7f\xff\xff\xff",
        "a list of -1": b"X\x49\xff\xff\xff\xff",
        "a class of 2^31 - 1 fields": b"C\x01aI\x7f\xff\xff\xff",
        "20,000 classes": b"C\x01a\x90" * 20_000 + b"\x60",
        "an object of an unknown class": b"O\x95",
        "a reference to nothing": b"Q\x49\x7f\xff\xff\xff",
        "a reference to itself": b"\x79\x51\x90",
        "65,536 references": b"X\x49\x00\x01\x00\x00" + b"\x51\x90" * 65_536,
        "a string of 250,000 chunks": b"R\x00\x01a" * 250_000 + b"\x00",
        "a string that claims too much": b"S\xff\xffabc",
        "characters that are none": b"\x05\xff\xff\xff\xff\xff",
        "an unknown type": b"\x70\x95",
    }
    readable = ("lists, 9,999 deep", "a reference to itself", "65,536 references", "a string of 250,000 chunks")
    for name, value in values.items():
        yield Attack(name, bomb(value), "" if name in readable else UNREADABLE, 1)
    many = b"H\x07timeout\x0530000" + b"\x01a\x00" * 300_000 + b"Z"
    yield Attack("300,000 attachments", bomb(b"N", attachments=many), UNREADABLE, 1)
    for text in ("-5", "0", "99999999999999999999", "soon", ""):
        timed = b"H\x07timeout" + dubbo.Hessian2().write(text) + b"Z"
        yield Attack(f"a time of {text!r}", bomb(b"N", attachments=timed), "", 1)
    yield Attack("types without end", bomb(b"N", types="L" * 10_000), UNREADABLE, 1)
    yield Attack("a service of 64 KiB", dubbo.call(1, "s" * 65_000, "echo", None, (CONTENT,)), "", 1)
    yield Attack("nobody is called", dubbo.frame(0xC2, 0, b"\x05"), "bad_frame")
    yield Attack("an empty call", dubbo.frame(0xC2, 0, b""), "bad_frame")


def of_thrift(wire: Wire) -> Iterator[Attack]:
    """Lengths within that do not fit."""
    good = wire.request(1, CONTENT)
    for at, size in ((6, 4), (10, 2), (13, 4), (13 + 4 + len(wire.name) + 8 + 4, 4)):
        for value in (b"\xff" * size, b"\x7f" + b"\xff" * (size - 1)):
            yield Attack(f"{value.hex()} at {at}", good[:at] + value + good[at + size :], "bad_frame")


def of_tars(_: Wire) -> Iterator[Attack]:
    """JCE that claims more than it has."""
    yield Attack("a struct, 100,000 deep", tars_request(tail=b"\xba" + b"\x0a" * 100_000), "bad_frame")
    yield Attack("a map of 2^31 - 1", tars_request(tail=b"\x98\x02\x7f\xff\xff\xff"), "bad_frame")
    yield Attack(
        "a million entries", tars_request(tail=b"\x98\x02\x00\x0f\x42\x40" + pair(b"", b"") * 1_000_000), "bad_frame"
    )
    yield Attack("a list of -1", tars_request(tail=b"\xb9\x00\xff"), "bad_frame")
    yield Attack("no fields", packet(b"\x10\x01"), "bad_frame")
    number = b"\x42" + bytes((0, 0, 0, 1))
    names = b"\x56\x04tars\x66\x04echo"
    buffer = b"\x7d\x00\x00" + bytes((len(CONTENT),)) + CONTENT
    for timeout in (b"\x80\xff", b"\x82\x80\x00\x00\x00", b"\x8c"):
        raw = packet(b"\x10\x01\x2c\x3c", number, names, buffer, timeout, b"\x98\x0c\xa8\x0c")
        yield Attack(f"a time of {timeout.hex()}", raw, "", 1)


OWN: dict[str, Callable[[Wire], Iterator[Attack]]] = {
    "bolt": of_bolt,
    "boltv2": of_bolt,
    "dubbo": of_dubbo,
    "dubbo-thrift": of_thrift,
    "tars": of_tars,
}


def attacks(wire: Wire) -> list[Attack]:
    """All that clients of a protocol do."""
    return [*common(wire), *OWN[wire.name](wire)]


class Answer(NamedTuple):
    """What a server sends for call `number`. `good`: the caller gets its reply. `closes`: the server does then."""

    name: str
    make: Callable[[int], bytes]
    good: bool
    closes: bool = False

    def __str__(self) -> str:
        return self.name


def answers(wire: Wire) -> list[Answer]:
    """All that servers of a protocol do."""

    def real(number: int) -> bytes:
        return wire.reply(number, CONTENT)

    def claiming(length: int) -> Callable[[int], bytes]:
        def make(number: int) -> bytes:
            raw = bytearray(real(number))
            at = HELD_LENGTHS[wire.name] - (2 if wire.name.startswith("bolt") else 0)
            struct.pack_into(">I", raw, at, length)
            return bytes(raw)

        return make

    found = [
        Answer("rubbish", lambda number: b"\x07" * 300, False),
        Answer("HTTP", lambda number: b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        *(Answer(f"length {size}", claiming(size), False) for size in (0xFFFFFFFF, 0x80000000)),
        Answer("17 MiB", claiming(17 * MIB), False, True),
        Answer("half a reply", lambda number: real(number)[:-3], False, True),
        Answer("one byte", lambda number: real(number)[:1], False, True),
        Answer("nothing", lambda number: b"", False, True),
        Answer("another's reply first", lambda number: wire.reply(number + 5, CONTENT) + real(number), True),
        Answer("the reply twice", lambda number: real(number) * 2, True),
        Answer("ten thousand strays", lambda number: wire.reply(number + 9, b"") * 10_000 + real(number), True),
        Answer("questions of its own", lambda number: wire.request(4, CONTENT) * 3000 + real(number), True),
        Answer("one-way questions", lambda number: wire.request(4, CONTENT, True) * 3000 + real(number), True),
        Answer("a long reply", lambda number: wire.reply(number, carried("x" * 60_000)), True),
        Answer("a reply with rubbish behind it", lambda number: real(number) + b"\x07" * 50, True),
    ]
    if wire.heartbeat(1):
        found.append(Answer("heartbeats", lambda number: wire.heartbeat(5) * 20_000 + real(number), True))
    if wire.name == "dubbo":
        deep = b"\x94" + b"W" * 200_000 + CONTENT
        found.append(Answer("a value, 200,000 deep", lambda number: dubbo.frame(2, 20, deep, number), True))
        found.append(Answer("readonly, then the reply", lambda number: dubbo.readonly() + real(number), True))
        found.append(Answer("an empty reply", lambda number: dubbo.frame(2, 20, b"", number), True))
    if wire.name == "bolt":
        found.append(Answer("goaway, then the reply", lambda number: bolt.goaway(9) + real(number), True))
    return found
