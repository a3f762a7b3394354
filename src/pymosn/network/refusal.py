"""A listener without network filters: every connection is closed at once."""

from __future__ import annotations

from pymosn.api.network import Connection, FilterChainFactory, NetworkFilter
from pymosn.core.failure import CLOSED_LOCALLY


class Refusal(NetworkFilter):
    """Closes its connection."""

    def on_connection(self, connection: Connection) -> None:
        connection.close(CLOSED_LOCALLY)


class RefusalFactory(FilterChainFactory):
    """The chain of a listener that has none."""

    def create(self) -> list[NetworkFilter]:
        return [Refusal()]
