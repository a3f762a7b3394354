"""Finds the first matching route of a long list without evaluating every route.

The result is that of a scan from top to bottom: conditions have no side effects, so only the position of matching routes
matters, not the order of evaluation. A route whose first condition is a path or prefix is evaluated only if a lookup finds
that condition true; all regular expressions are searched for in one pass. Routes without a specific path are looked up by
a header with a fixed value. All others are evaluated unless an earlier route matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import Route, RouteMatcher
from pymosn.routing.conditions import HeaderTest, values_of
from pymosn.routing.matchers import (
    ANY_SERVICE,
    AllOf,
    FoldedPrefix,
    Header,
    Path,
    PathRegex,
    Prefix,
    Service,
    header_value,
    service_of,
)
from pymosn.routing.regex import PatternError, RegexSet

#: A scan of fewer routes is faster than the lookups; from FEW_REGEXES on, regular expressions are searched for together.
FEW_ROUTES: Final[i64] = 12
FEW_REGEXES: Final[i64] = 3
#: Routes that are indexed in one step.
ROUTES_PER_STEP: Final[i64] = 200
#: Expressions that are compiled together, in some milliseconds; a request takes 0.5 us for each set.
REGEXES_PER_SET: Final = 100


def is_worthwhile(routes: list[Route]) -> bool:
    """Whether an index over the routes is faster than a scan."""
    regexes = len([route for route in routes if isinstance(first_condition(route.matcher), PathRegex)])
    return len(routes) >= FEW_ROUTES or regexes >= FEW_REGEXES


def first_condition(matcher: RouteMatcher) -> RouteMatcher:
    """The condition by which a route is indexed."""
    return matcher.matchers[0] if isinstance(matcher, AllOf) else matcher


class RegexGroup:
    """Routes whose regular expressions are searched for in one pass, in ascending order."""

    def __init__(self, positions: list[int], regexes: RegexSet) -> None:
        self.positions = positions
        self.regexes = regexes


class RouteIndex:
    """An index over all routes of one virtual host."""

    def __init__(self, routes: list[Route], *, is_built: bool = True) -> None:
        """`is_built`: index `routes` now, instead of in the steps of `build`."""
        self._routes = routes
        # Lists of route positions in ascending order.
        self._paths: dict[bytes, list[int]] = {}
        self._prefixes: dict[bytes, list[int]] = {}
        self._folded_prefixes: dict[bytes, list[int]] = {}
        # By header name and value: those of MOSN's conditions, and of Envoy's. `_services` by the value for `Service`.
        self._headers: dict[str, dict[str, list[int]]] = {}
        self._tests: dict[str, dict[str, list[int]]] = {}
        self._services: dict[str, list[int]] = {}
        self._others: list[int] = []
        self._lengths: list[int] = []
        self._folded_lengths: list[int] = []
        self._regex_groups: list[RegexGroup] = []
        if is_built:
            for _ in self.build():
                pass

    def build(self) -> Iterator[None]:
        """Indexes the routes in steps, before the first `find`."""
        regexes: list[int] = []
        for position, route in enumerate(self._routes):
            first = first_condition(route.matcher)
            if isinstance(first, Path):
                self._paths.setdefault(first.folded, []).append(position)
            elif isinstance(first, Prefix) and len(first.prefix) > 1:
                self._prefixes.setdefault(first.prefix, []).append(position)
            elif isinstance(first, FoldedPrefix) and len(first.folded) > 1:
                self._folded_prefixes.setdefault(first.folded, []).append(position)
            elif isinstance(first, PathRegex):
                regexes.append(position)
            elif not self._add_by_header(position, route.matcher):
                self._others.append(position)
            if position % ROUTES_PER_STEP == ROUTES_PER_STEP - 1:
                yield
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})
        self._folded_lengths = sorted({len(prefix) for prefix in self._folded_prefixes})
        # Compiling a set cannot be interrupted, and takes time for each of its expressions.
        for at in range(0, len(regexes), REGEXES_PER_SET):
            self._add_regexes(regexes[at : at + REGEXES_PER_SET])
            yield

    def _add_by_header(self, position: int, matcher: RouteMatcher) -> bool:
        """Indexes a route by a header that must have a fixed value; returns False if it has no such condition."""
        if isinstance(matcher, Service):
            if matcher.value != ANY_SERVICE:
                self._services.setdefault(matcher.value, []).append(position)
            return matcher.value != ANY_SERVICE
        for condition in matcher.matchers if isinstance(matcher, AllOf) else [matcher]:
            if isinstance(condition, Header):
                value = condition.expected.exact()
                if value is not None:
                    self._headers.setdefault(condition.name, {}).setdefault(value, []).append(position)
                    return True
            elif isinstance(condition, HeaderTest):
                value = condition.exact()
                if value is not None:
                    self._tests.setdefault(condition.name, {}).setdefault(value, []).append(position)
                    return True
        return False

    def _add_regexes(self, positions: list[int]) -> None:
        if len(positions) > 1:
            conditions = [first_condition(self._routes[position].matcher) for position in positions]
            patterns = [condition.regex.pattern for condition in conditions if isinstance(condition, PathRegex)]
            with suppress(PatternError):  # together they may be too large
                self._regex_groups.append(RegexGroup(positions, RegexSet(patterns)))
                return
        self._others = sorted(self._others + positions)

    def find(self, exchange: Exchange) -> Route | None:
        """The first matching route."""
        path = exchange.request.raw_path
        best: i64 = len(self._routes)
        if self._paths:
            positions = self._paths.get(path.lower())
            if positions is not None:
                best = self._first(positions, best, exchange)
        best = self._first_by_prefix(self._prefixes, self._lengths, path, best, exchange)
        if self._folded_prefixes:
            best = self._first_by_prefix(self._folded_prefixes, self._folded_lengths, path.lower(), best, exchange)
        if self._headers or self._services or self._tests:
            best = self._first_by_header(best, exchange)
        best = self._first(self._others, best, exchange)
        for group in self._regex_groups:
            if group.positions[0] >= best:
                break
            positions = [group.positions[at] for at in sorted(group.regexes.find(path))]
            best = self._first(positions, best, exchange)
        return self._routes[best] if best < len(self._routes) else None

    def _first_by_prefix(
        self, prefixes: dict[bytes, list[int]], lengths: list[int], path: bytes, best: i64, exchange: Exchange
    ) -> i64:
        size: i64 = len(path)
        for length in lengths:
            if length > size:
                break
            positions = prefixes.get(path[:length])
            if positions is not None:
                best = self._first(positions, best, exchange)
        return best

    def _first_by_header(self, best: i64, exchange: Exchange) -> i64:
        request = exchange.request
        for name, by_value in self._headers.items():
            value = header_value(request, name)
            if value is not None:
                positions = by_value.get(value)
                if positions is not None:
                    best = self._first(positions, best, exchange)
        for name, by_value in self._tests.items():
            values = values_of(request, name)
            # A client may repeat a field hundreds of times, and each value may have many routes.
            for value in values if len(values) < 2 else list(dict.fromkeys(values)):
                positions = by_value.get(value)
                if positions is not None:
                    best = self._first(positions, best, exchange)
        if self._services:
            positions = self._services.get(service_of(request))
            if positions is not None:
                best = self._first(positions, best, exchange)
        return best

    def _first(self, positions: list[int], best: i64, exchange: Exchange) -> i64:
        """The first of `positions` that matches, or `best` if none before it does."""
        for position in positions:
            if position >= best:
                break
            if self._routes[position].matcher.matches(exchange):
                return position
        return best
