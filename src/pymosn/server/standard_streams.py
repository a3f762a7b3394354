"""Standard streams that cannot stop the process: missing ones are opened, and output that they do not accept is lost.

A service manager may close them, a pipe may lose its reader, and a disk may be full, before the start or any time later.
"""

import io
import os
import sys
from typing import Any, Final, TextIO

STANDARD: Final = (0, 1, 2)


class Output(io.FileIO):
    """One stream for output. `is_lost`: whether some of it was not accepted."""

    is_lost = False

    def write(self, data: Any, /) -> int:
        """Writes bytes, or loses them."""
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        if written is None:  # or it would block
            self.is_lost = True
            return len(data)
        return written


def open_missing() -> None:
    """Opens /dev/null for each standard stream that is closed: otherwise a socket would get its number, and log lines."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, and those below it are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def secure() -> list[Output]:
    """Replaces `sys.stdout` and `sys.stderr` by streams whose methods do not fail; returns what they write to."""
    open_missing()
    outputs = [Output(1, "w", closefd=False), Output(2, "w", closefd=False)]
    sys.stdout, sys.stderr = (_text(*pair) for pair in zip(outputs, (sys.stdout, sys.stderr), strict=True))
    return outputs


def _text(output: Output, before: TextIO | None) -> TextIO:
    encoding, errors = ("utf-8", "backslashreplace") if before is None else (before.encoding, before.errors)
    return io.TextIOWrapper(
        io.BufferedWriter(output), encoding, errors, line_buffering=output.isatty() or output.fileno() == 2
    )
