"""Passive health checks: a host with failing requests is ejected for a while, in this worker only."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.upstream import EJECTED, Host
from pymosn.core.clock import Clock
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.upstream.plan import EjectionPlan


class Ejector:
    """The ejection rule of one cluster and its ejected hosts; it outlives the snapshots of the hosts, like `Limits`."""

    def __init__(self) -> None:
        self.is_on: bool = False
        #: Counts how often the rule was switched on: outcomes from before are forgotten.
        self.era: i64 = 0
        self.plan = EjectionPlan()
        self.consecutive_errors: i64 = 0
        self.minimum_requests: i64 = 0
        self.error_rate = 0.0
        self.interval = 0.0
        #: The ejected hosts: counting them would take a scan of all hosts.
        self.ejected: set[Outcomes] = set()
        self._host_count: i64 = 0

    def activate(self, plan: EjectionPlan | None, host_count: i64) -> None:
        """Applies another rule, None for none, to a cluster of `host_count` hosts."""
        self._host_count = host_count
        if plan is None:
            self.is_on = False
            for outcomes in list(self.ejected):
                outcomes.end()
            return
        if not self.is_on:
            self.is_on = True
            self.era += 1
        self.plan = plan
        self.consecutive_errors = plan.consecutive_errors
        self.minimum_requests = plan.minimum_requests
        self.error_rate = plan.error_rate
        self.interval = plan.interval

    def may_eject(self) -> bool:
        """Whether one more host may be ejected."""
        return float((len(self.ejected) + 1) * 100) <= self.plan.max_ejection_percent * float(self._host_count)


class Outcomes(Alarm):
    """The outcomes of a host's recent requests. The alarm ends its ejection."""

    def __init__(self, host: Host, ejector: Ejector, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__()
        self.ejector = ejector
        self._era: i64 = ejector.era
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
        if self._era != ejector.era:
            self._era = ejector.era
            self.times_ejected = 0
            self._forget(now)
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
        self.ejector.ejected.add(self)
        self._host.set_health_flag(EJECTED, True, now)
        self._wheel.set(self, plan.base_ejection_time * float(self.times_ejected))

    def _forget(self, now: float) -> None:
        self._consecutive = 0
        self._requests = 0
        self._errors = 0
        self._window_start = now

    def on_alarm(self) -> None:
        self._returned = self._clock.now
        self._forget(self._clock.now)
        self.ejector.ejected.discard(self)
        self._host.set_health_flag(EJECTED, False, self._clock.now)

    def end(self) -> None:
        """Ends the monitoring of the host."""
        self._wheel.clear(self)
        self.ejector.ejected.discard(self)
        if self._host.health_flags & EJECTED:
            self._host.set_health_flag(EJECTED, False, self._clock.now)
