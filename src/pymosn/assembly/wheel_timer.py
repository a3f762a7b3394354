"""Drives a timer wheel with a timer of the kernel, which is set only while the wheel has alarms.

Timers of the event loop have a resolution of a millisecond and fire up to two late; a timer descriptor is exact
(timerfd_create(2)).
"""

import asyncio
import ctypes
import math
import os
from typing import Final

from pymosn.core.clock import Clock
from pymosn.core.timers import TimerWheel

# <time.h> and <sys/timerfd.h> of Linux.
_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval and time, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class WheelTimer:
    """Owns `wheel`, and advances it when its next alarm is due. `clock` must be the system's monotonic clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        """OSError if the system has no descriptor for it."""
        self.wheel = TimerWheel(clock, self._wake)
        self._clock = clock
        libc = ctypes.CDLL(None, use_errno=True)
        self._set = libc.timerfd_settime
        self._spec = _TimerSpec(0, 0, 0, 0)
        self._argument = ctypes.byref(self._spec)
        self._descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd_create: {os.strerror(number)}")
        loop.add_reader(self._descriptor, self._advance)

    def _wake(self, deadline: float) -> None:
        fraction, seconds = math.modf(deadline)
        self._spec.seconds = int(seconds)
        self._spec.nanoseconds = int(fraction * 1e9)
        self._set(self._descriptor, _TFD_TIMER_ABSTIME, self._argument, None)

    def _advance(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set to a later time since the event loop was told
        self._clock.tick()
        self.wheel.advance()
