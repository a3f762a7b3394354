"""Metrics in the text of MOSN's prometheus sink (key reference section 10).

Families `<type>_<key>`, the same for all label sets of a type; numbers are floats, as Go writes them; `# TYPE` once for each
name, no HELP. Histograms are gauges of their smallest and largest value and of percentiles, in nanoseconds, and a counter
of their sum. Percentiles are estimated from the buckets of all values; MOSN's are those of a sample of 100.

Two things differ from MOSN: label values are escaped, without which Prometheus would reject the scrape, and the samples
of a family follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from pymosn.core.counters import GroupData
from pymosn.core.histograms import HistogramData
from pymosn.observe.processes import ProcessLimits, ProcessUse
from pymosn.observe.stats import percentile

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")
#: What goes up and down, and is a counter in MOSN's text.
_COUNTERS_IN_MOSN: Final = frozenset(("connection_active", "request_active"))
#: MOSN's type of the facts about itself.
META: Final = "meta"


class Matcher(Protocol):
    """`stats_matcher`: what is not recorded; names of labels and keys."""

    @property
    def reject_all(self) -> bool: ...
    @property
    def exclusion_labels(self) -> Sequence[str]: ...
    @property
    def exclusion_keys(self) -> Collection[str]: ...


def recorded(groups: Iterable[GroupData], matcher: Matcher) -> list[GroupData]:
    """What MOSN would have recorded."""
    if matcher.reject_all:
        return []
    labels, keys = set(matcher.exclusion_labels), set(matcher.exclusion_keys)
    kept = [group for group in groups if not any(name in labels for name, _ in group["labels"])] if labels else list(groups)
    return [_without(group, keys) for group in kept] if keys else kept


def _without(group: GroupData, keys: set[str]) -> GroupData:
    return {
        **group,
        "counters": {key: value for key, value in group["counters"].items() if key not in keys},
        "gauges": {key: value for key, value in group["gauges"].items() if key not in keys},
        "histograms": {key: value for key, value in group["histograms"].items() if key not in keys},
    }


def touched(groups: Iterable[GroupData]) -> list[GroupData]:
    """What MOSN would have made with `lazy_flush`: the metrics that were ever used.

    A gauge that is 0 again counts as used if anything else of its group was.
    """
    found: list[GroupData] = []
    for group in groups:
        counters = {key: value for key, value in group["counters"].items() if value}
        histograms = {key: value for key, value in group["histograms"].items() if value["count"]}
        is_used = bool(counters or histograms or any(group["gauges"].values()))
        gauges = group["gauges"] if is_used else {}
        found.append({**group, "counters": counters, "gauges": gauges, "histograms": histograms})
    return found


def meta_group(version: str, python: str, addresses: Iterable[str], state: int) -> GroupData:
    """MOSN's group of `flush_mosn`. `go_version` is the version of Python: there is no Go."""
    names = [f"go_version:python{python}", f"version:{version}", *(f"listener_address:{address}" for address in addresses)]
    gauges = {**dict.fromkeys(names, 1), "mosn_state_code": state}
    return {"type": META, "labels": [("mosn", "info")], "counters": {}, "gauges": gauges, "histograms": {}}


class _Sample(NamedTuple):
    kind: str
    text: str


def mosn_text(groups: Iterable[GroupData], percentiles: Sequence[int]) -> str:
    """The metrics of all groups."""
    families: dict[str, list[_Sample]] = {}
    for group in groups:
        labels = ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(group["labels"])])
        before = f"{group['type']}_"
        for kind, numbers in (("counter", group["counters"]), ("gauge", group["gauges"])):
            for key, value in numbers.items():
                shown = "counter" if key in _COUNTERS_IN_MOSN else kind
                _add(families, before + key, shown, labels, float(value))
        for key, histogram in group["histograms"].items():
            _add_histogram(families, before + key, labels, histogram, percentiles)
    lines: list[str] = []
    for name, samples in families.items():
        lines.append(f"# TYPE {name} {samples[0].kind}\n")
        lines += [sample.text for sample in samples]
    return "".join(lines)


def _add(families: dict[str, list[_Sample]], name: str, kind: str, labels: str, value: float) -> None:
    name = _NOT_IN_NAMES.sub("_", name)
    families.setdefault(name, []).append(_Sample(kind, f"{name}{{{labels}}} {go_float(value)}\n"))


def _add_histogram(
    families: dict[str, list[_Sample]], name: str, labels: str, histogram: HistogramData, percentiles: Sequence[int]
) -> None:
    factor = 1.0 if histogram["bounds"] else 1e9
    _add(families, f"{name}_min", "gauge", labels, float(round(histogram["min"] * factor)))
    _add(families, f"{name}_max", "gauge", labels, float(round(histogram["max"] * factor)))
    _add(families, f"{name}_total", "counter", labels, float(round(histogram["sum"] * factor)))
    for percent in percentiles:
        shown = f'{labels},percentile="P{percent}"'
        _add(families, name, "gauge", shown, round(percentile(histogram, percent) * factor, 1))


def process_text(use: ProcessUse, started: float, most: ProcessLimits) -> str:
    """The metrics of a process as of Go's client, summed over all processes of this pymosn. Times in seconds."""
    facts = (
        ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", use.cpu),
        ("process_max_fds", "gauge", "Maximum number of open file descriptors of one process.", most.descriptors),
        ("process_open_fds", "gauge", "Number of open file descriptors of all processes.", use.descriptors),
        ("process_resident_memory_bytes", "gauge", "Resident memory of all processes in bytes.", use.resident),
        ("process_start_time_seconds", "gauge", "Start time of the supervisor since 1970 in seconds.", started),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory of all processes in bytes.", use.virtual),
        ("process_virtual_memory_max_bytes", "gauge", "Maximum virtual memory of one process in bytes.", most.memory),
    )
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {client_float(float(value))}\n"
        for name, kind, text, value in facts
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def go_float(value: float) -> str:
    """A finite number as MOSN writes it: `1.0`, `1.5`, `1e+06`."""
    text = client_float(value)
    return text if "e" in text or "." in text else f"{text}.0"


def client_float(value: float) -> str:
    """A finite number as Go writes it: the shortest digits, with an exponent below 1e-4 and from 1e6 on.

    As `strconv.FormatFloat(value, 'g', -1, 64)`.
    """
    if value == 0.0:
        return "0"
    sign, numbers, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, numbers)).rstrip("0")
    exponent += len(numbers) - len(digits)
    point = len(digits) + exponent
    minus = "-" if sign else ""
    if not -4 <= point - 1 < 6:
        mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
        return f"{minus}{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    return minus + digits[:point].ljust(point, "0") + (f".{digits[point:]}" if len(digits) > point else "")
