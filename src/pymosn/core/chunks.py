"""Lists of buffered bytes.

A peer decides how small the pieces are in which it sends. Each costs some fifty bytes besides its content, so many tiny ones
would take much more memory than the limits on their content allow.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: Pieces up to this size together become one.
SMALL: Final[i64] = 1024


def append_chunk(chunks: list[bytes], data: bytes) -> None:
    """Appends `data`, to the last chunk if both are small."""
    if chunks:
        last = chunks[-1]
        if len(last) + len(data) <= SMALL:
            chunks[-1] = last + data
            return
    chunks.append(data)
