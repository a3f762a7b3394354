"""What clients of one kind have counted: successes, failures with their circumstances, and streams that were cut.

Times are those of CLOCK_MONOTONIC, the same in all processes of a machine, so that a failure can be assigned to what
happened then.
"""

from __future__ import annotations

import errno
import time
from typing import Final

import msgspec

#: Failures of one kind that are described; all are counted.
DESCRIBED: Final = 12


class Failed(msgspec.Struct):
    """`at`: when; `since`: when its connection was opened, `began`: when the request did, 0 if that is unknown.

    `cause`: a few words, `detail`: bytes, errno, streams.
    """

    at: float
    since: float
    cause: str
    detail: str = ""
    began: float = 0.0


class Cut(msgspec.Struct):
    """A long stream, or a silent connection, that the server ended. `how`: what the client saw of it."""

    at: float
    since: float
    how: str


class Tally(msgspec.Struct):
    """One kind of client.

    `listener`: the one that it asks. `clients`: how many there are of this kind. `ok`: complete and correct responses, or
    streams. `asked`: requests that the server must have counted, unless some have failed. `repeated`: requests that a
    server had refused unprocessed, so that they were sent again. `connections`: how many were opened. `told`: those that
    the server had announced the end of, by `connection: close`, GOAWAY or a goaway frame. `longest`: seconds of the
    slowest request.
    """

    kind: str
    listener: str
    clients: int = 1
    ok: int = 0
    asked: int = 0
    failed: int = 0
    repeated: int = 0
    connections: int = 0
    told: int = 0
    longest: float = 0.0
    longest_at: float = 0.0
    failures: list[Failed] = []
    cuts: list[Cut] = []

    def succeed(self, began: float, asked: int = 1) -> None:
        """A request that began at that time has succeeded. `asked`: 0 if the server does not count it, or has before."""
        self.ok += 1
        self.asked += asked
        now = time.monotonic()
        if now - began > self.longest:
            self.longest, self.longest_at = now - began, now

    def fail(self, cause: str, detail: str = "", since: float = 0.0, count: int = 1, began: float = 0.0) -> None:
        """One request, or `count` of them on one connection, have failed."""
        self.failed += count
        if len(self.failures) < DESCRIBED:
            self.failures.append(Failed(time.monotonic(), since, cause, detail, began))

    def cut(self, since: float, how: str) -> None:
        """The server has ended a stream that was to go on."""
        self.cuts.append(Cut(time.monotonic(), since, how))


def describe(error: BaseException) -> str:
    """An error with the name of its errno."""
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return f"{type(error).__name__} {name} {error}".strip()
