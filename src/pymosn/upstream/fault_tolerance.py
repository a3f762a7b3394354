"""MOSN's `fault_tolerance`: a host is ejected if its share of exceptions is a multiple of the average of its cluster.

Unlike outlier detection, the rule belongs to a listener, and only its requests count. Each rule has a window per cluster,
in this worker; listeners with the same rule share it. A window begins with a request. When it ends, the hosts with enough
requests are compared. If there are none, what has been counted is kept for the next window, as in MOSN.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.upstream import FAULTY, FaultRule, Host
from pymosn.core.clock import Clock
from pymosn.core.timers import Alarm, TimerWheel


class Calls:
    """The requests of a host in the current window."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.total: i64 = 0
        self.exceptions: i64 = 0

    def rate(self) -> float:
        """The share of exceptions, from 0 to 1. There must have been a request."""
        return float(self.exceptions) / float(self.total)


class Faults:
    """The windows of one cluster, by rule; they outlive the snapshots of the hosts."""

    def __init__(self, wheel: TimerWheel) -> None:
        self._wheel = wheel
        self._windows: dict[FaultRule, FaultWindow] = {}

    def record(self, rule: FaultRule, host: Host, status: i64) -> None:
        """Records the end of a request. `status`: HTTP's, of the response or of the failure."""
        window = self._windows.get(rule)
        if window is None:
            # Rules that have been replaced leave their windows behind.
            self._windows = {key: kept for key, kept in self._windows.items() if kept.is_used()}
            window = self._windows[rule] = FaultWindow(rule, self._wheel)
        window.record(host, int(status) in rule.exceptions)

    def forget(self, host: Host) -> None:
        """The host is gone."""
        for window in self._windows.values():
            window.forget(host)


class FaultWindow(Alarm):
    """One rule for one cluster. The alarm is the end of the window."""

    def __init__(self, rule: FaultRule, wheel: TimerWheel) -> None:
        super().__init__()
        self._rule = rule
        self._wheel = wheel
        self._calls: dict[Host, Calls] = {}
        self._ejected: dict[Host, Recovery] = {}
        self._is_open: bool = False

    def is_used(self) -> bool:
        """Whether a window is open, or a host ejected."""
        return self._is_open or len(self._ejected) > 0

    def record(self, host: Host, is_exception: bool) -> None:
        """Records a request, with which a window begins if none is open."""
        if not self._is_open:
            self._is_open = True
            self._wheel.set(self, self._rule.window)
        calls = self._calls.get(host)
        if calls is None:
            calls = self._calls[host] = Calls(host)
        calls.total += 1
        if is_exception:
            calls.exceptions += 1

    def on_alarm(self) -> None:
        self._is_open = False
        # Hosts that get no requests for another reason are not compared, and keep what has been counted.
        healthy = [calls for calls in self._calls.values() if calls.host.is_healthy]
        compared = [calls for calls in healthy if calls.total >= self._rule.least_calls]
        if not compared:
            return
        total: i64 = 0
        exceptions: i64 = 0
        for calls in compared:
            total += calls.total
            exceptions += calls.exceptions
        average = float(exceptions) / float(total)
        compared.sort(key=Calls.rate, reverse=True)
        for calls in compared:
            if calls.exceptions == 0 or calls.rate() < self._rule.multiple * average:
                break
            if len(self._ejected) < self._rule.most_ejected:
                self._eject(calls.host)
        for calls in healthy:
            del self._calls[calls.host]

    def _eject(self, host: Host) -> None:
        recovery = self._ejected[host] = Recovery(host, self, self._wheel.clock)
        host.set_health_flag(FAULTY, True, self._wheel.clock.now)
        self._wheel.set(recovery, self._rule.recovery)

    def recover(self, host: Host) -> None:
        """The host gets requests again; what has been counted meanwhile is forgotten."""
        del self._ejected[host]
        self._calls.pop(host, None)

    def forget(self, host: Host) -> None:
        """The host is gone."""
        self._calls.pop(host, None)
        recovery = self._ejected.pop(host, None)
        if recovery is not None:
            self._wheel.clear(recovery)
            recovery.end()
        if self._is_open and not self._calls:
            self._is_open = False
            self._wheel.clear(self)


class Recovery(Alarm):
    """The end of an ejection."""

    def __init__(self, host: Host, window: FaultWindow, clock: Clock) -> None:
        super().__init__()
        self._host = host
        self._window = window
        self._clock = clock

    def on_alarm(self) -> None:
        self._window.recover(self._host)
        self.end()

    def end(self) -> None:
        """Clears the host's flag."""
        self._host.set_health_flag(FAULTY, False, self._clock.now)
