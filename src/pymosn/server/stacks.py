"""Stacks of a worker, recorded in a file that its supervisor shares, without the worker's help.

A timer sends a signal to the thread that runs the event loop, and faulthandler's handler, which needs no interpreter lock,
writes that thread's stack. `faulthandler.dump_traceback_later` is no alternative: its thread reads the frames of another
thread while they change, which can crash the process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

#: Its default action would end the process, so the handler is set before the timer. Real-time signals have no other meaning
#: than the one a program gives them; SIGALRM and SIGPROF are used by libraries.
_SIGNAL: Final = signal.SIGRTMAX - 1
#: From linux/signal.h.
SIGEV_THREAD_ID: Final = 4
#: Bytes of stacks; the watchdog reads more.
_MUCH: Final = 32 * 1024
#: The line before a stack in the output of faulthandler.
HEADER: Final = "Stack (most recent call first):"
#: A call in the output of faulthandler.
FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')


class SignalEvent(ctypes.Structure):
    """`struct sigevent` of sigevent(7)."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


class Interval(ctypes.Structure):
    """`struct itimerspec` of timer_settime(2)."""

    _fields_ = (
        ("repeat_seconds", ctypes.c_long),
        ("repeat_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Frame(NamedTuple):
    """One call on a stack."""

    file: str
    line: int
    function: str

    def text(self) -> str:
        """`file:line in function`."""
        return f"{self.file}:{self.line} in {self.function}"


class StackRecorder:
    """Records the stack of the thread that made it, when its timer ends."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: a file used only for stacks. OSError if the system refuses a timer."""
        self._descriptor = descriptor
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        faulthandler.register(_SIGNAL, file=descriptor, all_threads=False, chain=False)
        event = SignalEvent(signal=_SIGNAL, notify=SIGEV_THREAD_ID, thread=threading.get_native_id())
        self._check(self._libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)))

    def record_after(self, seconds: float, *, repeat: bool = False) -> None:
        """Restarts the timer. `repeat`: whether it records again after each further `seconds`."""
        whole, part = divmod(seconds, 1.0)
        nanoseconds = int(part * 1e9)
        interval = Interval(seconds=int(whole), nanoseconds=nanoseconds)
        if repeat:
            interval.repeat_seconds, interval.repeat_nanoseconds = interval.seconds, interval.nanoseconds
        self._check(self._libc.timer_settime(self._timer, 0, ctypes.byref(interval), None))

    def close(self) -> None:
        """Ends the timer."""
        self._libc.timer_delete(self._timer)

    def take(self) -> str:
        """The stacks recorded since the last call; empty if there are none."""
        return take_stack(self._descriptor)

    def _check(self, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "timer of the watchdog")


def take_stack(descriptor: int) -> str:
    """The stacks recorded since the last call; empty if there are none."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return ""
    text = os.pread(descriptor, min(size, 64 * 1024), 0).decode("utf-8", "replace")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return text


def read_stacks(descriptor: int, offset: int) -> tuple[bytes, int]:
    """What was recorded after `offset`, and the next offset. Leaves it there, for the watchdog, unless it is much."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, size, offset if offset <= size else 0)
    if size > _MUCH:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        size = 0
    return text, size


def request_stack(pid: int, send: Callable[[int], None]) -> bool:
    """Makes a process record the stack of its main thread; False if it has no StackRecorder. `send`: a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    # The default action would end it.
    if caught is None or not int(caught[1], 16) >> (_SIGNAL - 1) & 1:
        return False
    send(_SIGNAL)
    return True


def frames(text: str) -> list[Frame]:
    """The calls of the last stack in the output of faulthandler, innermost first."""
    _, _, last = text.rpartition(HEADER)
    return [Frame(match[1], int(match[2]), match[3]) for line in last.splitlines() if (match := FRAME.fullmatch(line))]
