"""The content codings of `gzip`, and which of them a client prefers (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import importlib.util
import zlib
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

    def add(self, data: bytes, flush: bool) -> bytes:
        """The compressed bytes available so far; with `flush` the client can decompress all of `data`."""
        raise NotImplementedError

    def end(self) -> bytes:
        """The remaining bytes."""
        raise NotImplementedError


class _Gzip(Compressor):
    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, 31)

    def add(self, data: bytes, flush: bool) -> bytes:
        out = self._stream.compress(data)
        return out + self._stream.flush(zlib.Z_SYNC_FLUSH) if flush else out

    def end(self) -> bytes:
        return self._stream.flush()


class _Brotli(Compressor):
    def __init__(self) -> None:
        import brotli

        self._stream: Any = brotli.Compressor(quality=BROTLI_QUALITY)

    def add(self, data: bytes, flush: bool) -> bytes:
        out: bytes = self._stream.process(data)
        return out + self._stream.flush() if flush else out

    def end(self) -> bytes:
        out: bytes = self._stream.finish()
        return out


class _Zstd(Compressor):
    def __init__(self) -> None:
        import zstandard

        self._stream: Any = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        self._block: int = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def add(self, data: bytes, flush: bool) -> bytes:
        out: bytes = self._stream.compress(data)
        return out + self._stream.flush(self._block) if flush else out

    def end(self) -> bytes:
        out: bytes = self._stream.flush()
        return out


def make_compressor(coding: str, gzip_level: int) -> Compressor:
    """A compressor for one body."""
    if coding == "br":
        return _Brotli()
    return _Zstd() if coding == "zstd" else _Gzip(gzip_level)


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
