"""Deadlines on a timer wheel: one event-loop timer per worker, whatever the number of connections.

The wheel has two rings of slots. The near ring has a slot for each of the next TICKS ticks. Later deadlines are in the far
ring, whose slots span TICKS ticks each, and move to the near ring when their slot is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.clock import Clock

NEVER: Final[float] = 1e18
#: Seconds of one tick; a power of two, so that converting ticks to seconds and back is exact.
RESOLUTION: Final = 1.0 / 2048.0
#: Ticks of the near ring (62.5 ms), and of one slot of the far ring; SPAN is its binary logarithm.
TICKS: Final[i64] = 128
SPAN: Final[i64] = 7
#: Slots of the far ring (32 s). Later deadlines stay in their slot for several rounds.
SLOTS: Final[i64] = 512
_NO_TICK: Final[i64] = 1 << 60


@mypyc_attr(allow_interpreted_subclasses=True)
class Alarm:
    """Base of objects with a deadline: a connection, an exchange, an attempt.

    An alarm is its own list node, so setting and clearing it allocates nothing.
    """

    def __init__(self) -> None:
        self.alarm_deadline: float = NEVER
        self._due: i64 = 0
        self._before: Alarm | None = None
        self._after: Alarm | None = None

    def on_alarm(self) -> None:
        """Called after the deadline, which is cleared; `TimerWheel.set` may set it again."""
        raise NotImplementedError


def _no_wake(deadline: float) -> None:
    """For tests, which call `advance` themselves."""


class TimerWheel:
    """Keeps alarms in slots; an alarm fires at most two ticks late, never early, if `advance` is called in time.

    `wake`: called with a time of the clock, in seconds, at which `advance` must be called next. It replaces the time of
    an earlier call. It is not called again for each alarm, only for one that is due before the others.
    """

    def __init__(self, clock: Clock, wake: Callable[[float], None] = _no_wake) -> None:
        self.clock = clock
        self._wake = wake
        self._near: list[Alarm] = [Alarm() for _ in range(int(TICKS))]
        self._far: list[Alarm] = [Alarm() for _ in range(int(SLOTS))]
        self._tick: i64 = i64(clock.now / RESOLUTION)
        # No alarm is due before this tick.
        self._next: i64 = _NO_TICK
        self._is_advancing = False
        self._size: i64 = 0

    def __len__(self) -> int:
        return int(self._size)

    def set(self, alarm: Alarm, delay: float) -> None:
        """Schedules `alarm.on_alarm` in `delay` seconds, replacing an earlier deadline.

        Moving a deadline further away, as every request does with its connection's idle timeout, only records it: the alarm
        is moved to its new slot when the old one is due.
        """
        deadline = self.clock.now + delay
        alarm.alarm_deadline = deadline
        due: i64 = i64(deadline / RESOLUTION) + 1
        if alarm._before is not None:
            if alarm._due <= due:
                return
            self._unlink(alarm)
        self._link(alarm, due)

    def clear(self, alarm: Alarm) -> None:
        """Cancels `alarm`; the wheel keeps no reference to it."""
        alarm.alarm_deadline = NEVER
        if alarm._before is not None:
            self._unlink(alarm)

    def advance(self) -> None:
        """Fires all due alarms, and requests the next call through `wake` if there are others.

        An exception in one alarm does not affect the others; it is raised at the end, several of them as a group.
        """
        target: i64 = i64(self.clock.now / RESOLUTION)
        first = self._next
        if target > self._tick:
            self._tick = target
        errors: list[BaseException] = []
        if first <= target:
            self._is_advancing = True
            self._next = _NO_TICK
            # After a long pause, each slot is visited only once.
            last: i64 = target >> SPAN
            far: i64 = first >> SPAN
            if far <= last - SLOTS:
                far = last - SLOTS + 1
            while far <= last:
                self._visit(self._far[far % SLOTS], target, errors)
                far += 1
            near = first
            if near <= target - TICKS:
                near = target - TICKS + 1
            while near <= target:
                self._visit(self._near[near % TICKS], target, errors)
                near += 1
            self._is_advancing = False
            self._next = self._earliest()
        if self._next < _NO_TICK:
            self._wake(float(self._next) * RESOLUTION)
        if errors:
            raise errors[0] if len(errors) == 1 else BaseExceptionGroup("alarms failed", errors)

    def _earliest(self) -> i64:
        """The first tick with an alarm; for one in the far ring, the first tick of its slot."""
        if self._size == 0:
            return _NO_TICK
        near: i64 = self._tick + 1
        while near < self._tick + TICKS and self._near[near % TICKS]._after is None:
            near += 1
        far: i64 = (self._tick >> SPAN) + 1
        while (far << SPAN) < near or near == self._tick + TICKS:
            if self._far[far % SLOTS]._after is not None:
                return far << SPAN
            far += 1
        return near

    def _visit(self, head: Alarm, tick: i64, errors: list[BaseException]) -> None:
        """Fires the due alarms of a slot, and moves those of the far ring whose time has come, and those set to later."""
        due: list[Alarm] = []
        alarm = head._after
        while alarm is not None:
            if alarm._due <= tick:
                due.append(alarm)
            alarm = alarm._after
        now = self.clock.now
        for alarm in due:
            if alarm._before is None:
                continue  # cleared by an alarm that fired before it
            self._unlink(alarm)
            if alarm.alarm_deadline > now:
                if alarm.alarm_deadline < NEVER:
                    self._link(alarm, i64(alarm.alarm_deadline / RESOLUTION) + 1)
            else:
                alarm.alarm_deadline = NEVER
                try:
                    alarm.on_alarm()
                except BaseException as error:  # of foreign code, such as the codec of an installed package
                    errors.append(error)

    def _link(self, alarm: Alarm, due: i64) -> None:
        if due <= self._tick:
            due = self._tick + 1
        if due - self._tick < TICKS:
            head = self._near[due % TICKS]
        else:
            head = self._far[(due >> SPAN) % SLOTS]
            due = (due >> SPAN) << SPAN
        after = head._after
        alarm._due = due
        alarm._before = head
        alarm._after = after
        head._after = alarm
        if after is not None:
            after._before = alarm
        self._size += 1
        if due < self._next:
            self._next = due
            if not self._is_advancing:
                self._wake(float(due) * RESOLUTION)

    def _unlink(self, alarm: Alarm) -> None:
        before = alarm._before
        after = alarm._after
        if before is not None:
            before._after = after
        if after is not None:
            after._before = before
        alarm._before = None
        alarm._after = None
        self._size -= 1
