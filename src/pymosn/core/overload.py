"""Overload state of a worker, read by the data path."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

# Overload levels; each includes those before it.
NORMAL: Final[i64] = 0
NO_KEEP_ALIVE: Final[i64] = 1
SHED: Final[i64] = 2
STOP_ACCEPT: Final[i64] = 3


class OverloadState:
    """One per worker. Written by the overload manager, read by the data path."""

    def __init__(self) -> None:
        #: The level for the worker's memory use.
        self.level: i64 = NORMAL
        #: Bytes of incomplete request heads on all connections, and their limit; 0 means unlimited.
        self.head_bytes: i64 = 0
        self.max_head_bytes: i64 = 0
