"""How close a worker is to its limits: what the data path asks before it takes on more."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

# The steps of the ladder; each includes those before it.
NORMAL: Final[i64] = 0
NO_KEEP_ALIVE: Final[i64] = 1
SHED: Final[i64] = 2
STOP_ACCEPT: Final[i64] = 3


class OverloadState:
    """One per worker: who measures writes it, the data path reads it."""

    def __init__(self) -> None:
        #: The step that the worker's memory has come to.
        self.level: i64 = NORMAL
        #: Bytes of request heads that have come in part, on all connections, and how many there may be; 0 is no limit.
        self.head_bytes: i64 = 0
        self.max_head_bytes: i64 = 0
