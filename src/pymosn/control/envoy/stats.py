"""`/stats` with Envoy's names, in its text form, as JSON, and for Prometheus.

The values are those of `/api/v1/stats`, which has more. `update_success` and `update_rejected` count responses, as in Envoy;
MOSN counts the resources in them, so that an empty response would never count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from pymosn.config.schema import Listener
from pymosn.control.envoy.facts import Facts
from pymosn.control.envoy.queries import QueryError
from pymosn.control.envoy.statuses import LIVE
from pymosn.control.plane import ClusterView
from pymosn.core.counters import GroupData
from pymosn.core.regex import PatternError, compiled

#: Types of metrics, as in the parameter `type`.
COUNTER: Final = "Counters"
GAUGE: Final = "Gauges"
TEXT: Final = "TextReadouts"

#: Type of xDS -> the prefix of its statistics.
_MANAGERS: Final = {"cds": "cluster_manager.cds", "lds": "listener_manager.lds"}
#: Keys of a cluster -> Envoy's.
_UPSTREAM: Final = {
    "connection_total": "upstream_cx_total",
    "connection_close": "upstream_cx_destroy",
    "connection_local_close": "upstream_cx_destroy_local",
    "connection_remote_close": "upstream_cx_destroy_remote",
    "connection_local_close_with_active_request": "upstream_cx_destroy_local_with_active_rq",
    "connection_remote_close_with_active_request": "upstream_cx_destroy_remote_with_active_rq",
    "connection_close_notify": "upstream_cx_close_notify",
    "connection_active": "upstream_cx_active",
    "connection_con_fail": "upstream_cx_connect_fail",
    "connection_bytes_read_total": "upstream_cx_rx_bytes_total",
    "connection_bytes_write": "upstream_cx_tx_bytes_total",
    "request_total": "upstream_rq_total",
    "request_active": "upstream_rq_active",
    "request_timeout": "upstream_rq_timeout",
    "request_retry": "upstream_rq_retry",
    "request_retry_overflow": "upstream_rq_retry_overflow",
    "request_pending_overflow": "upstream_rq_pending_overflow",
    "request_local_reset": "upstream_rq_tx_reset",
    "request_remote_reset": "upstream_rq_rx_reset",
}
#: Keys of a listener -> Envoy's.
_DOWNSTREAM: Final = {
    "connection_total": "downstream_cx_total",
    "connection_destroy": "downstream_cx_destroy",
    "connection_active": "downstream_cx_active",
    "connection_refused": "downstream_cx_overflow",
}
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_]")


class Stat(NamedTuple):
    """One metric. `family`: its name for Prometheus, with `labels`. `is_used`: whether it was ever written."""

    name: str
    value: int | str
    kind: str
    family: str
    labels: tuple[tuple[str, str], ...] = ()
    is_used: bool = True


class Process(NamedTuple):
    """The state of the server (`statuses.LIVE`, ...), its age in seconds, and the number of workers that serve."""

    state: int
    uptime: int
    workers: int
    has_started: bool


def envoy_stats(
    process: Process, facts: Facts, groups: Iterable[GroupData], clusters: list[ClusterView], listeners: list[Listener]
) -> list[Stat]:
    """All metrics with an Envoy name, sorted by name."""
    found = [*_server(process, listeners, clusters), *_updates(facts), *_members(clusters), *_groups(groups, listeners)]
    return sorted(found, key=lambda stat: stat.name)


def selected(stats: Iterable[Stat], pattern: str, used_only: bool, kind: str = "") -> list[Stat]:
    """Those of which a part of the name matches. QueryError for an invalid expression."""
    found = [stat for stat in stats if (stat.is_used or not used_only) and kind in ("", "All", stat.kind)]
    if not pattern:
        return found
    try:
        regex = compiled(pattern)
    except PatternError as error:
        raise QueryError(f"Invalid re2 regex: {error}") from None
    return [stat for stat in found if regex.search(stat.name.encode()) is not None]


def as_lines(stats: Iterable[Stat]) -> str:
    """`name: value` lines; values that are texts are in quotation marks."""
    return "".join(f"{stat.name}: {json.dumps(stat.value)}\n" for stat in stats)


def as_json(stats: Iterable[Stat]) -> Any:
    """As with `?format=json`."""
    return {"stats": [{"name": stat.name, "value": stat.value} for stat in stats]}


def as_prometheus(stats: Iterable[Stat]) -> str:
    """The text format of Prometheus; texts are left out, as in Envoy."""
    families: dict[str, list[Stat]] = {}
    for stat in stats:
        if stat.kind != TEXT:
            families.setdefault(stat.family, []).append(stat)
    lines: list[str] = []
    for family, members in sorted(families.items()):
        lines.append(f"# TYPE {family} {'counter' if members[0].kind == COUNTER else 'gauge'}")
        lines += [f"{family}{{{_labels(stat.labels)}}} {stat.value}" for stat in members]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _plain(name: str, value: int | str, kind: str = GAUGE) -> Stat:
    is_used = kind != COUNTER or value != 0
    return Stat(name, value, kind, f"envoy_{_NOT_IN_NAMES.sub('_', name)}", (), is_used)


def _server(process: Process, listeners: list[Listener], clusters: list[ClusterView]) -> Iterator[Stat]:
    yield _plain("server.state", process.state)
    yield _plain("server.live", int(process.state == LIVE))
    yield _plain("server.uptime", process.uptime)
    yield _plain("server.concurrency", process.workers)
    yield _plain("listener_manager.workers_started", int(process.has_started))
    yield _plain("listener_manager.total_listeners_active", len(listeners))
    yield _plain("cluster_manager.active_clusters", len(clusters))


def _updates(facts: Facts) -> Iterator[Stat]:
    """Of clusters and listeners; and whether the control plane is connected."""
    totals = {prefix: [0, 0, 0, 0] for prefix in _MANAGERS.values()}
    for one in facts.updates:
        prefix = _MANAGERS.get(one.short)
        if prefix is None:
            continue
        for at, number in enumerate((one.responses, one.successes, one.rejections, one.timeouts)):
            totals[prefix][at] += number
        if one.version:
            yield _plain(f"{prefix}.version_text", one.version, TEXT)
    for prefix, numbers in totals.items():
        keys = ("update_attempt", "update_success", "update_rejected", "init_fetch_timeout")
        yield from (_plain(f"{prefix}.{key}", number, COUNTER) for key, number in zip(keys, numbers, strict=True))
    if facts.uses_ads:
        yield _plain("control_plane.connected_state", int(any(one.is_connected for one in facts.updates)))


def _members(clusters: Iterable[ClusterView]) -> Iterator[Stat]:
    for cluster in clusters:
        hosts = cluster["hosts"]
        excluded = [host for host in hosts if host["failed_active_check"] or host["ejected"]]
        yield _of_cluster(cluster["name"], "membership_total", len(hosts), GAUGE)
        yield _of_cluster(cluster["name"], "membership_healthy", len(hosts) - len(excluded), GAUGE)


def _groups(groups: Iterable[GroupData], listeners: list[Listener]) -> Iterator[Stat]:
    addresses = {listener.known_name(): listener.address.replace(":", "_") for listener in listeners}
    for group in groups:
        labels = dict(group["labels"])
        if group["type"] == "upstream" and list(labels) == ["cluster"]:
            for key, value, kind in _numbers(group, _UPSTREAM):
                yield _of_cluster(labels["cluster"], key, value, kind)
        elif group["type"] == "downstream" and labels.get("listener") in addresses:
            address = addresses[labels["listener"]]
            for key, value, kind in _numbers(group, _DOWNSTREAM):
                name, family = f"listener.{address}.{key}", f"envoy_listener_{key}"
                is_used = kind != COUNTER or value != 0
                yield Stat(name, value, kind, family, (("envoy_listener_address", address),), is_used)


def _numbers(group: GroupData, names: dict[str, str]) -> Iterator[tuple[str, int, str]]:
    for kind, numbers in ((COUNTER, group["counters"]), (GAUGE, group["gauges"])):
        for key, value in numbers.items():
            if key in names:
                yield names[key], value, kind


def _of_cluster(cluster: str, key: str, value: int, kind: str) -> Stat:
    is_used = kind != COUNTER or value != 0
    name, labels = f"cluster.{cluster}.{key}", (("envoy_cluster_name", cluster),)
    return Stat(name, value, kind, f"envoy_cluster_{key}", labels, is_used)
