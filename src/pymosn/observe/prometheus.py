"""The exposition of `/metrics`: the families of `families.py`, as text or OpenMetrics.

Counters without a family, such as those of one's own filters, are families too: `pymosn_filter_<key>` for those of a filter,
`<type>_<key>` for groups of any other type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from pymosn.core.counters import GroupData, GroupKey, Labels
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
from pymosn.observe.metric_text import OPEN_METRICS, FamilyText, LabelText, content_type, label_name, metric_name
from pymosn.observe.totals import Totals, key_of, labels_of


class Series:
    """Which hosts, routes, filters and services have samples of their own: the first `limit` of each kind.

    The others are added up as `other`. What has had samples of its own keeps them as long as it is there, and what has been
    part of `other` stays there, with what it had counted when it goes: so no counter goes back, which Prometheus would take
    for a new start from 0.
    """

    def __init__(self) -> None:
        self._admitted: dict[str, set[Labels]] = {}
        # What is part of `other`, and what those have counted that are gone.
        self._hidden: dict[GroupKey, GroupData] = {}
        self._gone: list[GroupData] = []

    def limited(self, groups: Iterable[GroupData], limit: int) -> list[GroupData]:
        """The groups, of which those beyond the limit are added up."""
        found: list[GroupData] = []
        hidden: dict[GroupKey, GroupData] = {}
        admitted: dict[str, set[Labels]] = {}
        waiting: list[tuple[str, Labels, GroupData]] = []
        for group in groups:
            labels = labels_of(group["labels"])
            kind = type_of(group["type"], dict(labels))
            if kind not in BOUNDED:
                found.append(group)
            elif labels in self._admitted.get(kind, ()):
                admitted.setdefault(kind, set()).add(labels)
                found.append(group)
            elif (group["type"], labels) in self._hidden:
                hidden[group["type"], labels] = group
            else:
                waiting.append((kind, labels, group))
        for kind, labels, group in waiting:
            if len(admitted.setdefault(kind, set())) < limit:
                admitted[kind].add(labels)
                found.append(group)
            else:
                hidden[group["type"], labels] = group
        others, gone = Totals(), Totals()
        others.add(_as_other(group) for group in hidden.values())
        left = [_as_other(group) for key, group in self._hidden.items() if key not in hidden]
        # Of a cluster without hidden hosts the sample is gone, like those of hosts.
        gone.add((group for group in [*self._gone, *left] if others.get(key_of(group)) is not None), gauges=False)
        self._admitted, self._hidden, self._gone = admitted, hidden, gone.groups()
        others.add(self._gone)
        return _joined(found, others.groups())


def _as_other(group: GroupData) -> GroupData:
    bounded = BOUNDED[type_of(group["type"], dict(group["labels"]))]
    return {**group, "labels": [(name, OTHER if name in bounded else value) for name, value in group["labels"]]}


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
    shown = [] if settings.reject_all else [group for group in groups if _is_shown(group, settings)]
    limited = (series or Series()).limited(shown, settings.max_series)
    kind = content_type(accept)
    is_open = kind == OPEN_METRICS
    texts = [text.encode("utf-8", "backslashreplace") for text in family_texts(limited, facts, is_open)]
    return b"".join([*texts, b"# EOF\n" if is_open else b""]), kind


def _is_shown(group: GroupData, settings: Settings) -> bool:
    if group["type"] in NOT_SHOWN:
        return False
    names = [name for name, _ in group["labels"]]
    if group["type"] == "upstream" and "host" in names and not settings.per_host:
        return False
    return not any(name in settings.exclusion_labels for name in names)


class _Group(NamedTuple):
    labels: dict[str, str]
    text: LabelText
    data: GroupData


class _Use(NamedTuple):
    """The counters of one key and type that are samples of a family."""

    kind: str
    key: str
    labels: Labels
    minus: str


def family_texts(groups: Iterable[GroupData], facts: Iterable[Fact], is_open: bool) -> Iterator[str]:
    """All families, one after the other: all lines together may need hundreds of megabytes."""
    by_kind = _by_kind(groups)
    facts_of: dict[str, list[Fact]] = {}
    for fact in facts:
        facts_of.setdefault(fact.family, []).append(fact)
    for name, (family, uses) in _uses(by_kind).items():
        text = FamilyText(family, is_open)
        for use in uses:
            for group in by_kind[use.kind]:
                _add_sample(text, family.kind, group, use)
        for fact in facts_of.get(name, ()):
            text.add(LabelText(dict(fact.labels)), fact.value)
        yield text.text()


def _by_kind(groups: Iterable[GroupData]) -> dict[str, list[_Group]]:
    found: dict[str, list[_Group]] = {}
    for group in groups:
        labels = dict(group["labels"])
        kind = type_of(group["type"], labels)
        renamed = LABELS.get(kind, {})
        kept = {label_name(renamed.get(name, name)): value for name, value in labels.items() if renamed.get(name, name)}
        found.setdefault(kind, []).append(_Group(kept, LabelText(kept), group))
    return found


def _uses(by_kind: dict[str, list[_Group]]) -> dict[str, tuple[Family, dict[_Use, None]]]:
    """The families by name, with the counters that are their samples."""
    uses: dict[str, tuple[Family, dict[_Use, None]]] = {family.name: (family, {}) for family in FAMILIES}
    for kind, groups in by_kind.items():
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
    return uses


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
    name = metric_name(f"{before}{kind}_{key.removesuffix('_total')}{unit}")
    return Family(name, section, f"The {section} {key!r} of the type {kind!r}.", ()), use


def _by_type() -> dict[str, list[tuple[Family, Source]]]:
    found: dict[str, list[tuple[Family, Source]]] = {}
    for family in FAMILIES:
        for source in family.sources:
            found.setdefault(source.type, []).append((family, source))
    return found


_BY_TYPE: Final = _by_type()


def _add_sample(text: FamilyText, kind: str, group: _Group, use: _Use) -> None:
    data = group.data
    if kind == HISTOGRAM:
        histogram = data["histograms"].get(use.key)
        if histogram is not None:
            text.add_histogram(group.text, histogram)
        return
    value = data["counters" if kind == COUNTER else "gauges"].get(use.key)
    if value is None:
        return
    if use.minus:
        value = max(value - data["counters"].get(use.minus, 0), 0)
        if value == 0:
            return
    text.add(LabelText({**group.labels, **dict(use.labels)}) if use.labels else group.text, value)
