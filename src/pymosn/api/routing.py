"""Which cluster? What a route is made of."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from pymosn.core.message import RequestHead


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteMatcher:
    """A condition on a request's head."""

    def matches(self, head: RequestHead) -> bool:
        """Whether the request meets it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteAction:
    """What a route does with a request: see `pymosn.routing.actions`."""


class Route:
    """One entry of a virtual host; immutable once built."""

    def __init__(self, name: str, matcher: RouteMatcher, action: RouteAction) -> None:
        """`name`: table, virtual host and place, for logs and `explain`."""
        self.name = name
        self.matcher = matcher
        self.action = action
