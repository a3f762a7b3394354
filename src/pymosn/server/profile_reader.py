"""Reads what a `CpuRecorder` writes, and counts equal stacks."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter
from typing import Final

from pymosn.observe.profile import Call, Stack, module_name
from pymosn.server.cpu_recorder import BEGIN, END
from pymosn.server.stacks import FRAME, HEADER

#: Different stacks that are kept, and bytes of the pipe: what is written while this process is busy.
MOST_STACKS: Final = 20_000
PIPE_SIZE: Final = 1 << 20
_PIECE: Final = 1 << 16
#: Seconds between two tests of whether the recording has been given up.
_TURN: Final = 0.1
_NO_FRAME: Final = "  <no Python frame>"
_FIRST: Final = BEGIN.decode().rstrip()
_LAST: Final = END.decode().rstrip()

#: The innermost Python functions of pymosn while its event loop, or compiled code that the loop calls, is running.
_LOOPS: Final = frozenset(("pymosn.server.worker.is_interrupted", "pymosn.server.run.run"))


class StackCounts:
    """Equal stacks with their numbers, from text that comes in pieces."""

    def __init__(self, loop_name: str) -> None:
        """`loop_name`: what is added to stacks that end where the event loop runs."""
        self.counts: Counter[Stack] = Counter()
        #: Stacks that were not complete, or too many different ones.
        self.lost = 0
        self.has_begun = False
        self.has_ended = False
        self._loop_name = loop_name
        self._rest = b""
        self._stack: list[Call] | None = None
        self._is_whole = True
        self._calls: dict[str, Call] = {}

    def feed(self, data: bytes) -> None:
        """Reads a piece of text."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"))

    def close(self) -> None:
        """The text has ended."""
        self._finish()

    def add(self, other: StackCounts) -> None:
        """Adds the stacks of another recording."""
        self.counts.update(other.counts)
        self.lost += other.lost

    def _line(self, line: str) -> None:
        if line == HEADER:
            self._finish()
            self._stack, self._is_whole = [], True
        elif line == _FIRST:
            self.has_begun = True
        elif line == _LAST:
            self._finish()
            self.has_ended = True
        elif self._stack is not None:
            call = self._calls.get(line) or self._read(line)
            if call is not None:
                self._stack.append(call)
            elif line not in (_NO_FRAME, "  ..."):
                self._is_whole = False

    def _read(self, line: str) -> Call | None:
        match = FRAME.fullmatch(line)
        if match is None:
            return None
        call = Call(f"{module_name(match[1])}.{match[3]}", match[1], int(match[2]))
        if len(self._calls) < MOST_STACKS:
            self._calls[line] = call
        return call

    def _finish(self) -> None:
        stack, self._stack = self._stack, None
        if stack is None:
            return
        if not stack or stack[0].function in _LOOPS:
            stack.insert(0, Call(self._loop_name, "", 0))
        key = tuple(stack)
        if self._is_whole and (key in self.counts or len(self.counts) < MOST_STACKS):
            self.counts[key] += 1
        else:
            self.lost += 1


class ProfileReader:
    """Reads a descriptor in a thread, which does not need the event loop: that may be what is being recorded."""

    def __init__(self, descriptor: int, seconds: float, counts: StackCounts) -> None:
        """Owns the descriptor. `seconds`: after which it ends, whatever is written."""
        self._descriptor = descriptor
        self._seconds = seconds
        self._counts = counts
        self._is_cancelled = threading.Event()

    def cancel(self) -> None:
        """Ends `read` soon."""
        self._is_cancelled.set()

    def read(self) -> None:
        """Reads until the recording has ended, or time is up. Runs in a thread."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        deadline = time.monotonic() + self._seconds
        try:
            while not self._counts.has_ended and not self._is_cancelled.is_set() and time.monotonic() < deadline:
                if not poll.poll(_TURN * 1000):
                    continue
                data = os.read(self._descriptor, _PIECE)
                if not data:
                    break
                self._counts.feed(data)
        finally:
            self._counts.close()
            os.close(self._descriptor)
