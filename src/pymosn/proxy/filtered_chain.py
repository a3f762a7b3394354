"""Makes the network filters of connections whose filter chain begins with connection filters."""

from __future__ import annotations

from pymosn.api.network import Connection, FilterChainFactory, NetworkFilter
from pymosn.core.failure import Failure
from pymosn.proxy.connection_filters import FilteredChain
from pymosn.proxy.filter_pipe import FilterPipe
from pymosn.proxy.runtime import Runtime


class FilteredChainFactory(FilterChainFactory):
    """Puts connection filters before the other filters of a chain."""

    def __init__(self, runtime: Runtime, chain: FilteredChain) -> None:
        self.chain = chain
        chain.stamps = runtime.stamps
        self._runtime = runtime

    def create(self) -> list[NetworkFilter]:
        return [FilterPipe(self._runtime, self.chain)]

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        inner = self.chain.inner
        if inner is not None:
            inner.on_refused(connection, failure)
