"""A configuration as run-time objects: built next to the active one, then activated as a whole or discarded."""

from __future__ import annotations

import asyncio

from pymosn.assembly.filters import BuiltFilter, FilterKey, start_filters, stop_filters
from pymosn.assembly.listeners import BuiltListener
from pymosn.assembly.packed_config import Digest, PackedCluster, PackedConfig, PackedTable
from pymosn.assembly.steps import Steps
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.schema import Overload, RecentExchanges, WorkerLimits
from pymosn.config.schema.observability import Metrics, Tracing
from pymosn.filters.modules import ModuleDraft, Replaced
from pymosn.filters.secret_fields import Paths
from pymosn.network.listener import Listener
from pymosn.observe.destination import Destination
from pymosn.proxy.connection_filters import ConnectionFilterHandle
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.routing.table import RouteTable
from pymosn.upstream.cluster import Cluster


class BuildError(Exception):
    """A valid configuration that cannot be built here, because of a filter that does not load for example."""

    def __init__(self, faults: list[Diagnostic]) -> None:
        super().__init__("; ".join(fault.text() for fault in faults))
        self.faults = faults


class PreparedConfig:
    """The run-time objects of one configuration; without effect until `WorkerRuntime.activate`."""

    def __init__(self, packed: PackedConfig | None, limits: WorkerLimits, overload: Overload) -> None:
        """`packed`: what it is built from; None for an empty one."""
        self.limits = limits
        #: What is counted.
        self.metrics: Metrics = (packed.rest.metrics if packed is not None else None) or Metrics()
        self.overload = overload
        self.recent_exchanges = RecentExchanges()
        self.tracing: Tracing | None = packed.rest.tracing if packed is not None else None
        self.clusters: dict[str, Cluster] = {}
        self.packed_tables: dict[str, PackedTable] = packed.tables if packed is not None else {}
        self.packed_clusters: dict[str, PackedCluster] = packed.clusters if packed is not None else {}
        #: The source of filters; see `PackedConfig`.
        self.sources: dict[str, dict[str, Digest]] = packed.sources if packed is not None else {}
        #: The router tables that changed.
        self.tables: dict[str, RouteTable] = {}
        #: The clusters that each table refers to.
        self.clusters_of: dict[str, set[str]] = {}
        self.listeners: list[BuiltListener] = []
        #: Groups of listeners in the order in which they may stop accepting.
        self.drain_order: list[list[Listener]] = []
        self.filters: dict[FilterKey, BuiltFilter] = {}
        #: Those of them that are not shared with the active configuration.
        self.new_filters: list[BuiltFilter] = []
        #: The modules of filters in Python files.
        self.modules: ModuleDraft | None = None
        #: The fields that they mark as secret.
        self.marks: dict[str, Paths] = {}
        #: The destinations of access logs that are not open yet, by path.
        self.new_logs: dict[str, Destination] = {}

    def open_logs(self) -> None:
        """Creates the new log files. Raises BuildError. Otherwise they are created when the configuration is activated."""
        for path, destination in self.new_logs.items():
            try:
                destination.open()
            except OSError as error:
                raise BuildError([error_at("", f"access log {path}: {error}")]) from None

    async def start_filters(self) -> None:
        """Starts the new filters concurrently. If one fails, stops the others and raises BuildError."""
        faults = await start_filters(self.new_filters)
        if faults:
            await self.stop_filters()
            raise BuildError(faults)

    async def stop_filters(self) -> None:
        """Undoes `start_filters`, and closes what is open: the configuration will not be activated."""
        close_logs(self.new_logs)
        await stop_filters(self.new_filters)
        if self.modules is not None:
            self.modules.rollback()

    def discard(self, active: dict[str, Cluster]) -> Steps[None]:
        """Frees the memory of a configuration that will not be activated, in steps. `active`: clusters that it may share."""
        for name, cluster in self.clusters.items():
            if cluster is not active.get(name):
                yield from cluster.discard()
        tables, self.tables = self.tables, {}
        for table in tables.values():
            yield from free(parts_of(table))


def parts_of(table: RouteTable) -> list[object]:
    """The objects of a router table, whose memory takes time to free."""
    hosts = table.virtual_hosts
    return [*(route for host in hosts for route in host.routes), *hosts]


def free(objects: list[object]) -> Steps[None]:
    """Drops references to `objects`, in steps, because freeing tens of thousands at once would block the event loop."""
    while objects:
        del objects[-100:]
        yield


def close_logs(logs: dict[str, Destination]) -> None:
    """Closes destinations that will not be used."""
    for destination in logs.values():
        destination.close()


class Retired:
    """Parts of earlier configurations that connections and exchanges may still use."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.filters: list[BuiltFilter] = []
        self.modules: list[Replaced] = []
        self._chains: list[StreamFilters] = []
        #: Filters that open connections still use, with the modules that were replaced with them.
        self._busy: list[_Busy] = []

    @property
    def all_filters(self) -> list[BuiltFilter]:
        """All filters that have not been stopped."""
        return [*self.filters, *(built for busy in self._busy for built in busy.filters)]

    def add(self, before: PreparedConfig, after: PreparedConfig) -> None:
        """Adds the parts of `before` that `after` does not have."""
        kept, stay = {built.listener for built in after.listeners}, set(after.listeners)
        self.listeners += [built.listener for built in before.listeners if built.listener not in kept]
        gone = [built for built in before.listeners if built not in stay]
        self._chains += [chain for built in gone for chain in built.all_stream_filters()]
        self.filters += [built for key, built in before.filters.items() if key not in after.filters]

    @property
    def uses_filters(self) -> bool:
        """Whether an exchange still uses one of the filters."""
        self._chains = [chain for chain in self._chains if chain.is_in_use()]
        return bool(self.filters and self._chains)

    async def stop_filters(self) -> None:
        """Stops the filters, and forgets their modules; those that connections still use, as soon as these have ended."""
        old, self.filters = self.filters, []
        modules, self.modules = self.modules, []
        busy = _Busy(old, modules)
        self._busy.append(busy)
        await busy.stop_unused()
        self._busy = [busy for busy in self._busy if busy.filters]


class _Busy:
    """Filters that have been replaced together."""

    def __init__(self, filters: list[BuiltFilter], modules: list[Replaced]) -> None:
        self.filters = filters
        self._modules = modules
        self._tasks: set[asyncio.Task[None]] = set()
        for built in filters:
            if isinstance(built.handle, ConnectionFilterHandle):
                built.handle.on_unused = self._on_unused

    def _on_unused(self) -> None:
        task = asyncio.get_running_loop().create_task(self.stop_unused())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop_unused(self) -> None:
        """Stops those that no connection uses, and forgets the modules after the last one."""
        unused = [built for built in self.filters if not built.is_busy()]
        self.filters = [built for built in self.filters if built not in unused]
        await stop_filters(unused)
        if not self.filters:
            modules, self._modules = self._modules, []
            for replaced in modules:
                replaced.forget()
