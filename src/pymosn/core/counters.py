"""Counters, gauges and histograms of one worker.

Hot code holds a `Counter` and adds to its `value`; names are looked up only at creation. A snapshot is plain data, which
the supervisor adds up over its workers. A worker with many groups reports only those that have changed (`Metrics.changes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypedDict

from mypy_extensions import i64, mypyc_attr

from pymosn.core.histograms import Distribution, Histogram, HistogramData
from pymosn.core.ledger import LOW, UNREAD, Ledger, ledger_name

Labels = tuple[tuple[str, str], ...]
#: Type and labels of a metric group.
GroupKey = tuple[str, Labels]


class GroupData(TypedDict):
    """A metric group as plain data."""

    type: str
    labels: list[tuple[str, str]]
    counters: dict[str, int]
    gauges: dict[str, int]
    histograms: dict[str, HistogramData]


@mypyc_attr(acyclic=True)
class Counter:
    """A number that hot code adds to; also used for gauges. `reported`: its value when it was last reported."""

    def __init__(self) -> None:
        self.value: i64 = 0
        self.reported: i64 = 0


@mypyc_attr(acyclic=True)
class KeptCounter(Counter):
    """A counter whose value is also written to the worker's ledger, by whoever adds to it.

    `cell`: from its first use on, see `MetricGroup.keep`. `low`: the index of its lowest byte, as the object that hot code
    needs.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.cell: i64 = 0
        self.low: Any = LOW

    def use_cell(self, cell: i64) -> None:
        """It is written to this cell from now on."""
        self.cell = cell
        self.low = LOW + int(cell)


class MetricGroup:
    """The metrics of one object: a type ("downstream", "upstream"), labels, and keys."""

    def __init__(self, type_name: str, labels: Labels, ledger: Ledger | None = None) -> None:
        """`ledger`: for the counters that are to survive a crash."""
        self.type_name = type_name
        self.labels = labels
        self.ledger = ledger
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        # The number of its metrics when it was last reported.
        self._reported: i64 = -1

    def counter(self, key: str) -> Counter:
        """Returns the counter `key`, creating it on first use."""
        return _numbered(self._counters, key)

    def kept_counter(self, key: str) -> KeptCounter:
        """Returns the counter `key`, which survives a crash of the worker, creating it on first use."""
        found = self._counters.get(key)
        if isinstance(found, KeptCounter):
            return found
        made = KeptCounter(key)
        self._counters[key] = made
        return made

    def keep(self, counter: KeptCounter) -> None:
        """Gives a counter that is about to be used for the first time its cell in the ledger."""
        if self.ledger is not None:
            counter.use_cell(self.ledger.cell(ledger_name(self.type_name, self.labels, counter.key)))

    def end_keeping(self) -> None:
        """It is removed: a later group with the same labels begins at 0, also if the worker crashes."""
        for counter in self._counters.values():
            if self.ledger is not None and isinstance(counter, KeptCounter) and counter.cell > 0:
                self.ledger.clear(counter.cell)
                counter.use_cell(UNREAD)

    def gauge(self, key: str) -> Counter:
        """Returns the gauge `key`, creating it on first use."""
        return _numbered(self._gauges, key)

    def histogram(self, key: str) -> Histogram:
        """Returns the histogram `key`, creating it on first use."""
        return self._histograms.setdefault(key, Histogram())

    def distribution(self, key: str, bounds: list[float]) -> Histogram:
        """Returns the histogram `key`, creating it with these bounds on first use. `key` names the unit of its values."""
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = Distribution(bounds)
        return found

    def data(self) -> GroupData:
        """The group as plain data."""
        return {
            "type": self.type_name,
            "labels": list(self.labels),
            "counters": {key: int(counter.value) for key, counter in self._counters.items()},
            "gauges": {key: int(gauge.value) for key, gauge in self._gauges.items()},
            "histograms": {key: histogram.data() for key, histogram in self._histograms.items()},
        }

    def take_change(self) -> bool:
        """Whether it is new or has changed since the last call."""
        count: i64 = len(self._counters) + len(self._gauges) + len(self._histograms)
        changed = count != self._reported
        self._reported = count
        for numbers in (self._counters, self._gauges):
            for number in numbers.values():
                if number.value != number.reported:
                    number.reported = number.value
                    changed = True
        for histogram in self._histograms.values():
            if histogram.count != histogram.reported:
                histogram.reported = histogram.count
                changed = True
        return changed


def _numbered(numbers: dict[str, Counter], key: str) -> Counter:
    found = numbers.get(key)
    if found is None:
        found = numbers[key] = Counter()
    return found


#: Groups that one step of `Metrics.changes` examines and reports at most: well below a millisecond.
EXAMINED: Final[i64] = 200
REPORTED: Final[i64] = 20


class Metrics:
    """All metric groups of one worker."""

    def __init__(self) -> None:
        #: Counters that survive a crash of the worker.
        self.ledger = Ledger()
        self._groups: dict[GroupKey, MetricGroup] = {}
        # Removed since the last `take_removed`.
        self._removed: dict[GroupKey, None] = {}
        # Types with a limit -> the number of their groups.
        self._bounded: dict[str, int] = {}

    def group(self, type_name: str, *labels: tuple[str, str]) -> MetricGroup:
        """Returns the group of that type and those labels, creating it on first use."""
        key = (type_name, labels)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = MetricGroup(type_name, labels, self.ledger)
        return group

    def bounded(self, limit: int, type_name: str, *labels: tuple[str, str]) -> MetricGroup | None:
        """Like `group`, for labels that peers choose; None if it would exceed `limit` groups of this type.

        Groups that `group` has made do not count.
        """
        found = self._groups.get((type_name, labels))
        if found is not None:
            return found
        size = self._bounded.get(type_name, 0)
        if size >= limit:
            return None
        self._bounded[type_name] = size + 1
        return self.group(type_name, *labels)

    def __len__(self) -> int:
        return len(self._groups)

    def keep(self, is_kept: Callable[[str, Labels], bool]) -> None:
        """Removes groups for which `is_kept(type, labels)` is false; existing references to their counters stay usable."""
        for _ in self.keep_in_steps(is_kept):
            pass

    def keep_in_steps(self, is_kept: Callable[[str, Labels], bool]) -> Iterator[None]:
        """The same in steps of a bounded number of groups."""
        for examined, key in enumerate(list(self._groups)):
            if not is_kept(key[0], key[1]):
                self._remove(key)
            if examined % EXAMINED == EXAMINED - 1:
                yield

    def drop(self, type_name: str, *labels: tuple[str, str]) -> None:
        """Removes one group."""
        self._remove((type_name, labels))

    def _remove(self, key: GroupKey) -> None:
        group = self._groups.pop(key, None)
        if group is not None:
            group.end_keeping()
            self._removed[key] = None
            size = self._bounded.get(key[0], 0)
            if size > 0:
                self._bounded[key[0]] = size - 1

    def changes(self) -> Iterator[list[GroupData]]:
        """The groups that have changed since they were last reported, in steps; a list may be empty."""
        found: list[GroupData] = []
        for examined, (key, group) in enumerate(list(self._groups.items())):
            if group.take_change() and key in self._groups:
                found.append(group.data())
            if examined % EXAMINED == EXAMINED - 1 or len(found) >= REPORTED:
                yield found
                found = []
        yield found

    def take_removed(self) -> list[GroupKey]:
        """The groups that were removed since the last call and do not exist again."""
        removed = [key for key in self._removed if key not in self._groups]
        self._removed = {}
        return removed

    def snapshot(self) -> list[GroupData]:
        """All groups as plain data."""
        return [group.data() for group in self._groups.values()]


class TlsStats:
    """The handshakes of a listener or a cluster. Specific to pymosn."""

    def __init__(self, group: MetricGroup) -> None:
        #: Completed, and how many of them resumed a session; failed; in progress.
        self.handshakes = group.counter("tls_handshake_total")
        self.resumed = group.counter("tls_resumed_total")
        self.failed = group.counter("tls_handshake_failed")
        self.active = group.gauge("tls_handshake_active")
        #: Plain connections where TLS was configured: of clients, and to hosts whose handshake failed (`fall_back`).
        self.plain = group.counter("tls_fall_back_total")


#: Keys of a listener whose sums are the number of finished and of failed requests.
CODE_KEYS: Final = re.compile(r"request_(\d{3})_total|code_(\d+)")
FAILURE_KEYS: Final = re.compile(r"failed_(.+)")
#: Status codes for which MOSN has a key.
MOSN_CODES: Final = frozenset((200, 206, 302, 304, 400, 403, 404, 416, 499, 500, 502, 503, 504))


class DownstreamStats:
    """The metrics of a listener, with MOSN's keys (key reference section 10)."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group
        self.connection_total = group.counter("connection_total")
        self.connection_destroy = group.counter("connection_destroy")
        self.connection_active = group.gauge("connection_active")
        self.connection_refused = group.counter("connection_refused")
        self.bytes_read = group.counter("bytes_read_total")
        self.bytes_written = group.counter("bytes_write_total")
        self.request_total = group.counter("request_total")
        self.request_active = group.gauge("request_active")
        self.request_reset = group.counter("request_reset")
        self.request_failed = group.counter("request_failed")
        self.request_time = group.histogram("request_time")
        #: What the proxy took itself, without the wait for the upstream.
        self.process_time = group.histogram("process_time")
        #: Exchanges that became tunnels (WebSocket, CONNECT); their `request_time` ends with the response head.
        self.tunnel_total = group.counter("tunnel_total")
        self.tunnel_active = group.gauge("tunnel_active")
        #: Connections handled by `tcp_proxy`.
        self.tcp_total = group.counter("tcp_total")
        self.tcp_active = group.gauge("tcp_active")
        self.tls = TlsStats(group)
        # The numbers of finished requests survive a crash of the worker: they are also in its ledger.
        ledger = Ledger() if group.ledger is None else group.ledger
        self._page: Any = ledger.page
        self._cells = ledger.cells
        self._status: dict[int, KeptCounter] = {
            code: group.kept_counter(f"request_{code}_total") for code in sorted(MOSN_CODES)
        }
        self._ok = self._status[200]
        self._other = group.kept_counter("request_other_code")
        self._reasons: dict[str, Counter] = {}
        self._failures: dict[str, KeptCounter] = {}

    def count_status(self, status: i64) -> None:
        """Counts one finished request by its status code: MOSN's keys for some codes, `code_401` and so on for others."""
        counter = self._ok
        if status != 200:
            found = self._status.get(int(status))
            counter = self._new_status(status) if found is None else found
            if status not in MOSN_CODES:
                self._add(self._other)
        self._add(counter)

    def _new_status(self, status: i64) -> KeptCounter:
        if not 100 <= status <= 999:
            status = 0  # of an installed protocol
        counter = self._group.kept_counter(f"code_{status}")
        self._status[int(status)] = counter
        return counter

    def _add(self, counter: KeptCounter) -> None:
        value = counter.value + 1
        counter.value = value
        if value == 1:
            self._group.keep(counter)
        self._page[counter.low] = value & 255
        if value & 127 == 0:  # STEP of the ledger
            self._cells[counter.cell] = value

    def count_failure(self, reason: str) -> None:
        """Counts one failed request by its reason word."""
        counter = self._failures.get(reason)
        if counter is None:
            counter = self._failures[reason] = self._group.kept_counter(f"failed_{reason}")
        self._add(counter)
        self.request_failed.value += 1
        self.count_reason(reason)

    def count_reason(self, reason: str) -> None:
        """Counts one refused or failed connection by its reason word; failed requests too, by `count_failure`."""
        counter = self._reasons.get(reason)
        if counter is None:
            counter = self._reasons[reason] = self._group.counter(f"reason_{reason}")
        counter.value += 1


class DatagramStats:
    """The datagrams of a UDP listener, in the group of its `DownstreamStats`. Specific to pymosn."""

    def __init__(self, group: MetricGroup) -> None:
        self._group = group
        self.read = group.counter("udp_datagrams_read")
        self.written = group.counter("udp_datagrams_written")
        self._dropped: dict[str, Counter] = {}

    def count_drop(self, reason: str) -> None:
        """Counts one datagram that was not forwarded, by its reason word."""
        counter = self._dropped.get(reason)
        if counter is None:
            counter = self._dropped[reason] = self._group.counter(f"udp_dropped_{reason}")
        counter.value += 1


class UpstreamStats:
    """The metrics of a cluster and of each of its hosts, with MOSN's keys."""

    def __init__(self, group: MetricGroup) -> None:
        self.connection_total = group.counter("connection_total")
        self.connection_close = group.counter("connection_close")
        self.connection_active = group.gauge("connection_active")
        self.connection_failed = group.counter("connection_con_fail")
        self.connection_local_close = group.counter("connection_local_close")
        self.connection_remote_close = group.counter("connection_remote_close")
        #: Those of both that ended before a response was complete.
        self.connection_local_cut = group.counter("connection_local_close_with_active_request")
        self.connection_remote_cut = group.counter("connection_remote_close_with_active_request")
        #: The host announced the end: `Connection: close`, or a GOAWAY.
        self.connection_close_notify = group.counter("connection_close_notify")
        self.bytes_read = group.counter("connection_bytes_read_total")
        self.bytes_written = group.counter("connection_bytes_write")
        self.request_total = group.counter("request_total")
        self.request_active = group.gauge("request_active")
        self.request_local_reset = group.counter("request_local_reset")
        self.request_remote_reset = group.counter("request_remote_reset")
        self.request_timeout = group.counter("request_timeout")
        #: Requests that were lost with their connection.
        self.request_failure_eject = group.counter("request_failure_eject")
        self.request_pending_overflow = group.counter("request_pending_overflow")
        self.request_retry = group.counter("request_retry")
        self.request_retry_overflow = group.counter("request_retry_overflow")
        self.request_duration = group.histogram("request_duration_time")
        self.response_success = group.counter("response_success")
        self.response_failed = group.counter("response_failed")
        #: Hosts that this worker does not use for that reason; 0 or 1 for a single host.
        self.ejected = group.gauge("ejected")
        self.failed_active_check = group.gauge("failed_active_check")
        #: Messages on multiplexed connections that match no pending request. Specific to pymosn.
        self.response_stray = group.counter("response_stray")


class ClusterStats(UpstreamStats):
    """The metrics of a cluster: also what concerns no single host."""

    def __init__(self, group: MetricGroup) -> None:
        super().__init__(group)
        #: Further connections of `tcp_proxy` after one that could not be opened.
        self.connection_retry = group.counter("connection_retry")
        #: Requests whose criteria match no subset; and subsets, of which the first worker reports the number.
        self.subset_fallback = group.counter("lb_subsets_fallback")
        self.subsets_created = group.gauge("lb_subsets_created")
