"""The description of a shipped filter: the registry, the schema and docs/compatibility.md are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block

S = TypeVar("S", bound=Block)

#: A deliberate difference: the subject, what MOSN does, what pymosn does.
Difference = tuple[str, str, str]


class RouteSpec(NamedTuple, Generic[S]):
    """The settings of a filter in `per_filter_config` of routes and virtual hosts.

    `make` builds what the filter finds in `exchange.route_config`. It raises FilterConfigError.
    """

    settings: type[S]
    make: Callable[[S], object]


class DataFile(NamedTuple):
    """A file that settings name: the key with its path, and the key that gets its content in base64."""

    path: str
    content: str


class FilterSpec(NamedTuple, Generic[S]):
    """One shipped filter. Each filter's file in `filters/stream` has one, called `SPEC`.

    `name`: the `type` in configurations. `make`: the class; None if the settings always name one in a Python file.
    `guards`: it decides whether requests may pass, so its errors cannot be skipped. `file`: a file that it reads.
    `note`, `differences`: rows of docs/compatibility.md. `clusters`: the clusters that settings refer to, with paths.
    """

    name: str
    settings: type[S]
    make: Callable[[S], StreamFilter] | None
    note: str = ""
    differences: tuple[Difference, ...] = ()
    route: RouteSpec[Any] | None = None
    clusters: Callable[[S], Iterable[tuple[str, str]]] | None = None
    guards: bool = False
    file: DataFile | None = None
