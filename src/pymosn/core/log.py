"""The data path's interface to the process log: a level to compare and a method to write."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

TRACE: Final = 5
DEBUG: Final = 10
INFO: Final = 20
WARN: Final = 30
ERROR: Final = 40
FATAL: Final = 50
OFF: Final = 100


@mypyc_attr(allow_interpreted_subclasses=True)
class Log:
    """Discards everything; `observe` implements it. Check `level` before building an expensive text."""

    def __init__(self) -> None:
        self.level: int = OFF

    def hide(self, secret: object) -> None:
        """Removes a secret from all further lines."""

    def write(self, level: int, text: str, alert: str = "") -> None:
        """Writes a line if `level` is at least the log's; `alert`: MOSN's alert key (key reference section 2.1)."""
