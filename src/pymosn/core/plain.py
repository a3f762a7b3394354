"""Exact `str` and `bytes` for values that filters supply.

A subclass may override any method, so that it fails, or answers differently each time, wherever the proxy uses it later.
Nothing here calls such a method.
"""

from __future__ import annotations

from typing import Final

_ALL: Final = slice(None)


def plain_text(text: str) -> str:
    """The same text as a `str`. Raises TypeError for anything else."""
    return text if type(text) is str else str.__str__(text)


def plain_bytes(data: bytes) -> bytes:
    """The same bytes as a `bytes`. Raises TypeError for anything else."""
    return data if type(data) is bytes else bytes.__getitem__(data, _ALL)
