"""Encoding of messages of Protocol Buffers (protobuf.dev/programming-guides/encoding), as far as exporters need it.

A field with its default value is left out, as in version 3.
"""

from __future__ import annotations

from pymosn.core.varint import varint


def integer(field: int, number: int) -> bytes:
    """A field of the types int32, int64, bool or enum."""
    return varint(field << 3) + varint(number) if number else b""


def message(field: int, content: bytes) -> bytes:
    """A field with another message, or with bytes; also if they are empty."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field: int, value: str) -> bytes:
    """A field of the type string."""
    return message(field, value.encode("utf-8", "replace")) if value else b""
