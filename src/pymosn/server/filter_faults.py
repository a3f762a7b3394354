"""The last error of each filter: what a worker reports, and what the supervisor keeps of all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pymosn.control.plane import FaultView
from pymosn.proxy.filter_code import FilterCode, FilterFault

#: Filters whose last error is kept, and characters of its text.
FILTERS: Final = 1000
TEXT_LIMIT: Final = 4000

#: Filter, seconds since 1970, phase, text, stack with the innermost call first.
Fault = tuple[str, float, str, str, list[str]]


class FaultReport:
    """Finds the errors of one worker that it has not reported yet."""

    def __init__(self) -> None:
        self._reported: dict[str, FilterFault] = {}

    def take(self, codes: Iterable[FilterCode], hide: Callable[[str], str]) -> list[Fault]:
        """The last errors of filters that are new since the last call. `hide` removes secrets from a text."""
        newest: dict[str, FilterFault] = {}
        for code in codes:
            fault = code.last_fault
            if fault is not None and (code.name not in newest or newest[code.name].at < fault.at):
                newest[code.name] = fault
        found = [(name, fault) for name, fault in newest.items() if self._reported.get(name) is not fault]
        self._reported = newest
        return [
            (name, fault.at, fault.phase, hide(fault.message)[:TEXT_LIMIT], [hide(line) for line in fault.stack])
            for name, fault in found[:FILTERS]
        ]


class KnownFaults:
    """Keeps the last error of each filter in any worker."""

    def __init__(self) -> None:
        self._by_filter: dict[str, FaultView] = {}

    def add(self, worker_id: int, faults: Iterable[Fault]) -> None:
        """Adds what a worker reports."""
        for name, at, phase, message, stack in faults:
            before = self._by_filter.pop(name, None)
            if before is not None and before["time"] > at:
                self._by_filter[name] = before
                continue
            if len(self._by_filter) >= FILTERS:
                del self._by_filter[next(iter(self._by_filter))]
            self._by_filter[name] = {
                "time": at,
                "worker": worker_id,
                "phase": phase,
                "message": message,
                "stack": stack,
            }

    def of(self, name: str) -> FaultView | None:
        """That of a filter; None without one."""
        return self._by_filter.get(name)
