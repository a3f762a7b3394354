"""The content codings of `gzip`, and which of them a client prefers (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import importlib.util
import re
import zlib
from collections.abc import Callable
from typing import Any, Final

#: Codings in the server's order of preference, with the module that each needs.
CODINGS: Final[dict[str, str]] = {"zstd": "zstandard", "br": "brotli", "gzip": "zlib"}
_WEIGHT: Final = re.compile(r"[01](\.[0-9]{0,3})?")


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

            stream: Any = brotli.Compressor(quality=4)
            self._add, self._flush, self.end = stream.process, stream.flush, stream.finish
        elif coding == "zstd":
            import zstandard

            stream = zstandard.ZstdCompressor(level=3).compressobj()
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
    best = max(offered, key=lambda coding: weights.get(coding, rest), default="")
    weight = weights.get(best, rest)
    return best if weight > 0.0 and weight >= weights.get("identity", 0.0) else ""


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
                text = value.strip()
                weight = min(1.0, float(text)) if _WEIGHT.fullmatch(text) else 0.0
        found["gzip" if name == "x-gzip" else name] = weight
    return found
