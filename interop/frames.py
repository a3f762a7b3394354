"""Splits recorded bytes into frames, reading only lengths and ids, independently of pymosn's codecs."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass
class Frame:
    """One frame. `event`: a heartbeat or similar, not part of a call; `one_way`: a request without a response."""

    raw: bytes
    request_id: int
    request: bool
    event: bool
    one_way: bool = False


def dubbo(data: bytes) -> list[Frame]:
    """The complete Dubbo frames at the start of `data`."""
    frames = []
    while len(data) >= 16:
        magic, flags, _, request_id, size = struct.unpack(">HBBQI", data[:16])
        assert magic == 0xDABB
        if len(data) < 16 + size:
            break
        request = bool(flags & 0x80)
        frames.append(Frame(data[: 16 + size], request_id, request, bool(flags & 0x20), request and not flags & 0x40))
        data = data[16 + size :]
    return frames


def bolt(data: bytes) -> list[Frame]:
    """The complete SOFA Bolt frames (v1 and v2) at the start of `data`."""
    frames = []
    while len(data) >= 20:
        second = data[0] == 2  # v2 has a version byte after the first, and a byte of switches before timeout and status
        kind, command, request_id = data[1 + second], *struct.unpack_from(">HxI", data, 2 + second)
        lengths = (14 if kind else 12) + 2 * second
        if len(data) < lengths + 8:
            break
        end = lengths + 8 + sum(struct.unpack_from(">HHI", data, lengths))
        if second and data[1] == 2 and data[11] & 1:
            end += 4  # the checksum, only in the second version of v2
        if len(data) < end:
            break
        frames.append(Frame(data[:end], request_id, kind != 0, command == 0, kind == 2))
        data = data[end:]
    return frames
