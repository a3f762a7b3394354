"""Finding the first matching route of a long list without asking each.

The winner is the same as in a walk from top to bottom: conditions have no effects, so the order in which they are asked
does not matter, only the place of those that hold. A route whose first condition is a path or a prefix is asked when that
is met, which a look-up tells; regular expressions are searched for all in one pass. Where the path says little, a header
with a fixed value is looked up. Every other route is asked, as long as no earlier one matched.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import Route, RouteMatcher
from pymosn.routing.matchers import ANY_SERVICE, AllOf, Header, Path, PathRegex, Prefix, Service
from pymosn.routing.regex import PatternError, RegexSet

#: Walking fewer routes than this costs less than the look-ups; regular expressions are searched for together from here on.
FEW_ROUTES: Final[i64] = 12
FEW_REGEXES: Final[i64] = 3


def is_worthwhile(routes: list[Route]) -> bool:
    """Whether an index over the routes is quicker than a walk."""
    regexes = len([route for route in routes if isinstance(first_condition(route.matcher), PathRegex)])
    return len(routes) >= FEW_ROUTES or regexes >= FEW_REGEXES


def first_condition(matcher: RouteMatcher) -> RouteMatcher:
    """The condition that a route is indexed by."""
    return matcher.matchers[0] if isinstance(matcher, AllOf) else matcher


class RouteIndex:
    """An index over all routes of one virtual host."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes
        # Lists of places, each in rising order.
        self._paths: dict[bytes, list[int]] = {}
        self._prefixes: dict[bytes, list[int]] = {}
        # By the name of a header, and then by its value; `_services` by what is the value for `Service`.
        self._headers: dict[str, dict[str, list[int]]] = {}
        self._services: dict[str, list[int]] = {}
        self._others: list[int] = []
        self._regex_places: list[int] = []
        patterns: list[str] = []
        for place, route in enumerate(routes):
            first = first_condition(route.matcher)
            if isinstance(first, Path):
                self._paths.setdefault(first.folded, []).append(place)
            elif isinstance(first, Prefix) and len(first.prefix) > 1:
                self._prefixes.setdefault(first.prefix, []).append(place)
            elif isinstance(first, PathRegex):
                self._regex_places.append(place)
                patterns.append(first.regex.pattern)
            elif not self._add_by_header(place, route.matcher):
                self._others.append(place)
        self._lengths: list[int] = sorted({len(prefix) for prefix in self._prefixes})
        self._regexes: RegexSet | None = self._regex_set(patterns)

    def _add_by_header(self, place: int, matcher: RouteMatcher) -> bool:
        """Indexes a route by a header that must have one certain value; False when it asks for none."""
        if isinstance(matcher, Service):
            if matcher.value != ANY_SERVICE:
                self._services.setdefault(matcher.value, []).append(place)
            return matcher.value != ANY_SERVICE
        for condition in matcher.matchers if isinstance(matcher, AllOf) else [matcher]:
            if isinstance(condition, Header):
                value = condition.wanted.exact()
                if value is not None:
                    self._headers.setdefault(condition.name, {}).setdefault(value, []).append(place)
                    return True
        return False

    def _regex_set(self, patterns: list[str]) -> RegexSet | None:
        if len(patterns) > 1:
            try:
                return RegexSet(patterns)
            except PatternError:  # each is good by itself: together they are too large
                pass
        self._others = sorted(self._others + self._regex_places)
        self._regex_places = []
        return None

    def find(self, exchange: Exchange) -> Route | None:
        """The first route that matches."""
        path = exchange.request.raw_path
        best: i64 = len(self._routes)
        if self._paths:
            places = self._paths.get(path.lower())
            if places is not None:
                best = self._first(places, best, exchange)
        size: i64 = len(path)
        for length in self._lengths:
            if length > size:
                break
            places = self._prefixes.get(path[:length])
            if places is not None:
                best = self._first(places, best, exchange)
        if self._headers or self._services:
            best = self._first_by_header(best, exchange)
        best = self._first(self._others, best, exchange)
        regexes = self._regexes
        if regexes is not None and self._regex_places[0] < best:
            places = [self._regex_places[at] for at in sorted(regexes.find(path))]
            best = self._first(places, best, exchange)
        return self._routes[best] if best < len(self._routes) else None

    def _first_by_header(self, best: i64, exchange: Exchange) -> i64:
        headers = exchange.request.headers
        for name, by_value in self._headers.items():
            values = headers.get_all(name)
            if values:
                places = by_value.get(",".join(values))
                if places is not None:
                    best = self._first(places, best, exchange)
        if self._services:
            places = self._services.get(headers.get("service") or "")
            if places is not None:
                best = self._first(places, best, exchange)
        return best

    def _first(self, places: list[int], best: i64, exchange: Exchange) -> i64:
        """The first of `places` that matches, or `best` when none before it does."""
        for place in places:
            if place >= best:
                break
            if self._routes[place].matcher.matches(exchange):
                return place
        return best
