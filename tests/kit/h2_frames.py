"""HTTP/2 frames as bytes, right and wrong ones: written by hand, so that a test can send what no library would."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pymosn.protocol.http2 import frames as known

Fields = Iterable[tuple[bytes, bytes]]

NAMES = {
    known.DATA: "DATA",
    known.HEADERS: "HEADERS",
    known.PRIORITY: "PRIORITY",
    known.RST_STREAM: "RST_STREAM",
    known.SETTINGS: "SETTINGS",
    known.PUSH_PROMISE: "PUSH_PROMISE",
    known.PING: "PING",
    known.GOAWAY: "GOAWAY",
    known.WINDOW_UPDATE: "WINDOW_UPDATE",
    known.CONTINUATION: "CONTINUATION",
}


class Frame(NamedTuple):
    """One frame. `payload`: with its padding."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def __str__(self) -> str:
        name = NAMES.get(self.kind, str(self.kind))
        return f"{name}({self.stream}, flags {self.flags:#x}, {self.payload[:40]!r})"

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", size: int | None = None) -> bytes:
    """The bytes of a frame. `size`: what its header says, if not the truth."""
    length = len(payload) if size is None else size
    return struct.pack(">I", length)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame with these identifiers and values."""
    return frame(known.SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def settings_ack() -> bytes:
    return frame(known.SETTINGS, known.ACK, 0)


def ping(payload: bytes = b"12345678", is_ack: bool = False) -> bytes:
    return frame(known.PING, known.ACK if is_ack else 0, 0, payload)


def window_update(stream: int, size: int) -> bytes:
    return frame(known.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def rst_stream(stream: int, code: int = int(known.CANCEL)) -> bytes:
    return frame(known.RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: int = int(known.NO_ERROR), debug: bytes = b"") -> bytes:
    return frame(known.GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def priority(stream: int, depends: int = 0, weight: int = 15) -> bytes:
    return frame(known.PRIORITY, 0, stream, struct.pack(">IB", depends, weight))


def data(stream: int, payload: bytes, end: bool = False, padding: int | None = None) -> bytes:
    """A DATA frame. `padding`: bytes of it."""
    flags = known.END_STREAM if end else 0
    if padding is not None:
        flags |= known.PADDED
        payload = bytes((padding,)) + payload + bytes(padding)
    return frame(known.DATA, flags, stream, payload)


def headers(stream: int, block: bytes, end: bool = False, most: int = 16384) -> bytes:
    """A HEADERS frame, and CONTINUATION frames for what does not fit into `most` bytes."""
    pieces = [block[at : at + most] for at in range(0, len(block), most)] or [b""]
    out = []
    for index, piece in enumerate(pieces):
        flags = known.END_HEADERS if index == len(pieces) - 1 else 0
        if index == 0 and end:
            flags |= known.END_STREAM
        out.append(frame(known.CONTINUATION if index else known.HEADERS, flags, stream, piece))
    return b"".join(out)


def literal(name: bytes, value: bytes) -> bytes:
    """One field as a literal that is not indexed, without Huffman coding (RFC 7541 section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def literals(fields: Fields) -> bytes:
    """A header block that needs no table, so that it can be sent on any connection at any time."""
    return b"".join(literal(name, value) for name, value in fields)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    out = bytearray((127,))
    size -= 127
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes(out) + bytes((size,)) + text


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The complete frames at the start of `data`, and the rest."""
    found: list[Frame] = []
    at = 0
    while len(data) - at >= known.FRAME_HEADER:
        size = int.from_bytes(data[at : at + 3], "big")
        if len(data) - at - known.FRAME_HEADER < size:
            break
        stream = int.from_bytes(data[at + 5 : at + 9], "big")
        begin = at + int(known.FRAME_HEADER)
        found.append(Frame(data[at + 3], data[at + 4], stream, data[begin : begin + size]))
        at = begin + size
    return found, data[at:]
