"""Bolt frames as a peer writes and reads them, by the protocol's description and not by the code under test."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

REQUEST_CLASS = b"com.alipay.sofa.rpc.core.request.SofaRequest"
RESPONSE_CLASS = b"com.alipay.sofa.rpc.core.response.SofaResponse"
SERVICE: dict[str, str | None] = {"service": "testSofa"}


def block(headers: dict[str, str | None]) -> bytes:
    """A header block; None is written as a null."""
    out = b""
    for name, value in headers.items():
        for text in (name, value):
            out += b"\xff\xff\xff\xff" if text is None else struct.pack(">I", len(text.encode())) + text.encode()
    return out


def _rest(class_name: bytes, headers: bytes, content: bytes) -> bytes:
    return struct.pack(">HHI", len(class_name), len(headers), len(content)) + class_name + headers + content


def request(
    request_id: int,
    content: bytes = b"ping",
    headers: dict[str, str | None] | None = None,
    timeout: int = -1,
    kind: int = 1,
    command: int = 1,
    class_name: bytes = REQUEST_CLASS,
    v2: bool = False,
    crc: bool = False,
) -> bytes:
    """A request; `kind` 2 is one-way."""
    tail = _rest(class_name, block(SERVICE if headers is None else headers), content)
    if not v2:
        return struct.pack(">BBHBIBi", 1, kind, command, 1, request_id, 1, timeout) + tail
    frame = struct.pack(">BBBHBIBBi", 2, 2 if crc else 1, kind, command, 1, request_id, 1, int(crc), timeout) + tail
    return frame + struct.pack(">I", zlib.crc32(frame)) if crc else frame


def response(
    request_id: int,
    content: bytes = b"pong",
    headers: dict[str, str | None] | None = None,
    status: int = 0,
    command: int = 2,
    class_name: bytes = RESPONSE_CLASS,
    v2: bool = False,
    crc: bool = False,
) -> bytes:
    """A response."""
    tail = _rest(class_name, block(headers or {}), content)
    if not v2:
        return struct.pack(">BBHBIBH", 1, 0, command, 1, request_id, 1, status) + tail
    frame = struct.pack(">BBBHBIBBH", 2, 2 if crc else 1, 0, command, 1, request_id, 1, int(crc), status) + tail
    return frame + struct.pack(">I", zlib.crc32(frame)) if crc else frame


def failure(request_id: int, status: int, v2: bool = False, crc: bool = False) -> bytes:
    """The proxy's local reply."""
    return response(request_id, b"", {}, status, class_name=b"", v2=v2, crc=crc)


def heartbeat(request_id: int, v2: bool = False) -> bytes:
    return request(request_id, b"", {}, command=0, class_name=b"", v2=v2)


def heartbeat_ack(request_id: int, v2: bool = False) -> bytes:
    return response(request_id, b"", {}, command=0, class_name=b"", v2=v2)


def goaway(request_id: int) -> bytes:
    return request(request_id, b"", {}, command=100, class_name=b"")


class Parsed(NamedTuple):
    """One frame."""

    kind: int
    command: int
    request_id: int
    status: int
    timeout: int
    class_name: bytes
    headers: dict[str, str | None]
    content: bytes
    raw: bytes


def parse(data: bytes) -> tuple[Parsed | None, bytes]:
    """The first frame of `data` and what is left; None while it is not whole."""
    if len(data) < 2:
        return None, data
    v2 = data[0] == 2
    shift = 1 if v2 else 0
    if len(data) < 3:
        return None, data
    kind = data[1 + shift]
    head = (20 if kind == 0 else 22) + 2 * shift
    if len(data) < head:
        return None, data
    class_size, header_size, content_size = struct.unpack_from(">HHI", data, head - 8)
    crc = 4 if v2 and data[1] == 2 and data[11] & 1 else 0
    size = head + class_size + header_size + content_size + crc
    if len(data) < size:
        return None, data
    if crc:
        assert zlib.crc32(data[: size - 4]) == struct.unpack_from(">I", data, size - 4)[0], "the CRC is wrong"
    at = 10 + 2 * shift
    command, _, request_id = struct.unpack_from(">HBI", data, 2 + shift)
    status = struct.unpack_from(">H", data, at)[0] if kind == 0 else 0
    timeout = struct.unpack_from(">i", data, at)[0] if kind != 0 else 0
    class_name = data[head : head + class_size]
    headers = _headers(data[head + class_size : head + class_size + header_size])
    content = data[head + class_size + header_size : head + class_size + header_size + content_size]
    return Parsed(kind, command, request_id, status, timeout, class_name, headers, content, data[:size]), data[size:]


def _headers(data: bytes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    while data:
        texts: list[str | None] = []
        for _ in range(2):
            (size,) = struct.unpack_from(">I", data)
            data = data[4:]
            if size == 0xFFFFFFFF:
                texts.append(None)
            else:
                texts.append(data[:size].decode("utf-8", "surrogateescape"))
                data = data[size:]
        found[texts[0] or ""] = texts[1]
    return found


def frames(data: bytes) -> list[Parsed]:
    """All frames of `data`, which must be whole."""
    found = []
    while data:
        frame, data = parse(data)
        assert frame is not None, f"half a frame: {data!r}"
        found.append(frame)
    return found
