"""Passive health checks: a host with failing requests is ejected for a while, in this worker only."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.upstream import EJECTED, Host
from pymosn.core.clock import Clock
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.upstream.plan import EjectionPlan


class Ejector:
    """The ejection rule of one cluster, for one snapshot of its hosts."""

    def __init__(self, plan: EjectionPlan, hosts: list[Host]) -> None:
        self.plan = plan
        self.consecutive_errors: i64 = plan.consecutive_errors
        self.minimum_requests: i64 = plan.minimum_requests
        self.error_rate = plan.error_rate
        self.interval = plan.interval
        self._hosts = hosts

    def may_eject(self) -> bool:
        """Whether one more host may be ejected."""
        ejected = sum(1 for host in self._hosts if host.health_flags & EJECTED)
        return (ejected + 1) * 100 <= self.plan.max_ejection_percent * len(self._hosts)


class Outcomes(Alarm):
    """The outcomes of a host's recent requests. The alarm ends its ejection."""

    def __init__(self, host: Host, ejector: Ejector, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__()
        self.ejector = ejector
        #: Number of recent ejections: each lasts longer. One is forgotten after each interval without ejection.
        self.times_ejected: i64 = 0
        self._host = host
        self._clock = clock
        self._wheel = wheel
        self._consecutive: i64 = 0
        self._requests: i64 = 0
        self._errors: i64 = 0
        self._window_start = clock.now
        self._returned = 0.0

    def record(self, is_error: bool) -> None:
        """Records the end of a request. `is_error`: no response, or a server error."""
        ejector = self.ejector
        now = self._clock.now
        if now - self._window_start >= ejector.interval:
            self._window_start = now
            self._requests = 0
            self._errors = 0
        self._requests += 1
        if not is_error:
            self._consecutive = 0
            return
        self._errors += 1
        self._consecutive += 1
        if self._host.health_flags & EJECTED:
            return  # a request from before the ejection
        too_many = 0 < ejector.consecutive_errors <= self._consecutive
        if not too_many and ejector.error_rate > 0.0 and self._requests >= ejector.minimum_requests:
            too_many = float(self._errors) * 100.0 >= ejector.error_rate * float(self._requests)
        if too_many and ejector.may_eject():
            self._eject(now)

    def _eject(self, now: float) -> None:
        plan = self.ejector.plan
        if self.times_ejected > 0 and plan.interval > 0.0:
            forgotten: i64 = i64((now - self._returned) / plan.interval)
            self.times_ejected = max(0, self.times_ejected - forgotten)
        self.times_ejected += 1
        self._host.set_health_flag(EJECTED, True, now)
        self._wheel.set(self, plan.base_ejection_time * float(self.times_ejected))

    def on_alarm(self) -> None:
        self._consecutive = 0
        self._requests = 0
        self._errors = 0
        self._returned = self._clock.now
        self._window_start = self._clock.now
        self._host.set_health_flag(EJECTED, False, self._clock.now)

    def end(self) -> None:
        """Ends the monitoring of the host."""
        self._wheel.clear(self)
        if self._host.health_flags & EJECTED:
            self._host.set_health_flag(EJECTED, False, self._clock.now)
