"""A listener without network filters: every connection is closed at once."""

from __future__ import annotations

from pymosn.api.network import Connection, FilterChainFactory, NetworkFilter
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import NO_FILTER_CHAIN


class RejectAll(NetworkFilter):
    """Closes its connection."""

    def __init__(self, stats: DownstreamStats) -> None:
        self._stats = stats

    def on_connection(self, connection: Connection) -> None:
        self._stats.connection_refused.value += 1
        self._stats.count_reason(NO_FILTER_CHAIN.reason)
        connection.close(NO_FILTER_CHAIN)


class RejectAllFactory(FilterChainFactory):
    """The filter chain of a listener that has no network filters."""

    def __init__(self, stats: DownstreamStats) -> None:
        self._stats = stats

    def create(self) -> list[NetworkFilter]:
        return [RejectAll(self._stats)]
