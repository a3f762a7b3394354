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

Shown = Callable[[Block], dict[str, Any]]
Row = dict[str, Any]


class RouteRows:
    """The rows of router tables. What does not change while a table is active is made once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[RouterConfiguration, list[Row]]] = {}

    def rows(
        self, tables: Mapping[str, RouterConfiguration], shown: Shown, sample: Sample
    ) -> Iterator[tuple[Row, GroupKey]]:
        """The rows, each with the key of the group that counts it. To be called in a thread."""
        counted = _counted(sample)
        known = self._known
        self._known = {}
        for name, config in tables.items():
            before = known.get(name)
            rows = before[1] if before is not None and before[0] is config else list(_rows(name, config, shown))
            self._known[name] = config, rows
            for row in rows:
                key = _key_of(counted, row)
                reading = sample.readings.get(key)
                hits = (
                    {"hits": None, "failed": None}
                    if reading is None
                    else {"hits": reading.requests, "failed": reading.failed}
                )
                yield row | hits, key


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


def _counted(sample: Sample) -> dict[frozenset[str], GroupKey]:
    """The groups of routes by the values of their labels."""
    return {frozenset(value for _, value in key[1]): key for key in sample.readings if key[0] == "route"}


def _key_of(counted: dict[frozenset[str], GroupKey], row: Row) -> GroupKey:
    """The group of a route, which is known by its name or else by its index."""
    for name in (row["name"], str(row["index"])):
        found = counted.get(frozenset((row["table"], row["virtual_host"], name))) if name else None
        if found is not None:
            return found
    return "route", ()


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
