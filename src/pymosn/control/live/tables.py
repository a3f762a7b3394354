"""Tables for people: rows that are filtered, sorted and paged here, so that no browser gets ten thousand of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pymosn.control.live.readings import Rates
from pymosn.control.live.routes import RouteRows
from pymosn.control.live.sampler import Sample, Sampler
from pymosn.control.plane import ClusterView, ControlPlane, HostView
from pymosn.core.counters import GroupData, GroupKey
from pymosn.filters.settings import Block

#: Rows of one answer.
MOST_ROWS: Final = 500
DEFAULT_ROWS: Final = 100

Row = dict[str, Any]
#: The rates of a group.
RatesOf = Callable[[GroupKey], Rates | None]

_NO_RATES: Final[Row] = dict.fromkeys(Rates._fields)
#: Health of hosts, in the order in which they are sorted: what needs attention first.
_ORDER: Final = {"failed_active_check": 0, "ejected": 1, "unchecked": 3, "healthy": 2}


class QueryError(ValueError):
    """A parameter is invalid; the text is the reason."""


class Query(NamedTuple):
    """Which rows: those with all words of `text` and the values of `exact`, sorted by a column (`-`: descending)."""

    text: str = ""
    sort: str = ""
    offset: int = 0
    limit: int = DEFAULT_ROWS
    exact: Mapping[str, str] = {}


def query_of(parameters: Mapping[str, str], exact: tuple[str, ...]) -> Query:
    """The query of a request; `exact`: names of columns that may be given. QueryError."""
    allowed = ("q", "sort", "offset", "limit", *exact)
    for name in parameters:
        if name not in allowed:
            raise QueryError(f"unknown parameter {name!r}; one of {', '.join(allowed)}")
    numbers = []
    for name, default, most in (("offset", 0, 10_000_000), ("limit", DEFAULT_ROWS, MOST_ROWS)):
        text = parameters.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= most):
            raise QueryError(f"{name} must be a number from 0 to {most}")
        numbers.append(int(text))
    given = {name: parameters[name] for name in exact if parameters.get(name)}
    return Query(parameters.get("q", "").strip().lower(), parameters.get("sort", ""), numbers[0], numbers[1], given)


def page_of(rows: list[Row], query: Query, searched: tuple[str, ...]) -> Row:
    """The rows of a page. `searched`: the columns in which the text is searched. QueryError for an unknown column."""
    found = rows
    for name, value in query.exact.items():
        found = [row for row in found if str(row[name]) == value]
    if query.text:
        words = query.text.split()
        found = [row for row in found if _has(row, words, searched)]
    if query.sort:
        name = query.sort.removeprefix("-")
        if rows and name not in rows[0]:
            raise QueryError(f"unknown column {name!r}; one of {', '.join(rows[0])}")
        found = sorted(found, key=lambda row: _sort_key(name, row[name]), reverse=query.sort.startswith("-"))
        # What has no value comes last in either direction.
        found = [row for row in found if row[name] is not None] + [row for row in found if row[name] is None]
    return {
        "total": len(rows),
        "matched": len(found),
        "offset": query.offset,
        "rows": found[query.offset : query.offset + query.limit],
    }


def _has(row: Row, words: list[str], searched: tuple[str, ...]) -> bool:
    text = " ".join(str(row[name]) for name in searched).lower()
    return all(word in text for word in words)


def _sort_key(column: str, value: Any) -> tuple[int, float, str]:
    if column == "health":
        return 0, _ORDER.get(str(value), 9), ""
    if isinstance(value, bool | int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value).lower()


def with_rates(row: Row, rates: Rates | None) -> Row:
    """A row with its rates: `rate_requests` per second and so on, percentiles in seconds."""
    values = _NO_RATES if rates is None else rates.as_dict()
    return row | {key if key[0] == "p" or key == "mean" else f"rate_{key}": value for key, value in values.items()}


def listener_rows(plane: ControlPlane, sample: Sample, rates: RatesOf) -> list[Row]:
    """The listeners."""
    rows = []
    for listener in plane.current().servers[0].listeners:
        name = listener.known_name()
        key = "downstream", (("listener", name),)
        group = sample.by_key.get(key)
        filters = [word for chain in listener.filter_chains for entry in chain.filters for word in _type(entry)]
        row = {
            "name": name,
            "address": listener.address,
            "network": listener.network,
            "chains": len(listener.filter_chains),
            "filters": ", ".join(dict.fromkeys(filters)),
            "stream_filters": [entry.type for entry in listener.stream_filters],
            "tls": any(chain.tls_context is not None or chain.tls_context_set for chain in listener.filter_chains),
            **_numbers(group, counters=_LISTENER, gauges=_LISTENER_GAUGES),
            "reasons": _reasons(group),
        }
        rows.append(with_rates(row, rates(key)))
    return rows


_LISTENER: Final = {
    "requests": "request_total",
    "failed": "request_failed",
    "reset": "request_reset",
    "connections": "connection_total",
    "refused": "connection_refused",
    "bytes_read": "bytes_read_total",
    "bytes_written": "bytes_write_total",
    "handshakes_failed": "tls_handshake_failed",
}
_LISTENER_GAUGES: Final = {"active": "request_active", "open": "connection_active"}
_UPSTREAM: Final = {
    "requests": "request_total",
    "failed": "response_failed",
    "timeouts": "request_timeout",
    "retries": "request_retry",
    "overflow": "request_pending_overflow",
    "connections": "connection_total",
    "connect_failed": "connection_con_fail",
    "bytes_read": "connection_bytes_read_total",
    "bytes_written": "connection_bytes_write",
}
_UPSTREAM_GAUGES: Final = {"active": "request_active", "open": "connection_active"}


def _numbers(group: GroupData | None, counters: Mapping[str, str], gauges: Mapping[str, str]) -> Row:
    found = {name: 0 if group is None else group["counters"].get(key, 0) for name, key in counters.items()}
    return found | {name: 0 if group is None else group["gauges"].get(key, 0) for name, key in gauges.items()}


def _reasons(group: GroupData | None) -> dict[str, int]:
    counters = {} if group is None else group["counters"]
    found = {key.removeprefix("reason_"): value for key, value in counters.items() if key.startswith("reason_") and value}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:20])


def _type(entry: Block) -> list[str]:
    """The word for a network filter in the configuration."""
    tag = entry.__struct_config__.tag
    return [str(tag)] if tag else []


def cluster_rows(plane: ControlPlane, sample: Sample, rates: RatesOf) -> list[Row]:
    """The clusters, with the number of their hosts by health."""
    rows = []
    for cluster in sample.clusters(plane):
        key = "upstream", (("cluster", cluster["name"]),)
        hosts = cluster["hosts"]
        row = {
            "name": cluster["name"],
            "type": cluster["type"],
            "lb_type": cluster["lb_type"],
            "hosts": len(hosts),
            "usable": sum(host["health"] in ("healthy", "unchecked") for host in hosts),
            "failed_checks": sum(host["health"] == "failed_active_check" for host in hosts),
            "ejected": sum(host["ejected"] > 0 for host in hosts),
            **_numbers(sample.by_key.get(key), counters=_UPSTREAM, gauges=_UPSTREAM_GAUGES),
        }
        rows.append(with_rates(row, rates(key)))
    return rows


class HostRows:
    """The hosts of all clusters; their rates are computed for sorted columns and for the rows of a page only."""

    def __init__(self, plane: ControlPlane, sample: Sample, rates: RatesOf) -> None:
        self._plane = plane
        self._sample = sample
        self._rates = rates

    def page(self, query: Query) -> Row:
        """The rows of a page, with counts of hosts by health. QueryError."""
        rows, health = [], dict.fromkeys(_ORDER, 0)
        name = query.exact.get("cluster")
        for cluster in self._sample.clusters(self._plane):
            if name not in (None, cluster["name"]):
                continue
            for host in cluster["hosts"]:
                health[host["health"]] = health.get(host["health"], 0) + 1
                rows.append(self._row(cluster, host))
        if query.sort.removeprefix("-") in _RATE_COLUMNS:
            rows = [self._with_rates(row) for row in rows]
            found = page_of(rows, query, _HOST_SEARCHED)
        else:
            found = page_of(rows, query, _HOST_SEARCHED)
            found["rows"] = [self._with_rates(row) for row in found["rows"]]
        return found | {"health": health}

    def _row(self, cluster: ClusterView, host: HostView) -> Row:
        return {
            "cluster": cluster["name"],
            "address": host["address"],
            "hostname": host["hostname"],
            "weight": host["weight"],
            "health": host["health"],
            "why": host["why"],
            "ejected": host["ejected"],
            "workers": cluster["workers"],
            "active": host["requests_active"],
            "requests": host["requests_total"],
            "open": host["connections_active"],
        }

    def _with_rates(self, row: Row) -> Row:
        key = "upstream", (("cluster", row["cluster"]), ("host", row["address"]))
        numbers = _numbers(self._sample.by_key.get(key), counters=_HOST_EXTRA, gauges={})
        return with_rates(row | numbers, self._rates(key))


_HOST_EXTRA: Final = {name: key for name, key in _UPSTREAM.items() if name not in ("requests",)}
_RATE_COLUMNS: Final = ("p50", "p90", "p99", "mean", *(f"rate_{name}" for name in Rates._fields), *_HOST_EXTRA)
_HOST_SEARCHED: Final = ("cluster", "address", "hostname", "health", "why")


class Tables:
    """The tables of one process."""

    def __init__(self, plane: ControlPlane, sampler: Sampler) -> None:
        self._plane = plane
        self._sampler = sampler
        self._routes = RouteRows()

    async def page(self, name: str, query: Query) -> Row:
        """A page of one of TABLES. QueryError."""
        sample = await self._sampler.current()
        return await asyncio.to_thread(self._page, name, query, sample)

    def _page(self, name: str, query: Query, sample: Sample) -> Row:
        plane, rates = self._plane, self._sampler.rates
        if name == "listeners":
            found = page_of(listener_rows(plane, sample, rates), query, ("name", "address", "filters"))
        elif name == "clusters":
            found = page_of(cluster_rows(plane, sample, rates), query, ("name", "type", "lb_type"))
        elif name == "hosts":
            found = HostRows(plane, sample, rates).page(query)
        else:
            tables = plane.current().servers[0].router_tables()
            rows = [with_rates(row, rates(key)) for row, key in self._routes.rows(tables, plane.shown, sample)]
            found = page_of(rows, query, ("table", "virtual_host", "domains", "name", "match", "action"))
        return found | {"time": round(sample.time, 3)}


#: The tables, and the columns for which a value may be given.
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "listeners": (),
    "clusters": (),
    "hosts": ("cluster", "health"),
    "routes": ("table",),
}
