"""Builds the header changes of routes, virtual hosts and tables from the configuration."""

from __future__ import annotations

from typing import NamedTuple

from pymosn.config.schema import RouterConfiguration
from pymosn.config.schema.router import HeaderChanges, HeaderToAdd
from pymosn.core.headers import is_token, to_bytes
from pymosn.routing.changes import ChangeLevel, EnvoyLevel, HeaderAction, HeaderAddition, LevelChanges


class Order(NamedTuple):
    """The order of the changes of a table: of its levels, and within each level."""

    innermost_last: bool = False
    removes_first: bool = False


class Changes(NamedTuple):
    """The header changes of several levels, innermost first."""

    requests: list[ChangeLevel]
    responses: list[ChangeLevel]
    order: Order

    def within(self, level: HeaderChanges) -> Changes:
        """With those of one more level inside."""
        # The host of a request is not changed in this way; the check has reported it.
        to_add = [item for item in level.request_headers_to_add if item.header.key.lower() != "host"]
        to_remove = [name for name in level.request_headers_to_remove if name.lower() != "host"]
        return Changes(
            self._with_level(to_add, to_remove, self.requests),
            self._with_level(level.response_headers_to_add, level.response_headers_to_remove, self.responses),
            self.order,
        )

    def with_responses(self, to_add: list[HeaderToAdd], to_remove: list[str]) -> Changes:
        """With one more level inside, which changes responses."""
        return self._replace(responses=self._with_level(to_add, to_remove, self.responses))

    def on_requests(self) -> LevelChanges | None:
        """The run-time form of the changes to requests."""
        return self._ordered(self.requests)

    def on_responses(self) -> LevelChanges | None:
        """The run-time form of the changes to responses."""
        return self._ordered(self.responses)

    def _ordered(self, levels: list[ChangeLevel]) -> LevelChanges | None:
        if not levels:
            return None
        return LevelChanges(levels[::-1] if self.order.innermost_last else levels)

    def _with_level(self, to_add: list[HeaderToAdd], to_remove: list[str], outer: list[ChangeLevel]) -> list[ChangeLevel]:
        to_remove = [name for name in to_remove if is_token(to_bytes(name))]  # no header has another name
        if not to_add and not to_remove:
            return outer
        make = EnvoyLevel if self.order.removes_first else ChangeLevel
        return [make([addition(item) for item in to_add], to_remove), *outer]


def table_changes(table: RouterConfiguration) -> Changes:
    """Those of a whole table."""
    order = Order(table.most_specific_header_mutations_wins, table.remove_headers_first)
    return Changes([], [], order).within(table)


def addition(item: HeaderToAdd) -> HeaderAddition:
    """One field to add or set. Raises HeaderError."""
    header = item.header
    if item.append_action:
        return HeaderAction(header.key, header.value, item.append_action, item.keep_empty_value)
    return HeaderAddition(header.key, header.value, item.append)
