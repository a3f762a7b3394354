"""Bolt bytes that a peer may send to do harm, and what must come of each: the word of the refusal, or how many frames."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from tests.kit import bolt_frames as bolt


class BoltCase(NamedTuple):
    """`frames`: whole frames that are read first. `reason`: empty when more bytes are awaited."""

    name: str
    data: bytes
    frames: int = 0
    reason: str = ""

    def __str__(self) -> str:
        return self.name


GOOD = bolt.request(1)


def sizes(class_size: int, header_size: int, content_size: int, rest: bytes = b"") -> bytes:
    """A request that claims these lengths."""
    return GOOD[:14] + struct.pack(">HHI", class_size, header_size, content_size) + rest


def block(data: bytes) -> bytes:
    """A request with that header block."""
    return sizes(0, len(data), 0, data)


def crc_of(data: bytes) -> bytes:
    return data + struct.pack(">I", zlib.crc32(data))


CRC = bolt.request(1, v2=True, crc=True)

TABLE = [
    BoltCase("nothing", b""),
    BoltCase("one byte", b"\x01"),
    *(BoltCase(f"truncated at {size}", GOOD[:size]) for size in range(1, len(GOOD))),
    *(BoltCase(f"version 2 truncated at {size}", CRC[:size]) for size in range(1, len(CRC))),
    *(BoltCase(f"version {version}", bytes([version]) + GOOD[1:], 0, "bad_frame") for version in (0, 3, 0x47, 0xDA, 0xFF)),
    *(BoltCase(f"type {kind}", GOOD[:1] + bytes([kind]) + GOOD[2:], 0, "bad_frame") for kind in (3, 0x7F, 0xFF)),
    *(BoltCase(f"header version {n}", CRC[:1] + bytes([n]) + CRC[2:], 0, "bad_frame") for n in (0, 3, 0xFF)),
    BoltCase("content of 2^32 - 1", sizes(0, 0, 0xFFFFFFFF), 0, "frame_too_large"),
    BoltCase("content of 2^31", sizes(0, 0, 0x80000000), 0, "frame_too_large"),
    BoltCase("all lengths at their highest", sizes(0xFFFF, 0xFFFF, 0xFFFFFFFF), 0, "frame_too_large"),
    BoltCase("content at the limit", sizes(0, 0, 16 * 1024 * 1024 - 22)),
    BoltCase("content over the limit by one", sizes(0, 0, 16 * 1024 * 1024 - 21), 0, "frame_too_large"),
    BoltCase("class and headers over the limit", sizes(0xFFFF, 0xFFFF, 16 * 1024 * 1024 - 22), 0, "frame_too_large"),
    BoltCase("no class, headers, content", sizes(0, 0, 0), 1),
    BoltCase("class larger than what is here", sizes(0xFFFF, 0, 0, b"x" * 100)),
    BoltCase("header block of one byte", block(b"\x00"), 0, "bad_frame"),
    BoltCase("header block of a length only", block(b"\x00\x00\x00\x00"), 0, "bad_frame"),
    BoltCase("empty name and value", block(bytes(8)), 1),
    BoltCase("name beyond the block", block(b"\x00\x00\x00\x09name"), 0, "bad_frame"),
    BoltCase("value beyond the block", block(b"\x00\x00\x00\x01n\x00\x00\x00\x02v"), 0, "bad_frame"),
    BoltCase("name of 2^32 - 2", block(b"\xff\xff\xff\xfe" + bytes(8)), 0, "bad_frame"),
    BoltCase("name of 2^31", block(b"\x80\x00\x00\x00" + bytes(8)), 0, "bad_frame"),
    BoltCase("value of 2^31 - 1", block(b"\x00\x00\x00\x01n\x7f\xff\xff\xff"), 0, "bad_frame"),
    BoltCase("null name and value", block(b"\xff" * 8), 1),
    BoltCase("null name, no value", block(b"\xff" * 4), 0, "bad_frame"),
    BoltCase("odd number of texts", block(b"\x00\x00\x00\x01n\x00\x00\x00\x01v\x00\x00\x00\x01n"), 0, "bad_frame"),
    BoltCase("eight thousand empty pairs", block(bytes(8) * 8000), 1),
    BoltCase("wrong CRC", CRC[:-1] + bytes([CRC[-1] ^ 1]), 0, "bad_frame"),
    BoltCase("CRC of other bytes", CRC[:-5] + b"!" + CRC[-4:], 0, "bad_frame"),
    BoltCase("CRC of zero", CRC[:-4] + bytes(4), 0, "bad_frame"),
    BoltCase("good CRC over a bad block", crc_of(CRC[:16] + struct.pack(">HHI", 0, 1, 0) + b"\x00"), 0, "bad_frame"),
    BoltCase("a heartbeat that carries a body", bolt.request(1, b"x" * 1000, command=0), 1),
    BoltCase("an unknown command is a request", bolt.request(1, command=0xFFFF), 1),
    BoltCase("a good frame, then rubbish", GOOD + b"rubbish", 1, "bad_frame"),
    BoltCase("both versions in turn", GOOD + CRC + GOOD, 3),
    BoltCase("a response where requests are", bolt.response(1) + GOOD, 2),
]
