"""MOSN's `fault_tolerance`: the settings of an ejection of hosts, which `upstream/fault_tolerance.py` performs."""

# ruff: noqa: N815 - attribute names are MOSN's keys
from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.stream_filter import StreamFilter
from pymosn.api.upstream import FaultRule
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.settings import Block, Unsigned, ignored, works
from pymosn.filters.spec import FilterSpec

EXCEPTIONS: Final = (502, 503, 504)
WINDOW: Final = 10_000
LEAST_CALLS: Final = 10
MULTIPLE: Final = 5.0
MOST_EJECTED: Final = 1
RECOVERY: Final = 15 * 60_000


class Settings(Block, kw_only=True):
    """`fault_tolerance`: ejection of hosts by their share of exceptions. Times in milliseconds; 0 is the default."""

    enabled: Annotated[bool, works("without it the filter has no effect")] = False
    exceptionTypes: Annotated[
        list[int] | None,
        works(
            "statuses that are exceptions, of responses and of failures of the host: 502, 504 for a timeout. RPC statuses "
            "count as the HTTP status that corresponds to them. Default: 502, 503, 504"
        ),
    ] = None
    timeWindow: Annotated[int, works("at its end hosts are compared; 10 or more")] = WINDOW
    leastWindowCount: Annotated[int, works("requests of a host in a window, at least, in each worker")] = LEAST_CALLS
    exceptionRateMultiple: Annotated[
        float,
        works(
            "a host whose share of exceptions is this multiple of that of all compared hosts, or more, is ejected; above 1. "
            "With the default this takes at least 5 hosts"
        ),
    ] = MULTIPLE
    maxIpCount: Annotated[Unsigned, works("ejected hosts of a cluster at a time, in each worker")] = MOST_EJECTED
    maxIpRatio: Annotated[float, ignored("MOSN does not use it either")] = 0.0
    recoverTime: Annotated[int, works("length of an ejection")] = RECOVERY
    taskSize: Annotated[int, ignored("tuning of Go's goroutines")] = 20


class FaultToleranceFilter(StreamFilter):
    """Has no phases: the proxy applies `host_rule` to each attempt."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError for what MOSN refuses."""
        super().__init__(settings)
        rule = rule_of(settings)
        #: None: no rule.
        self.host_rule: FaultRule | None = rule if settings.enabled else None


def rule_of(settings: Settings) -> FaultRule:
    """The rule of these settings. Raises FilterConfigError."""
    _check(settings)
    exceptions = EXCEPTIONS if settings.exceptionTypes is None else settings.exceptionTypes
    return FaultRule(
        frozenset(exceptions),
        (settings.timeWindow or WINDOW) / 1000.0,
        settings.leastWindowCount or LEAST_CALLS,
        settings.exceptionRateMultiple or MULTIPLE,
        settings.maxIpCount or MOST_EJECTED,
        (settings.recoverTime or RECOVERY) / 1000.0,
    )


def _check(settings: Settings) -> None:
    faults: list[tuple[str, str]] = []
    if settings.timeWindow and settings.timeWindow < 10:
        faults.append((".timeWindow", f"expected 10 milliseconds or more, got {settings.timeWindow}"))
    if settings.leastWindowCount < 0:
        faults.append((".leastWindowCount", f"expected a positive number, got {settings.leastWindowCount}"))
    if settings.exceptionRateMultiple and not settings.exceptionRateMultiple > 1:
        faults.append((".exceptionRateMultiple", f"expected a number above 1, got {settings.exceptionRateMultiple}"))
    if settings.recoverTime < 0:
        faults.append((".recoverTime", f"expected milliseconds, got {settings.recoverTime}"))
    if faults:
        raise FilterConfigError(faults)


SPEC: Final = FilterSpec(
    "fault_tolerance",
    Settings,
    FaultToleranceFilter,
    "HTTP and RPC; the ejection is one like that of `outlier_detection`, and both may apply to a cluster",
    (
        (
            "what counts",
            "the final response of each request",
            "each attempt, so that a host is also judged by what a retry repairs. What the client may have caused does not "
            "count: its own timeouts, its slow sending and reading, its leaving",
        ),
        (
            "comparison",
            "shares and multiples are rounded to two digits, so that an average below 0.5 % counts as 0, and one "
            "exception in 200 requests ejects a host",
            "exact; the host with the largest share is ejected first",
        ),
        (
            "recovery",
            "at the first end of a window after `recoverTime`",
            "after `recoverTime`, also if a reload changes or removes the rule meanwhile, or when its worker is replaced, "
            "also by a hot upgrade",
        ),
        (
            "where it counts",
            "for the process, and by address: a host that is in two clusters counts in the first",
            "in each worker, and by cluster. Listeners with equal settings count together",
        ),
    ),
)
