"""The views of `pymosn top`: each asks the admin API and makes something that rich can print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pymosn.kit.units import age, clean, count, duration, rate, share, size, spark

#: Rows that are asked for at once.
ROWS: Final = 200
#: Points of the plots.
POINTS: Final = 120

Json = dict[str, Any]
#: Gets an object of the admin API. UnknownPathError if this version does not have it.
Get = Callable[[str], Any]

#: Spaces between two columns.
_GAP: Final = 2
_HEALTH: Final = {"failed_active_check": "red", "ejected": "yellow", "healthy": "green"}
_HEALTH_TEXT: Final = {"failed_active_check": "fails check"}
_STATES: Final = {4: "starting", 6: "running", 8: "draining", 9: "stopping"}


class UnknownPathError(Exception):
    """The process has no such path."""


class Column(NamedTuple):
    """A column. `show`: its text of a row; `rank`: where there is little space, columns of the highest ranks are left out.

    `least`: the width that a text needs to be of use.
    """

    title: str
    show: Callable[[Json], str]
    is_number: bool = False
    rank: int = 0
    least: int = 12


def head(facts: Json, width: int) -> Text:
    """The line at the top."""
    state = "draining" if facts["draining"] else _STATES.get(facts["state"], "")
    parts = [
        f"pymosn {clean(facts['program'])}",
        f"pid {facts['pid']}",
        state,
        f"up {age(facts['now'] - facts['started'])}",
        f"version {facts['config_version']}",
        f"{facts['counts']['running']} workers",
        size(facts["memory"]),
        f"{share(facts['cpu'])} CPU",
    ]
    if sum(len(part) + 2 for part in parts) > width:
        parts[0] = "pymosn"
    return Text("  ".join(filter(None, parts)), style="bold", no_wrap=True, overflow="ellipsis")


def overview(points: Sequence[Json], facts: Json, width: int) -> RenderableType:
    """Rates, percentiles and reasons, with the last two minutes."""
    if not points:
        return Text("waiting for data")
    last = points[-1]
    bars = max(10, min(POINTS, width - 44))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right", min_width=12)
    table.add_column(style="cyan", no_wrap=True)

    def row(name: str, value: Callable[[Json], float | None], shown: Callable[[float | None], str]) -> None:
        table.add_row(name, shown(value(last)), spark([value(point) for point in points], bars))

    row("requests", lambda point: point["requests"], rate)
    row("failed", lambda point: point["failed"], rate)
    for kind in ("2xx", "3xx", "4xx", "5xx", "other"):
        row(f"status {kind}", lambda point, kind=kind: point["status"][kind], rate)  # type: ignore[misc]
    for key in ("p50", "p90", "p99"):
        row(f"latency {key}", lambda point, key=key: point[key], duration)  # type: ignore[misc]
    row("in flight", lambda point: point["active"], count)
    row("connections", lambda point: point["open"], count)
    row("read", lambda point: point["read"], lambda value: f"{size(value)}/s")
    row("written", lambda point: point["written"], lambda value: f"{size(value)}/s")
    counts = facts["counts"]
    hosts = Text(f"{counts['hosts']} hosts in {counts['clusters']} clusters")
    for number, text, style in (
        (counts["failed_checks"], "fail their check", "red"),
        (counts["ejected"], "ejected", "yellow"),
    ):
        if number:
            hosts.append(f", {number} {text}", style=style)
    return Group(table, Text(), hosts, _reasons(points))


def _reasons(points: Sequence[Json]) -> Text:
    sums: dict[str, float] = {}
    for point in points:
        for reason, value in point["reasons"].items():
            sums[reason] = sums.get(reason, 0.0) + value * point["seconds"]
    found = sorted(sums.items(), key=lambda item: -item[1])[:6]
    shown = ", ".join(f"{clean(reason)} {value:.0f}" for reason, value in found)
    return Text(f"failures of the last {len(points)} s: {shown or 'none'}")


def table_of(
    columns: Sequence[Column], rows: Sequence[Json], width: int, style: Callable[[Json], str] = lambda row: ""
) -> Table:
    """A table of text, of the columns that fit into `width`."""
    cells = {column: [clean(column.show(row)) for row in rows] for column in columns}
    longest = {column: max(map(cell_len, (column.title, *cells[column]))) for column in columns}
    widths = _widths(longest, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", expand=False)
    for column, number in widths.items():
        table.add_column(
            column.title, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis", width=number
        )
    for index, row in enumerate(rows):
        table.add_row(*(Text(cells[column][index], style=style(row)) for column in widths))
    return table


def _widths(longest: dict[Column, int], width: int) -> dict[Column, int]:
    """The widths of the columns that fit. Numbers have all that they need, texts share the rest from the left."""
    chosen = {
        column: max(need, 8) if column.is_number else min(need, max(column.least, len(column.title)))
        for column, need in longest.items()
    }
    while sum(chosen.values()) + _GAP * len(chosen) > width and any(column.rank for column in chosen):
        del chosen[max(chosen, key=lambda column: column.rank)]
    left = width - sum(chosen.values()) - _GAP * len(chosen)
    for column in chosen:
        more = max(0, min(left, longest[column] - chosen[column]))
        chosen[column] += more
        left -= more
    return chosen


def _column(
    title: str, key: str, shown: Callable[[Any], str] = str, is_number: bool = False, rank: int = 0, least: int = 12
) -> Column:
    def show(row: Json) -> str:
        return "" if row[key] is None and not is_number else shown(row[key])

    return Column(title, show, is_number, rank, least)


def _number(title: str, key: str, shown: Callable[[float | None], str] = count, rank: int = 0) -> Column:
    return _column(title, key, shown, True, rank)


_TRAFFIC: Final = (
    _number("req", "rate_requests", rate),
    _number("failed", "rate_failed", rate),
    _number("p50", "p50", duration, rank=4),
    _number("p99", "p99", duration),
)
_TABLES: Final[dict[str, tuple[str, Sequence[Column]]]] = {
    "listeners": (
        "-rate_requests",
        (
            _column("listener", "name"),
            _column("address", "address", rank=2, least=21),
            *_TRAFFIC,
            _number("conn", "open", rank=1),
        ),
    ),
    "clusters": (
        "-rate_requests",
        (
            _column("cluster", "name"),
            _number("hosts", "hosts", rank=1),
            _number("usable", "usable"),
            *_TRAFFIC,
            _number("active", "active", rank=3),
            _number("pool", "open", rank=2),
            _number("retries", "retries", rank=5),
        ),
    ),
    "hosts": (
        "health",
        (
            _column("host", "address", least=21),
            _column("cluster", "cluster", least=8),
            _column("health", "health", lambda value: _HEALTH_TEXT.get(value, value)),
            *_TRAFFIC,
            _number("pool", "open", rank=3),
            _column("why", "why", rank=2),
        ),
    ),
    "routes": (
        "-hits",
        (
            Column("virtual host", lambda row: f"{row['table']}/{row['virtual_host']}", rank=1),
            _column("match", "match", least=20),
            _column("action", "action", least=20),
            _number("hits", "hits"),
            _number("rate", "rate_requests", rate),
        ),
    ),
}


def table(name: str, get: Get, offset: int, height: int, width: int) -> tuple[RenderableType, int]:
    """A table of the admin API, from a row on, and the number of its rows."""
    sort, columns = _TABLES[name]
    page = get(f"/api/v1/live/{name}?{urlencode({'sort': sort, 'offset': offset, 'limit': min(ROWS, max(1, height))})}")
    shown = table_of(columns, page["rows"], width, lambda row: _HEALTH.get(row.get("health", ""), ""))
    return shown if page["rows"] else Text(f"no {name}"), int(page["matched"])


def filters(get: Get, offset: int, height: int, width: int) -> tuple[RenderableType, int]:
    """The filters with their cost, errors and the last error."""
    answer = get("/api/v1/filters")
    found = [_filter(view) for view in (answer["filters"] if isinstance(answer, dict) else answer)]
    columns = (
        _column("filter", "name"),
        _column("type", "type", rank=4),
        _column("listeners", "listeners", rank=3),
        _number("calls", "calls"),
        _number("errors", "errors"),
        _number("mean", "mean", duration),
        _number("p99", "p99", duration, rank=2),
        _column("last error", "last", rank=1),
    )
    rows = sorted(found, key=lambda row: -(row["mean"] or 0.0) * row["calls"])[offset : offset + height]
    shown = table_of(columns, rows, width, lambda row: "red" if row["last"] else "")
    return shown if found else Text("no filters"), len(found)


def _filter(view: Json) -> Json:
    """A filter in one of the shapes of `/api/v1/filters`."""
    counters = view.get("counters", {})
    mean_us = view.get("mean_us")
    error = view.get("last_error")
    listeners = view.get("listeners") or [view.get("listener", "")]
    return {
        "name": view["name"],
        "type": view["type"],
        "listeners": ", ".join(listeners),
        "calls": view.get("calls", counters.get("calls", 0)),
        "errors": view.get("errors", counters.get("errors", 0)),
        "mean": view.get("mean_seconds", None if mean_us is None else mean_us / 1e6),
        "p99": view.get("p99_seconds"),
        "last": error["message"] if error else "",
    }


def workers(get: Get, offset: int, height: int, width: int) -> tuple[RenderableType, int]:
    """Processes and generations."""
    answer = get("/api/v1/live/workers")
    processes = table_of(
        (
            _column("process", "role"),
            _number("pid", "pid", lambda value: str(value)),
            _column("state", "state"),
            Column("up", lambda row: age(answer["time"] - row["started"]), True),
            _number("cpu", "cpu", share),
            _number("memory", "memory", size),
            _number("threads", "threads"),
        ),
        answer["processes"][offset : offset + height],
        width,
    )
    generations = answer["generations"].get("generations", [])
    older = table_of(
        (
            Column("generation", lambda row: str(row["generation"])),
            Column("pid", lambda row: str(row["pid"]), True),
            Column("state", lambda row: str(row["state"])),
            Column("workers", lambda row: str(row.get("workers", "")), True),
        ),
        generations,
        width,
    )
    return Group(processes, Text(), older), len(answer["processes"])


def exchanges(get: Get, offset: int, height: int, width: int) -> tuple[RenderableType, int]:
    """The last failed exchanges, or if there are none the slowest."""
    try:
        answer = get(f"/api/v1/exchanges?kind=failed&limit={ROWS}")
        found = answer.get("failed", [])
        if not found:
            found = get(f"/api/v1/exchanges?kind=slow&limit={ROWS}").get("slow", [])
    except UnknownPathError:
        return Text("this version of the process keeps no stories of exchanges"), 0
    columns = (
        _column("status", "status"),
        Column("request", lambda row: f"{row['method']} {row['host']}{row['path']}", least=24),
        _column("reason", "reason", least=20),
        _column("route", "route", rank=2),
        _column("upstream", "upstream", rank=1, least=21),
        Column("attempts", lambda row: str(len(row.get("attempts") or [])), True, 3),
        _number("duration", "duration", duration),
    )
    shown = table_of(columns, found[offset : offset + height], width, lambda row: "red" if row["reason"] else "")
    return shown if found else Text("no exchanges"), len(found)
