"""Records where the threads of this process use CPU, as text in a descriptor that another process reads.

Each thread has a timer on its own CPU clock, which sends it a signal; faulthandler's handler writes the thread's stack. It
needs no interpreter lock and no interpreter: it also records what happens inside of compiled and C code, which a sampling
thread or a handler in Python would see too late or never. Only calls of Python code are on the stack: the time of compiled
functions is that of the Python function that called them.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import threading
from typing import Final

from pymosn.server.stacks import SIGEV_THREAD_ID, Interval, SignalEvent

#: Not that of the watchdog. Its default action would end the process: once set, the handler stays.
_SIGNAL: Final = signal.SIGRTMAX - 2
#: The first line, so that the reader knows that the process has begun.
BEGIN: Final = b"Beginning of the recording\n"
#: The last line, after which nothing comes.
END: Final = b"End of the recording\n"


class CpuRecorder:
    """One for a process. Threads that begin after `start` are not recorded."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timers: list[ctypes.c_void_p] = []
        self._descriptor = -1
        self._nothing = -1

    @property
    def is_running(self) -> bool:
        """Whether it is recording."""
        return self._descriptor >= 0

    def start(self, descriptor: int, hertz: int) -> None:
        """Records `hertz` times in each second of CPU; owns the descriptor. OSError if the system has no such timers."""
        if self.is_running:
            os.close(descriptor)
            raise OSError("a profile of this process is already being recorded")
        self._descriptor = descriptor
        try:
            if self._nothing < 0:
                self._nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # without a reader
                os.write(descriptor, BEGIN)
            faulthandler.register(_SIGNAL, file=descriptor, all_threads=False, chain=False)
            for thread in threading.enumerate():
                if thread.native_id is not None:
                    self._start_timer(thread.native_id, hertz)
        except BaseException:
            self.stop()
            raise

    def _start_timer(self, thread: int, hertz: int) -> None:
        event = SignalEvent(signal=_SIGNAL, notify=SIGEV_THREAD_ID, thread=thread)
        timer = ctypes.c_void_p()
        # The kernel's number for the CPU clock of a thread (include/linux/posix-timers.h).
        clock = ctypes.c_int(~thread << 3 | 6)
        if self._libc.timer_create(clock, ctypes.byref(event), ctypes.byref(timer)) != 0:
            if thread == threading.get_native_id():
                self._fail()
            return  # the thread has ended meanwhile
        self._timers.append(timer)
        period = 1_000_000_000 // hertz
        interval = Interval(repeat_seconds=0, repeat_nanoseconds=period, seconds=0, nanoseconds=period)
        if self._libc.timer_settime(timer, 0, ctypes.byref(interval), None) != 0:
            self._fail()

    def _fail(self) -> None:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "timer of the profiler")

    def stop(self) -> None:
        """Ends the recording and closes the descriptor; does nothing without one."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        for timer in self._timers:
            self._libc.timer_delete(timer)
        self._timers = []
        if self._nothing >= 0:
            # A signal may still be on its way.
            faulthandler.register(_SIGNAL, file=self._nothing, all_threads=False, chain=False)
        with contextlib.suppress(OSError):  # full, or without a reader
            os.write(descriptor, END)
        os.close(descriptor)
