"""Client hellos: recorded ones, and built ones whose every part can be wrong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "fixtures" / "client-hello"

#: The usual cipher suites and extensions of a small client of TLS 1.3.
CIPHERS = (0x1301, 0x1302, 0xC02F)


def recorded(name: str) -> bytes:
    """The bytes that a real client has sent; the first line of the file says which."""
    lines = (RECORDED / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def recorded_names() -> list[str]:
    return sorted(path.stem for path in RECORDED.glob("*.hex"))


def number(value: int) -> bytes:
    return value.to_bytes(2, "big")


def numbers(*values: int) -> bytes:
    """A list of 16-bit numbers with its length."""
    return block(b"".join(map(number, values)))


def block(content: bytes, size: int = 2) -> bytes:
    """`content` with its length in `size` bytes in front."""
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes = b"") -> bytes:
    return number(kind) + block(content)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, block(bytes([kind]) + block(name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, block(b"".join(block(name, 1) for name in names)))


def versions(*values: int) -> bytes:
    return extension(43, block(b"".join(map(number, values)), 1))


def message(
    *extensions: bytes,
    version: int = 0x0303,
    session: bytes = b"",
    ciphers: bytes | None = None,
    compression: bytes = b"\x01\x00",
    tail: bytes = b"",
) -> bytes:
    """The handshake message; without extensions, as old clients send it."""
    body = number(version) + bytes(range(32)) + block(session, 1)
    body += (numbers(*CIPHERS) if ciphers is None else ciphers) + compression
    body += (block(b"".join(extensions)) if extensions else b"") + tail
    return b"\x01" + block(body, 3)


def records(data: bytes, *cuts: int) -> bytes:
    """`data` in records, cut at the offsets."""
    bounds = [0, *cuts, len(data)]
    return b"".join(b"\x16\x03\x01" + block(data[start:end]) for start, end in pairwise(bounds))


def hello(*extensions: bytes) -> bytes:
    """A whole ClientHello in one record."""
    return records(message(*extensions))
