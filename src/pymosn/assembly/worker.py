"""From a checked configuration to the run-time objects of one worker, at the start and at each change."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable
from typing import Final

from pymosn.api.network import join_address
from pymosn.assembly.clusters import BuiltCluster, build_cluster, build_clusters
from pymosn.assembly.drain_order import drain_order
from pymosn.assembly.filters import BuiltFilter, FilterBuilder, FilterKey
from pymosn.assembly.listeners import BuiltListener, ListenerBuilder, WorkerShares
from pymosn.assembly.packed_config import PackedConfig, unpack_table
from pymosn.assembly.routes import build_in_steps, clusters_in
from pymosn.assembly.steps import Steps
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Cluster as ClusterConfig
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import Overload, WorkerLimits
from pymosn.core.addresses import split_address as listening_address
from pymosn.core.clock import Clock
from pymosn.core.counters import Labels, Metrics
from pymosn.core.log import ERROR
from pymosn.core.timers import TimerWheel
from pymosn.filters.stream.python import describe, is_in_class, is_in_file, source_file
from pymosn.network.admission import Admission
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds, Listener, ListenerDirectory
from pymosn.network.original_dst import OwnAddresses
from pymosn.observe.logs import LogSet
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.table import RouteTable, TableSlot
from pymosn.stream.registry import protocols
from pymosn.upstream.cluster import Cluster, Clusters, PoolMaker

#: Seconds that `start` and `stop` of a filter may take.
START_TIME: Final = 10.0
STOP_TIME: Final = 5.0


class BuildError(Exception):
    """The configuration is well-formed but cannot be built here: a filter that does not load."""

    def __init__(self, faults: list[Diagnostic]) -> None:
        super().__init__("; ".join(fault.text() for fault in faults))
        self.faults = faults


class Prepared:
    """A configuration built beside the one in force, without effect yet."""

    def __init__(self, packed_tables: dict[str, bytes], limits: WorkerLimits, overload: Overload) -> None:
        self.clusters: dict[str, BuiltCluster] = {}
        self.packed_tables = packed_tables
        #: Those that are not the same as before.
        self.tables: dict[str, RouteTable] = {}
        #: The clusters that each table names.
        self.clusters_of: dict[str, set[str]] = {}
        self.listeners: list[BuiltListener] = []
        self.drain_order: list[list[Listener]] = []
        self.limits = limits
        self.overload = overload
        self.filters: dict[FilterKey, BuiltFilter] = {}
        #: Those of them that are not in force yet.
        self.new_filters: list[BuiltFilter] = []

    async def start_filters(self) -> None:
        """Starts the filters that are new. BuildError when one does not want to; then none is left started."""
        results = await asyncio.gather(*(_start(built) for built in self.new_filters))
        faults = [fault for fault in results if fault is not None]
        if faults:
            await self.stop_filters()
            raise BuildError(faults)

    async def stop_filters(self) -> None:
        """Takes `start_filters` back: the configuration will not be put in force."""
        await stop_filters(self.new_filters)


class WorkerRuntime:
    """Everything that one worker runs. A change is built by `prepare` and put in force by `commit`."""

    def __init__(self, workers: int, worker: int, loop: asyncio.AbstractEventLoop, logs: LogSet) -> None:
        """`workers`: how many share the limits. `worker`: which of them this is, from 0; -1 when it does not know."""
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.log = logs.process_log
        #: Groups of listeners in the order in which they may stop accepting.
        self.drain_order: list[list[Listener]] = []
        #: Listeners that changes have removed and that still have connections.
        self.retiring: list[Listener] = []
        self.workers = workers
        #: What memory may come to, and what happens then.
        self.overload = Overload()
        self.admission = Admission(self.wheel, self.log)
        self._worker = worker
        self._loop = loop
        self._logs = logs
        self._numbers = ConnectionIds()
        self._directory = ListenerDirectory()
        self._own = OwnAddresses()
        spoken = protocols()
        dialer = TcpDialer(self._numbers, self.clock, self.wheel, self.admission)
        self._maker = PoolMaker(spoken, dialer, self.wheel, self._own)
        self.runtime = Runtime(self.clock, self.wheel, self.metrics, self.log, spoken, Clusters())
        self._clusters: dict[str, BuiltCluster] = {}
        self._slots: dict[str, TableSlot] = {}
        self._packed_tables: dict[str, bytes] = {}
        self._clusters_of: dict[str, set[str]] = {}
        self._listeners: list[BuiltListener] = []
        self._filters: dict[FilterKey, BuiltFilter] = {}
        # What changes have replaced, while exchanges may use it: filters, and the chains that they stood in.
        self._old_filters: list[BuiltFilter] = []
        self._old_chains: list[StreamFilters] = []
        # Cluster and address of hosts that failed their active checks.
        self._unhealthy: set[tuple[str, str]] = set()

    @property
    def listeners(self) -> list[Listener]:
        """The listeners in force."""
        return [built.listener for built in self._listeners]

    def prepare(self, parcel: PackedConfig, config_dir: str, base_dir: str) -> Steps[Prepared]:
        """Builds a configuration in steps; what is in force stays so, and what does not change is shared.

        `config_dir`: what paths of filters are relative to. `base_dir`: where `logs/` is. BuildError with every fault.
        """
        config = parcel.rest
        made = Prepared(parcel.tables, config.servers[0].limits, config.servers[0].overload)
        for name, packed in parcel.tables.items():
            if self._packed_tables.get(name) == packed:
                made.clusters_of[name] = self._clusters_of[name]
                continue
            # A configuration of thousands of routes is more than what is made of it: it is not kept.
            table = unpack_table(packed)
            yield
            made.clusters_of[name] = clusters_in(table)
            yield
            made.tables[name] = yield from build_in_steps(table)
        # Without a stop from here on: this looks at what is in force.
        made.clusters = build_clusters(config, self._maker, self.metrics, self.workers, self._clusters, self._worker)
        slots = {name: self._slots.get(name) or TableSlot(name) for name in parcel.tables}
        self._slots = {**self._slots, **slots}
        clients = ClusterClients(self.runtime)
        filters = FilterBuilder(
            config_dir,
            self.metrics,
            self.log,
            clients,
            self._filters,
            self.clock,
            self.workers,
            self._worker,
        )
        shares = WorkerShares(self.admission, self.workers, self._worker)
        builder = ListenerBuilder(
            self.runtime, slots, filters, self._numbers, self._directory, base_dir, self._loop, self._logs, shares
        )
        before = {name_of(built.config): built for built in self._listeners}
        for place, listener in enumerate(config.servers[0].listeners):
            made.listeners.append(builder.listener(place, listener, before.get(name_of(listener))))
        if builder.faults or filters.faults:
            raise BuildError([*builder.faults, *filters.faults])
        made.filters = filters.built
        made.new_filters = filters.new()
        made.drain_order = drain_order(config, [built.listener for built in made.listeners], made.clusters_of)
        return made

    def commit(self, made: Prepared) -> list[Listener]:
        """Puts a prepared configuration in force, all in one step; returns the listeners that are to be started.

        Clusters that it no longer has stay until the removed listeners, now in `retiring`, are empty: see `tidy`.
        """
        before = self.listeners
        self._clusters = made.clusters
        self._publish({**self.runtime.clusters.by_name, **_objects(made.clusters)})
        for name, table in made.tables.items():
            self._slots[name].table = table
        self._packed_tables = made.packed_tables
        self._clusters_of = made.clusters_of
        self._old_chains += [built.filters for built in self._listeners if built not in made.listeners]
        self._old_filters += [built for key, built in self._filters.items() if key not in made.filters]
        self._filters = made.filters
        self._listeners = made.listeners
        self._set_limits(made.limits)
        self.overload = made.overload
        for built in made.listeners:
            built.activate()
        self._note_addresses()
        self.drain_order = made.drain_order
        after = self.listeners
        self.retiring += [listener for listener in before if listener not in after]
        return [listener for listener in after if listener not in before]

    def _note_addresses(self) -> None:
        """Lets redirected connections find their listeners, and keeps requests from coming back to this process."""
        self._directory.by_address, own = {}, []
        for built in self._listeners:
            if built.config.network.lower() == "unix":
                continue
            host, port = listening_address(built.config.address)
            self._directory.by_address[join_address(host or "0.0.0.0", port)] = built.listener
            if built.config.bind_port:
                own.append((host, port))
        self._own.replace(own)

    def _set_limits(self, limits: WorkerLimits) -> None:
        self.admission.max_connections = limits.max_connections
        self.admission.descriptor_ceiling = descriptor_ceiling(limits.descriptor_reserve)
        self.runtime.overload.max_head_bytes = limits.max_head_bytes

    def tidy(self) -> None:
        """Drops what only removed listeners still needed, and the counters of what is gone."""
        if self.retiring:
            return
        self._publish(_objects(self._clusters))
        for name, slot in self._slots.items():
            if name not in self._packed_tables:
                slot.table = None
        known = {(name, host.address) for name, built in self._clusters.items() for host in built.cluster.hosts}
        self._unhealthy &= known
        self.metrics.keep(self._is_counted)

    @property
    def uses_old_filters(self) -> bool:
        """Whether an exchange still uses a filter that a change has replaced."""
        self._old_chains = [chain for chain in self._old_chains if chain.is_in_use()]
        return bool(self._old_filters and self._old_chains)

    async def stop_old_filters(self) -> None:
        """Stops what changes have replaced."""
        old, self._old_filters = self._old_filters, []
        await stop_filters(old)

    def filter_files(self) -> list[str]:
        """The files of the filters in force."""
        return sorted({file for built in self._filters.values() if (file := source_file(built.named.filter))})

    def filter_at(self, places: list[tuple[str, int]]) -> FilterHandle | None:
        """The filter in whose class the first of `places` (file and line) is; else one whose file it is."""
        everyone = [built.named for built in [*self._filters.values(), *self._old_filters]]
        for is_of in (is_in_class, is_in_file):
            for file, line in places:
                for named in everyone:
                    if is_of(named.filter, file, line):
                        return named
        return None

    def set_hosts(self, config: ClusterConfig) -> None:
        """Gives a cluster other hosts; `config` is its whole new configuration."""
        built = build_cluster(config, self._maker, self.metrics, self.workers, self._clusters.get(config.name), self._worker)
        self._clusters = {**self._clusters, config.name: built}
        self._publish({**self.runtime.clusters.by_name, config.name: built.cluster})
        self.tidy()

    def set_health(self, cluster: str, hosts: dict[str, bool]) -> None:
        """Takes what the active checks say of hosts of a cluster, also of such as come only later."""
        for address, healthy in hosts.items():
            (self._unhealthy.discard if healthy else self._unhealthy.add)((cluster, address))
        self._apply_health(cluster)

    async def aclose(self) -> None:
        """Stops the filters, closes the pools and writes out the logs."""
        await stop_filters([*self._filters.values(), *self._old_filters])
        self.runtime.clusters.replace({})
        self._logs.flush()

    def _publish(self, clusters: dict[str, Cluster]) -> None:
        self.runtime.clusters.replace(clusters)
        for name in clusters:
            self._apply_health(name)

    def _apply_health(self, name: str) -> None:
        cluster = self.runtime.clusters.get(name)
        for host in cluster.hosts if cluster is not None else ():
            host.set_active_health((name, host.address) not in self._unhealthy)

    def _is_counted(self, kind: str, labels: Labels) -> bool:
        names = dict(labels)
        if kind == "downstream":
            return any(name_of(built.config) == names.get("listener") for built in self._listeners)
        if kind != "upstream":
            return True
        built = self._clusters.get(names.get("cluster", ""))
        if built is None:
            return False
        return "host" not in names or any(host.address == names["host"] for host in built.cluster.hosts)


async def _start(built: BuiltFilter) -> Diagnostic | None:
    try:
        async with asyncio.timeout(START_TIME):
            starting: object = built.named.filter.start()
            if not isinstance(starting, Awaitable):
                return _filter_fault(built, "`start` must be `async def`")
            await starting
        built.is_started = True
    except TimeoutError:
        return _filter_fault(built, f"`start` takes longer than {START_TIME:g} s")
    except (Exception, SystemExit) as error:
        return _filter_fault(built, f"does not start: {describe(error)}")
    return None


def _filter_fault(built: BuiltFilter, text: str) -> Diagnostic:
    message = f"filter {built.named.name!r} {text}"
    return Diagnostic(severity="error", file="", line=0, column=0, path=built.path, message=message)


async def stop_filters(filters: list[BuiltFilter]) -> None:
    """Ends the tasks of filters and lets them clean up; what goes wrong with that is logged."""
    for built in filters:
        context = built.named.filter.context
        try:
            async with asyncio.timeout(STOP_TIME):
                await context.end_tasks()
                if built.is_started:
                    built.is_started = False
                    stopping: object = built.named.filter.stop()
                    if isinstance(stopping, Awaitable):
                        await stopping
        except (Exception, SystemExit) as error:
            context.write(f"`stop` failed: {describe(error)}", ERROR)


def descriptor_ceiling(reserve: int) -> int:
    """How many descriptors clients may have when `reserve` (0: a quarter) are kept for everything else; 0: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 0
    return limit - min(reserve or limit // 4, limit * 3 // 4)


def name_of(listener: ListenerConfig) -> str:
    """The name under which a listener is known."""
    return listener.name or listener.address


def _objects(clusters: dict[str, BuiltCluster]) -> dict[str, Cluster]:
    return {name: built.cluster for name, built in clusters.items()}
