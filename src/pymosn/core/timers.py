"""Deadlines on a coarse timer wheel: one event-loop timer per worker, whatever the number of connections."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.clock import Clock

NEVER: Final[float] = 1e18
SLOTS: Final[i64] = 512


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


class TimerWheel:
    """Keeps alarms in slots of `resolution` seconds; an alarm fires at most one slot late, never early."""

    def __init__(self, clock: Clock, resolution: float = 0.02) -> None:
        self.clock = clock
        self._resolution = resolution
        self._slots: list[Alarm] = [Alarm() for _ in range(int(SLOTS))]
        self._tick: i64 = i64(clock.now / resolution)
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
        due: i64 = i64(deadline / self._resolution) + 1
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
        """Fires all due alarms. Call it about once per resolution.

        An exception in one alarm does not affect the others; it is raised at the end, several of them as a group.
        """
        errors: list[Exception] = []
        target: i64 = i64(self.clock.now / self._resolution)
        if target - self._tick > SLOTS:
            self._tick = target - SLOTS  # after a long pause, visit every slot only once
        while self._tick < target:
            self._tick += 1
            self._visit(self._slots[self._tick % SLOTS], self._tick, errors)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("alarms failed", errors)

    def _visit(self, head: Alarm, tick: i64, errors: list[Exception]) -> None:
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
                    self._link(alarm, i64(alarm.alarm_deadline / self._resolution) + 1)
            else:
                alarm.alarm_deadline = NEVER
                try:
                    alarm.on_alarm()
                except Exception as error:
                    errors.append(error)

    def _link(self, alarm: Alarm, due: i64) -> None:
        if due <= self._tick:
            due = self._tick + 1
        head = self._slots[due % SLOTS]
        after = head._after
        alarm._due = due
        alarm._before = head
        alarm._after = after
        head._after = alarm
        if after is not None:
            after._before = alarm
        self._size += 1

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
