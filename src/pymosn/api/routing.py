"""Which cluster? What a route is made of."""

from __future__ import annotations

from collections.abc import Mapping

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange
from pymosn.api.record import RouteInfo
from pymosn.core.headers import Headers


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteMatcher:
    """A condition on the request of an exchange."""

    def matches(self, exchange: Exchange) -> bool:
        """Whether the request meets it."""
        raise NotImplementedError

    def text(self) -> str:
        """The condition in words, for people: `path prefix is /a`."""
        return type(self).__name__

    def why_not(self, exchange: Exchange) -> str:
        """The condition, or its part, that the request does not meet, in words; only if it does not match."""
        return f"does not match: {self.text()}"


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteAction:
    """What a route does with a request: see `pymosn.routing.actions`."""

    def text(self) -> str:
        """The action in words, for people."""
        return type(self).__name__


@mypyc_attr(allow_interpreted_subclasses=True)
class HeaderChanges:
    """What a route does to the header fields of a message."""

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        """Makes the changes."""
        raise NotImplementedError

    def changes_field(self, name: bytes) -> bool:
        """Whether it may add, change or remove the field `name` (lower case)."""
        raise NotImplementedError


class Route(RouteInfo):
    """One entry of a virtual host; immutable once built."""

    def __init__(
        self,
        name: str,
        matcher: RouteMatcher,
        action: RouteAction,
        response_changes: HeaderChanges | None = None,
        filter_configs: Mapping[str, object] | None = None,
        label: str = "",
    ) -> None:
        """`response_changes`: made on every response, also on local replies. For the others see `RouteInfo`."""
        super().__init__(name, filter_configs, label)
        self.matcher = matcher
        self.action = action
        self.response_changes = response_changes
