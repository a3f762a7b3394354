"""The content codings of `gzip`, and which of them a client prefers (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable
from typing import Any, Final

#: Codings in the server's order of preference, with the module that each needs.
CODINGS: Final[dict[str, str]] = {"zstd": "zstandard", "br": "brotli", "gzip": "zlib"}
BROTLI_QUALITY: Final = 4
ZSTD_LEVEL: Final = 3


def is_available(coding: str) -> bool:
    """Whether the package for a coding is installed."""
    return importlib.util.find_spec(CODINGS[coding]) is not None


class Compressor:
    """Compresses one body."""

    def __init__(self, coding: str, gzip_level: int) -> None:
        self._add: Callable[[bytes], bytes]
        self._flush: Callable[[], bytes]
        self.end: Callable[[], bytes]
        if coding == "br":
            import brotli

            stream: Any = brotli.Compressor(quality=BROTLI_QUALITY)
            self._add, self._flush, self.end = stream.process, stream.flush, stream.finish
        elif coding == "zstd":
            import zstandard

            stream = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
            block: int = zstandard.COMPRESSOBJ_FLUSH_BLOCK
            self._add, self._flush, self.end = stream.compress, lambda: stream.flush(block), stream.flush
        else:
            stream = zlib.compressobj(gzip_level, zlib.DEFLATED, 31)
            self._add, self._flush, self.end = stream.compress, lambda: stream.flush(zlib.Z_SYNC_FLUSH), stream.flush

    def add(self, data: bytes, flush: bool) -> bytes:
        """The compressed bytes available so far; with `flush` the client can decompress all of `data`."""
        out = self._add(data)
        return out + self._flush() if flush else out


def best_coding(accepted: list[str], offered: list[str]) -> str:
    """The coding of `offered` (in order of preference) with the highest weight in Accept-Encoding; empty for none."""
    weights = _weights(",".join(accepted))
    rest = weights.get("*", 0.0)
    best = ""
    best_weight = 0.0
    for coding in offered:
        weight = weights.get(coding, rest)
        if weight > best_weight:
            best, best_weight = coding, weight
    return best if best_weight >= weights.get("identity", 0.0) else ""


def _weights(field: str) -> dict[str, float]:
    """The codings of an Accept-Encoding field with their weights; an invalid weight counts as 0."""
    found: dict[str, float] = {}
    for item in field.split(","):
        coding, *parameters = item.split(";")
        name = coding.strip().lower()
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = _weight(value.strip())
        found["gzip" if name == "x-gzip" else name] = weight
    return found


def _weight(text: str) -> float:
    whole, _, decimals = text.partition(".")
    if whole not in ("0", "1") or len(decimals) > 3 or (decimals and not (decimals.isascii() and decimals.isdigit())):
        return 0.0
    return min(1.0, float(text))
