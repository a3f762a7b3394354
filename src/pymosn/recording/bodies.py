"""Bodies without their secrets, and without the content codings that a browser has removed."""

from __future__ import annotations

import base64
import importlib
import zlib
from typing import Any, Final

from pymosn.core.redaction import redacted_text

#: Bytes of a body whose content codings are removed.
LONGEST_DECODED: Final = 64 * 1024 * 1024
#: Types of texts in which secrets have no names, and which may be long.
_DOCUMENTS: Final = ("text/html", "text/css", "javascript")


def body_without_secrets(data: bytes, complete: bool = True) -> bytes:
    """A body that is text without the secrets that `redacted_text` finds: JSON, forms, XML. Other bodies as they are.

    `complete`: false if the end is missing, so that the last character may be a part of one.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if complete or error.start < len(data) - 3:
            return data
        text = data.decode("utf-8", "surrogateescape")
    shown = redacted_text(text)
    return data if shown == text else shown.encode("utf-8", "surrogateescape")


def hide_in_bodies(record: dict[str, Any]) -> None:
    """Removes secrets from the bodies of a record of a tap, and notes how many bytes of a body there were before."""
    for part in (record["request"], record["response"]):
        body = part.get("body")
        if not body or not body["data"] or _is_document(part["headers"]):
            continue
        data = base64.b64decode(body["data"])
        shown = body_without_secrets(data, body["complete"])
        if shown != data:
            body["data"] = base64.b64encode(shown).decode()
            body["kept"] = len(data)


def _is_document(fields: list[list[str]]) -> bool:
    return any(kind in field[1].lower() for field in fields if field[0].lower() == "content-type" for kind in _DOCUMENTS)


def without_codings(data: bytes, codings: list[str]) -> bytes | None:
    """A body without its content codings (RFC 9110 section 8.4); None if one is unknown, or the body is not valid."""
    try:
        for coding in reversed([name.strip().lower() for field in codings for name in field.split(",") if name.strip()]):
            data = _decoded(data, coding)
    except Exception:  # each library has its own errors
        return None
    return data


def _decoded(data: bytes, coding: str) -> bytes:
    if coding == "identity":
        return data
    if coding in ("gzip", "x-gzip", "deflate"):
        stream = zlib.decompressobj(47 if coding != "deflate" or data[:1] == b"\x78" else -15)
        found = stream.decompress(data, LONGEST_DECODED)
        if not stream.eof:
            raise ValueError("it is too long, or not whole")
        return found
    if coding == "zstd":
        decoder: Any = importlib.import_module("zstandard").ZstdDecompressor()
        return bytes(decoder.decompressobj().decompress(data))
    if coding == "br":
        return bytes(importlib.import_module("brotli").decompress(data))
    raise ValueError("unknown")
