"""Names of clusters and router tables to which xDS may add."""

from __future__ import annotations

from collections.abc import Collection


class OpenNames(frozenset[str]):
    """Known names. Any other counts as known, too, because it may come later."""

    def __contains__(self, name: object) -> bool:
        return True


def opened(names: Collection[str], like: Collection[str]) -> Collection[str]:
    """`names`; open ones if `like` are."""
    return OpenNames(names) if isinstance(like, OpenNames) else names
