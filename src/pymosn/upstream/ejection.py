"""Passive health checks: a host with failing requests is ejected for a while, in this worker only.

Consecutive failures eject a host at once. The rules that compare hosts, or need a number of requests, apply when an interval
ends, to all hosts that had requests in it. Requests without a response are failures of local origin; `splits_local_origin`
keeps them apart from responses that report an error.
"""

from __future__ import annotations

import math
import random
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import EJECTED, Host
from pymosn.core.clock import Clock
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.upstream.plan import EjectionPlan
from pymosn.upstream.selection import draw

#: A recent ejection: cluster, address, seconds that are left (0 if the host is back), number of recent ejections, and
#: seconds since the last one ended, and the rule that caused it, one of the words below.
Ejection = tuple[str, str, float, int, float, str]

CONSECUTIVE_ERRORS: Final = "consecutive errors"
GATEWAY_FAILURES: Final = "consecutive gateway failures"
LOCAL_FAILURES: Final = "consecutive requests without a response"
ERROR_RATE: Final = "rate of errors"
SUCCESS_RATE: Final = "success rate below that of other hosts"
FAILURE_SHARE: Final = "share of failed requests"


class RecentEjections:
    """The recent ejections of one worker: those that last, and those that make the host's next one longer."""

    def __init__(self) -> None:
        self._hosts: set[Outcomes] = set()
        self._has_changed: bool = False

    def note(self, outcomes: Outcomes) -> None:
        """The host was ejected, or is back."""
        self._hosts.add(outcomes)
        self._has_changed = True

    def forget(self, outcomes: Outcomes) -> None:
        """The host is gone, or its cluster has no rules any more."""
        if outcomes in self._hosts:
            self._hosts.discard(outcomes)
            self._has_changed = True

    def take_change(self) -> bool:
        """Whether something has changed since the last call."""
        has_changed = self._has_changed
        self._has_changed = False
        return has_changed

    def all(self) -> list[Ejection]:
        """The recent ejections, now."""
        found: list[Ejection] = []
        for outcomes in list(self._hosts):
            if outcomes.is_forgotten():
                self._hosts.discard(outcomes)
            else:
                found.append(outcomes.ejection())
        return found


class Ejector(Alarm):
    """The ejection rules of one cluster and its ejected hosts; it outlives the snapshots of the hosts, like `Limits`.

    The alarm is the end of an interval.
    """

    def __init__(self, wheel: TimerWheel, cluster: str = "", recent: RecentEjections | None = None) -> None:
        """`cluster`: its name. `recent`: of the worker."""
        super().__init__()
        self.cluster = cluster
        self.recent = RecentEjections() if recent is None else recent
        self.is_on: bool = False
        #: Counts how often the rule was switched on: outcomes from before are forgotten.
        self.era: i64 = 0
        self.plan = EjectionPlan()
        self.consecutive_errors: i64 = 0
        self.gateway_failures: i64 = 0
        self.local_failures: i64 = 0
        self.minimum_requests: i64 = 0
        self.error_rate = 0.0
        self.interval = 0.0
        self.splits: bool = False
        #: Whether there are rules that apply when an interval ends.
        self.sweeps: bool = False
        #: The ejected hosts: counting them would take a scan of all hosts.
        self.ejected: set[Outcomes] = set()
        # Those with requests in this interval.
        self._watched: list[Outcomes] = []
        self._host_count: i64 = 0
        self._wheel = wheel

    def activate(self, plan: EjectionPlan | None, host_count: i64) -> None:
        """Applies other rules, None for none, to a cluster of `host_count` hosts."""
        self._host_count = host_count
        if plan is None:
            self.is_on = False
            self._wheel.clear(self)
            self._watched = []
            for outcomes in list(self.ejected):
                outcomes.end()
            return
        if not self.is_on:
            self.is_on = True
            self.era += 1
        self.plan = plan
        self.consecutive_errors = plan.consecutive_errors
        self.gateway_failures = plan.gateway_failures
        self.splits = plan.splits_local_origin
        self.local_failures = plan.local_failures if self.splits else 0
        self.minimum_requests = plan.minimum_requests
        self.error_rate = plan.error_rate
        self.interval = plan.interval
        self.sweeps = plan.interval > 0.0 and (plan.success_rate is not None or plan.failure_percentage is not None)

    def may_eject(self) -> bool:
        """Whether one more host may be ejected."""
        count = len(self.ejected)
        if count == 0 and self.plan.always_ejects_one:
            return True
        return float((count + 1) * 100) <= self.plan.max_ejection_percent * float(self._host_count)

    def ejection_time(self, times: i64) -> float:
        """Seconds of the n-th recent ejection of a host."""
        plan = self.plan
        seconds = plan.base_ejection_time * float(times)
        if plan.max_ejection_time > 0.0:
            seconds = min(seconds, max(plan.base_ejection_time, plan.max_ejection_time))
        return seconds + random.random() * plan.max_ejection_jitter

    def watch(self, outcomes: Outcomes) -> None:
        """Checks a host when the interval ends, which begins with the first request of any."""
        if not self._watched:
            self._wheel.set(self, self.interval)
        self._watched.append(outcomes)

    def on_alarm(self) -> None:
        watched = self._watched
        self._watched = []
        if self.is_on and self.sweeps:
            self._judge(watched, False)
            if self.splits:
                self._judge(watched, True)
        for outcomes in watched:
            outcomes.end_interval()

    def _judge(self, watched: list[Outcomes], is_local: bool) -> None:
        enforcing = self.plan.enforcing
        rate = self.plan.success_rate
        if rate is not None:
            percent = enforcing.local_success_rate if is_local else enforcing.success_rate
            found = _with_volume(watched, rate.request_volume, is_local)
            if percent > 0 and found and len(found) >= rate.minimum_hosts:
                least = _least_rate(found, is_local, float(rate.stdev_factor) / 1000.0)
                for outcomes in found:
                    if outcomes.success_rate(is_local) < least:
                        outcomes.eject_by(percent, SUCCESS_RATE)
        share = self.plan.failure_percentage
        if share is not None:
            percent = enforcing.local_failure_percentage if is_local else enforcing.failure_percentage
            found = _with_volume(watched, share.request_volume, is_local)
            if percent > 0 and found and len(found) >= share.minimum_hosts:
                for outcomes in found:
                    if 100.0 - outcomes.success_rate(is_local) >= share.threshold:
                        outcomes.eject_by(percent, FAILURE_SHARE)


def _with_volume(watched: list[Outcomes], volume: int, is_local: bool) -> list[Outcomes]:
    """Those with enough requests in the interval."""
    return [outcomes for outcomes in watched if outcomes.interval_requests(is_local) >= max(1, volume)]


def _least_rate(found: list[Outcomes], is_local: bool, factor: float) -> float:
    """The success rate below which a host is an outlier: so many standard deviations below the average."""
    total = 0.0
    for outcomes in found:
        total += outcomes.success_rate(is_local)
    mean = total / float(len(found))
    squares = 0.0
    for outcomes in found:
        difference = outcomes.success_rate(is_local) - mean
        squares += difference * difference
    return mean - factor * math.sqrt(squares / float(len(found)))


class Outcomes(Alarm):
    """The outcomes of a host's recent requests. The alarm ends its ejection."""

    def __init__(self, host: Host, ejector: Ejector, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__()
        self.ejector = ejector
        self._era: i64 = ejector.era
        #: Number of recent ejections: each lasts longer. One is forgotten after each interval without ejection.
        self.times_ejected: i64 = 0
        #: The rule that caused the last one.
        self.cause = ""
        self._host = host
        self._clock = clock
        self._wheel = wheel
        self._consecutive: i64 = 0
        self._gateway: i64 = 0
        self._local: i64 = 0
        self._requests: i64 = 0
        self._errors: i64 = 0
        self._window_start = clock.now
        self._returned = 0.0
        self._is_watched: bool = False
        self._is_closed: bool = False
        # Of the current interval: requests and errors, and the same of local origin.
        self._seen: i64 = 0
        self._failed: i64 = 0
        self._tried: i64 = 0
        self._lost: i64 = 0

    def record(self, status: i64) -> None:
        """Records the end of a request. `status`: of the response; below 0 if there was none."""
        ejector = self.ejector
        now = self._clock.now
        if self._era != ejector.era:
            self._era = ejector.era
            self.times_ejected = 0
            self._forget(now)
        if ejector.sweeps:
            self._count(status)
        if status < 0 and ejector.splits:
            self._local += 1
            if 0 < ejector.local_failures <= self._local:
                self._local = 0
                self.eject_by(ejector.plan.enforcing.local_failures, LOCAL_FAILURES)
            return
        self._local = 0
        self._record_external(status < 0 or status >= 500, status < 0 or 502 <= status <= 504, now)

    def _record_external(self, is_error: bool, is_gateway_failure: bool, now: float) -> None:
        ejector = self.ejector
        if now - self._window_start >= ejector.interval:
            self._window_start = now
            self._requests = 0
            self._errors = 0
        self._requests += 1
        if not is_gateway_failure:
            self._gateway = 0
        if not is_error:
            self._consecutive = 0
            return
        self._errors += 1
        self._consecutive += 1
        if is_gateway_failure:
            self._gateway += 1
            if 0 < ejector.gateway_failures <= self._gateway:
                self._gateway = 0
                self.eject_by(ejector.plan.enforcing.gateway_failures, GATEWAY_FAILURES)
        if 0 < ejector.consecutive_errors <= self._consecutive:
            self._consecutive = 0
            self.eject_by(ejector.plan.enforcing.consecutive_errors, CONSECUTIVE_ERRORS)
        elif self._exceeds_rate():
            self.eject_by(100, ERROR_RATE)

    def _exceeds_rate(self) -> bool:
        """Whether too many of the recent requests were errors."""
        rate = self.ejector.error_rate
        if rate <= 0.0 or self._requests < self.ejector.minimum_requests:
            return False
        return float(self._errors) * 100.0 >= rate * float(self._requests)

    def _count(self, status: i64) -> None:
        """Counts a request for the rules of the interval."""
        if not self._is_watched:
            self._is_watched = True
            self.ejector.watch(self)
        self._tried += 1
        if status < 0:
            self._lost += 1
            if self.ejector.splits:
                return
        self._seen += 1
        if status < 0 or status >= 500:
            self._failed += 1

    def interval_requests(self, is_local: bool) -> i64:
        """Requests of the current interval; 0 if the host is ejected or gone."""
        if self._is_closed or self._host.health_flags & EJECTED:
            return 0
        return self._tried if is_local else self._seen

    def success_rate(self, is_local: bool) -> float:
        """The percentage of successful requests in the current interval, of which there must be some."""
        if is_local:
            return 100.0 * float(self._tried - self._lost) / float(self._tried)
        return 100.0 * float(self._seen - self._failed) / float(self._seen)

    def end_interval(self) -> None:
        """Begins another interval."""
        self._is_watched = False
        self._seen = 0
        self._failed = 0
        self._tried = 0
        self._lost = 0

    def eject_by(self, percent: i64, cause: str) -> None:
        """Ejects the host because of a rule, in `percent` of the cases.

        Not if too many are, or it already is: by a request from before.
        """
        if self._host.health_flags & EJECTED or draw(100) >= percent:
            return
        if self.ejector.may_eject():
            self.cause = cause
            self._eject(self._clock.now)

    def _eject(self, now: float) -> None:
        self.times_ejected = self._remembered(now) + 1
        self._begin(self.ejector.ejection_time(self.times_ejected))

    def _remembered(self, now: float) -> i64:
        """The number of ejections that are not forgotten."""
        interval = self.ejector.plan.interval
        if self.times_ejected == 0 or interval <= 0.0:
            return self.times_ejected
        forgotten: i64 = i64((now - self._returned) / interval)
        return max(0, self.times_ejected - forgotten)

    def _begin(self, seconds: float) -> None:
        self.ejector.ejected.add(self)
        self.ejector.recent.note(self)
        self._host.set_health_flag(EJECTED, True, self._clock.now)
        self._wheel.set(self, seconds)

    def is_forgotten(self) -> bool:
        """Whether the next ejection will be the first one again."""
        return self._host.health_flags & EJECTED == 0 and self._remembered(self._clock.now) == 0

    def ejection(self) -> Ejection:
        """The ejection as plain data."""
        now = self._clock.now
        cluster, address, times = self.ejector.cluster, self._host.address, int(self.times_ejected)
        if self._host.health_flags & EJECTED:
            return cluster, address, max(0.0, self.alarm_deadline - now), times, 0.0, self.cause
        return cluster, address, 0.0, times, now - self._returned, self.cause

    def restore(self, seconds: float, times: i64, since: float, cause: str) -> None:
        """Continues an ejection of another worker: see `Ejection`. A host that is ejected already stays as it is."""
        if self._host.health_flags & EJECTED or times <= self.times_ejected:
            return
        self._era = self.ejector.era
        self.times_ejected = times
        self.cause = cause
        self._returned = self._clock.now - since
        if seconds > 0.0 and self.ejector.may_eject():
            self._begin(seconds)
        else:
            self.ejector.recent.note(self)

    def _forget(self, now: float) -> None:
        self._consecutive = 0
        self._gateway = 0
        self._local = 0
        self._requests = 0
        self._errors = 0
        self._window_start = now

    def on_alarm(self) -> None:
        self._returned = self._clock.now
        self.ejector.recent.note(self)
        self._forget(self._clock.now)
        self.ejector.ejected.discard(self)
        self._host.set_health_flag(EJECTED, False, self._clock.now)

    def close(self) -> None:
        """Ends the monitoring of a host that is gone."""
        self._is_closed = True
        self.end()

    def end(self) -> None:
        """Ends the ejection of the host."""
        self.ejector.recent.forget(self)
        self._wheel.clear(self)
        self.ejector.ejected.discard(self)
        if self._host.health_flags & EJECTED:
            self._host.set_health_flag(EJECTED, False, self._clock.now)
