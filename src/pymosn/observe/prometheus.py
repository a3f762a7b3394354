"""The exposition of `/metrics`: the families of `families.py`, as text or OpenMetrics.

Counters without a family, such as those of one's own filters, are families too: `pymosn_filter_<key>` for those of a filter,
`<type>_<key>` for groups of any other type.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ClientExemplar

from pymosn.core.counters import GroupData
from pymosn.core.histograms import BUCKET_BOUNDS, HistogramData
from pymosn.observe.families import (
    BOUNDED,
    COUNTER,
    FAMILIES,
    GAUGE,
    HISTOGRAM,
    LABELS,
    NOT_SHOWN,
    OTHER,
    OWN_TYPES,
    PREFIX,
    REDUNDANT,
    Fact,
    Family,
    Source,
    type_of,
)
from pymosn.observe.totals import Totals

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")
#: Characters that an exemplar may have, in its names and values together (OpenMetrics 1.0).
_EXEMPLAR_SIZE: Final = 128

Labels = tuple[tuple[str, str], ...]


class Series:
    """Which hosts, routes, filters and services have samples of their own: the first `limit` of each kind.

    The others are added up as `other`. What has had samples of its own keeps them as long as it is there, so that no counter
    goes back when others come or go.
    """

    def __init__(self) -> None:
        self._admitted: dict[str, dict[Labels, None]] = {}

    def limited(self, groups: Iterable[GroupData], limit: int) -> list[GroupData]:
        """The groups, of which those beyond the limit are added up."""
        found: list[GroupData] = []
        others = Totals()
        seen: dict[str, dict[Labels, None]] = {}
        waiting: list[tuple[str, GroupData]] = []
        for group in groups:
            labels = tuple([(name, value) for name, value in group["labels"]])
            kind = type_of(group["type"], dict(labels))
            if kind not in BOUNDED:
                found.append(group)
            elif labels in self._admitted.get(kind, {}):
                seen.setdefault(kind, {})[labels] = None
                found.append(group)
            else:
                waiting.append((kind, group))
        self._admitted = seen
        for kind, group in waiting:
            admitted = self._admitted.setdefault(kind, {})
            if len(admitted) < limit:
                admitted[tuple([(name, value) for name, value in group["labels"]])] = None
                found.append(group)
            else:
                hidden = BOUNDED[kind]
                labels_left = [(name, OTHER if name in hidden else value) for name, value in group["labels"]]
                others.add([{**group, "labels": labels_left}])
        rest = Totals()
        rest.add(others.groups())
        return _joined(found, rest.groups())


def _joined(groups: list[GroupData], others: list[GroupData]) -> list[GroupData]:
    """Workers count what is beyond their own limits as `other` too."""
    if not others:
        return groups
    totals = Totals()
    totals.add(groups)
    totals.add(others)
    return totals.groups()


class Settings(NamedTuple):
    """What is shown: see the keys of `metrics`."""

    per_host: bool = True
    max_series: int = 1000
    reject_all: bool = False
    exclusion_labels: Collection[str] = ()


def exposition(
    groups: Iterable[GroupData],
    accept: str,
    facts: Iterable[Fact] = (),
    series: Series | None = None,
    settings: Settings = Settings(),  # noqa: B008  immutable
) -> tuple[bytes, str]:
    """The body of a scrape's response and its content type; `accept`: the request's `Accept` (OpenMetrics on request)."""
    registry = CollectorRegistry(auto_describe=False)
    shown = [] if settings.reject_all else [group for group in groups if _is_shown(group, settings)]
    limited = (series or Series()).limited(shown, settings.max_series)
    registry.register(MetricsCollector(limited, facts))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _is_shown(group: GroupData, settings: Settings) -> bool:
    if group["type"] in NOT_SHOWN:
        return False
    names = [name for name, _ in group["labels"]]
    if group["type"] == "upstream" and "host" in names and not settings.per_host:
        return False
    return not any(name in settings.exclusion_labels for name in names)


class _Group(NamedTuple):
    kind: str
    labels: dict[str, str]
    data: GroupData


class _Use(NamedTuple):
    """The counters of one key and type that are samples of a family."""

    kind: str
    key: str
    labels: Labels
    minus: str


class MetricsCollector(Collector):
    """Metric groups and facts as Prometheus families."""

    def __init__(self, groups: Iterable[GroupData], facts: Iterable[Fact] = ()) -> None:
        self._groups: dict[str, list[_Group]] = {}
        for group in groups:
            labels = dict(group["labels"])
            kind = type_of(group["type"], labels)
            renamed = LABELS.get(kind, {})
            kept = {renamed.get(name, name): value for name, value in labels.items() if renamed.get(name, name)}
            self._groups.setdefault(kind, []).append(_Group(kind, kept, group))
        self._facts = list(facts)

    def collect(self) -> Iterator[Metric]:
        """All families, one after the other: the samples of all together may need hundreds of megabytes."""
        uses: dict[str, tuple[Family, dict[_Use, None]]] = {family.name: (family, {}) for family in FAMILIES}
        for kind, groups in self._groups.items():
            keys: dict[tuple[str, str], str] = {}
            for group in groups:
                data = group.data
                keys.update({(COUNTER, key): "" for key in data["counters"]})
                keys.update({(GAUGE, key): "" for key in data["gauges"]})
                for key, found in data["histograms"].items():
                    keys[HISTOGRAM, key] = "" if found["bounds"] else "_seconds"
            for (section, key), unit in keys.items():
                family, use = _family_of(kind, section, key, unit)
                if family is not None:
                    uses.setdefault(family.name, (family, {}))[1][use] = None
        facts: dict[str, list[Fact]] = {}
        for fact in self._facts:
            facts.setdefault(fact.family, []).append(fact)
        for name, (family, used) in uses.items():
            metric = Metric(family.name, family.help, family.kind, family.unit)
            for use in used:
                for group in self._groups[use.kind]:
                    _add_sample(metric, family.kind, group, use)
            for fact in facts.get(name, ()):
                metric.add_sample(family.shown_name, dict(fact.labels), fact.value)
            if metric.samples:
                yield metric


def _family_of(kind: str, section: str, key: str, unit: str) -> tuple[Family | None, _Use]:
    """The family of a key, and its use there; None if other families have it already."""
    for family, source in _BY_TYPE.get(kind, ()):
        match = source.key.fullmatch(key) if family.kind == section else None
        if match is not None:
            labels = tuple([(name, match.expand(value)) for name, value in source.labels])
            return family, _Use(kind, key, labels, match.expand(source.minus))
    use = _Use(kind, key, (), "")
    if any(source.type == kind and source.key.fullmatch(key) for source in REDUNDANT):
        return None, use
    before = PREFIX if kind in OWN_TYPES else ""
    name = _NOT_IN_NAMES.sub("_", f"{before}{kind}_{key.removesuffix('_total')}{unit}")
    return Family(name, section, f"The {section} {key!r} of the type {kind!r}.", ()), use


def _by_type() -> dict[str, list[tuple[Family, Source]]]:
    found: dict[str, list[tuple[Family, Source]]] = {}
    for family in FAMILIES:
        for source in family.sources:
            found.setdefault(source.type, []).append((family, source))
    return found


_BY_TYPE: Final = _by_type()


def _add_sample(metric: Metric, kind: str, group: _Group, use: _Use) -> None:
    labels = {**group.labels, **dict(use.labels)}
    data = group.data
    if kind == COUNTER and use.key in data["counters"]:
        value = data["counters"][use.key] - data["counters"].get(use.minus, 0)
        if value or not use.minus:
            metric.add_sample(f"{metric.name}_total", labels, max(value, 0))
    elif kind == GAUGE and use.key in data["gauges"]:
        metric.add_sample(metric.name, labels, data["gauges"][use.key])
    elif kind == HISTOGRAM and use.key in data["histograms"]:
        _add_histogram(metric, labels, data["histograms"][use.key])


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: HistogramData) -> None:
    counted = 0
    own = [f"{bound:.12g}" for bound in histogram["bounds"]]
    bounds = [*(own or [f"{bound:g}" for bound in BUCKET_BOUNDS]), "+Inf"]
    exemplars = {found[0]: _exemplar(found[1], found[2], found[3]) for found in histogram["exemplars"]}
    for index, (bound, inside) in enumerate(zip(bounds, histogram["buckets"], strict=True)):
        counted += inside
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, counted, exemplar=exemplars.get(index))
    metric.add_sample(f"{metric.name}_count", labels, counted)
    metric.add_sample(f"{metric.name}_sum", labels, histogram["sum"])


def _exemplar(trace_id: str, value: float, at: float) -> ClientExemplar:
    return ClientExemplar({"trace_id": trace_id[: _EXEMPLAR_SIZE - len("trace_id")]}, value, at)
