"""The rows of router tables, in the order in which routes are matched, with their hits where they are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pymosn.config.schema import RouterConfiguration
from pymosn.config.schema.router import Route
from pymosn.control.live.sampler import Sample
from pymosn.core.counters import GroupKey
from pymosn.filters.settings import Block

#: Characters of a match or an action, and domains of a virtual host.
LONGEST: Final = 300
MOST_DOMAINS: Final = 10

#: The type of the groups that count routes, and the label of those above the limit of groups.
TYPE: Final = "route"
OTHER: Final = "other"

Shown = Callable[[Block], dict[str, Any]]
Row = dict[str, Any]


class RouteRows:
    """The rows of router tables. What does not change while a table is active is made once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[RouterConfiguration, list[Row]]] = {}

    def rows(
        self, tables: Mapping[str, RouterConfiguration], shown: Shown, sample: Sample
    ) -> Iterator[tuple[Row, GroupKey]]:
        """The rows, each with the key of the group that counts it. To be called in a thread.

        Groups are made at the first use of a route. `hits` is unknown if there are none yet, or too many routes for all to
        have one.
        """
        groups = [dict(labels) for kind, labels in sample.readings if kind == TYPE]
        absent = None if not groups or any(labels["route"] == OTHER for labels in groups) else 0
        known = self._known
        self._known = {}
        for name, config in tables.items():
            before = known.get(name)
            rows = before[1] if before is not None and before[0] is config else list(_rows(name, config, shown))
            self._known[name] = config, rows
            for row in rows:
                key = _key_of(row)
                reading = sample.readings.get(key)
                yield row | {"hits": absent if reading is None else reading.requests}, key


def _rows(name: str, config: RouterConfiguration, shown: Shown) -> Iterator[Row]:
    for host in config.virtual_hosts:
        domains = ", ".join(host.domains[:MOST_DOMAINS]) + (" ..." if len(host.domains) > MOST_DOMAINS else "")
        for index, route in enumerate(host.routers):
            yield {
                "table": name,
                "virtual_host": host.name,
                "domains": domains,
                "index": index,
                "name": route.name,
                "match": match_text(route, shown)[:LONGEST],
                "action": action_text(route, shown)[:LONGEST],
            }


def _key_of(row: Row) -> GroupKey:
    """The group of a route, which is known by its name or else by its index."""
    route = row["name"] or str(row["index"])
    return TYPE, (("route", route), ("router", row["table"]), ("virtual_host", row["virtual_host"]))


def match_text(route: Route, shown: Shown) -> str:
    """`prefix "/a", header x=1`."""
    conditions = shown(route.match)
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in conditions.items()) or "any request"


def action_text(route: Route, shown: Shown) -> str:
    """`cluster one`, `status 404` or `redirect {...}`."""
    if route.direct_response is not None:
        return f"status {route.direct_response.status}"
    if route.redirect is not None:
        return f"redirect {json.dumps(shown(route.redirect), ensure_ascii=False)}"
    if route.route is None:
        return "nothing"
    if route.route.weighted_clusters:
        shares = [f"{entry.cluster.name} ({entry.cluster.weight})" for entry in route.route.weighted_clusters]
        return f"clusters {', '.join(shares)}"
    if route.route.cluster_name:
        return f"cluster {route.route.cluster_name}"
    return json.dumps(shown(route.route), ensure_ascii=False)
