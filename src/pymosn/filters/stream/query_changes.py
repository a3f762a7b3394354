"""Changes of a query's parameters."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from pymosn.api.variables import query_values


def changed_query(query: str, given: Iterable[tuple[str, str]], removed: Iterable[str]) -> str:
    """A query with the parameters that are `given`, instead of those of the same names, and without those `removed`."""
    pairs = [pair for pair in query.split("&") if pair]
    added = list(given)
    for name in (*removed, *(name for name, _ in added)):
        pairs = [pair for pair in pairs if not query_values(pair.encode(), name)]
    return "&".join([*pairs, *(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in added)])
