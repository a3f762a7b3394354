"""The run-time objects of one worker: builds configurations, and activates them at the start and at each change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from pymosn.assembly.drain_order import drain_order
from pymosn.assembly.filters import BuiltFilter, FilterBuilder, stop_filters
from pymosn.assembly.listeners import BuiltListener, ListenerBuilder, WorkerNetwork
from pymosn.assembly.machine import machine_digits
from pymosn.assembly.packed_config import (
    PackedCluster,
    PackedConfig,
    PackedTable,
    Parts,
    Piece,
    unpack_pieces,
    unpack_table,
)
from pymosn.assembly.prepared import BuildError, PreparedConfig, Retired, close_logs, free, parts_of
from pymosn.assembly.routes import build_in_steps, clusters_of
from pymosn.assembly.share import WorkerShare, descriptor_ceiling
from pymosn.assembly.steps import Steps
from pymosn.assembly.tls import TlsStore, resolver
from pymosn.assembly.tracing import make_tracer
from pymosn.assembly.wheel_timer import WheelTimer
from pymosn.assembly.worker_clusters import WorkerClusters
from pymosn.config.schema import Overload, RecentExchanges, WorkerLimits
from pymosn.core.clock import Clock
from pymosn.core.counters import Labels, Metrics
from pymosn.core.route_stats import OTHER
from pymosn.core.route_stats import TYPE as ROUTES
from pymosn.core.stamps import Stamps
from pymosn.filters.modules import ModuleDraft, ModuleStore, is_in_class, is_in_file, source_file
from pymosn.network.admission import Admission
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import Listener
from pymosn.network.tls.gate import FailedHandshake
from pymosn.network.udp import DatagramListener
from pymosn.observe.logs import LogSet
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.connection_filters import ConnectionFilterHandle
from pymosn.proxy.filter_code import FilterCode
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle
from pymosn.routing.table import TableSlot
from pymosn.stream.registry import protocols
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.ejection import Ejection, RecentEjections

#: Listeners that are compared in one step.
LISTENERS_PER_STEP: Final = 20


class Draft(NamedTuple):
    """A configuration that has been checked, whose filters and listeners have not been built yet."""

    packed: PackedConfig
    made: PreparedConfig
    config_dir: str
    base_dir: str


class WorkerRuntime:
    """Everything that one worker runs. `prepare` builds a configuration, `activate` makes it live.

    The data path uses `runtime`. `active` has the objects of the live configuration, `retired` those of earlier ones while
    they are still in use.
    """

    def __init__(
        self, workers: int, worker: int, loop: asyncio.AbstractEventLoop, logs: LogSet, incarnation: int = 0
    ) -> None:
        """`workers`: their number, which share the limits. `worker`: the index of this one; -1 if it does not know it.

        `incarnation`: how many workers were started before this one.
        """
        self.share = WorkerShare(workers, worker)
        self.clock = Clock()
        self.wheel = WheelTimer(loop, self.clock).wheel
        self.metrics = Metrics()
        self.log = logs.process_log
        self.admission = Admission(self.wheel, self.log)
        self.runtime = Runtime(self.clock, self.wheel, self.metrics, self.log, protocols(), Clusters())
        self.active = PreparedConfig(None, WorkerLimits(), Overload())
        self.retired = Retired()
        #: The filters built last, which may not be active yet.
        self._newest: list[BuiltFilter] = []
        self.runtime.stamps = Stamps(self.clock, incarnation, machine_digits(), str(os.getpid()))
        #: Finished traces that have not been sent.
        self.traces = TraceBuffer(self.metrics)
        self._network = WorkerNetwork(self.admission, incarnation)
        self._network.gate.log = self.log
        dialer = TcpDialer(self._network.ids, self.clock, self.wheel, self.admission, self.log)
        maker = PoolMaker(self.runtime.protocols, dialer, self.wheel, self._network.own_addresses, self.log)
        maker.is_first_worker = worker <= 0
        maker.pools_changed = self.metrics.group("mosn_tls", ("tls", "global")).counter("connpool_changed")
        self._clusters = WorkerClusters(self.runtime.clusters, maker, self.metrics, self.share)
        self._modules = ModuleStore()
        #: The TLS contexts of listeners.
        self.tls = TlsStore()
        self._slots: dict[str, TableSlot] = {}
        # The objects of replaced router tables, and the names of everything with counters when they were last tidied.
        self._remains: list[object] = []
        self._counted: set[str] = set()
        self._loop = loop
        self.logs = logs

    @property
    def listeners(self) -> list[Listener]:
        """The active listeners."""
        return [built.listener for built in self.active.listeners]

    @property
    def datagram_readers(self) -> dict[int, DatagramListener]:
        """The UDP listeners by the sockets that they read (`DatagramPort.cookie`)."""
        return self._network.datagrams.readers

    def prepare(self, packed: PackedConfig, config_dir: str, base_dir: str) -> Steps[PreparedConfig]:
        """`check`, then `build`."""
        return (yield from self.build((yield from self.check(packed, config_dir, base_dir))))

    def check(self, packed: PackedConfig, config_dir: str, base_dir: str) -> Steps[Draft]:
        """Builds router tables and clusters in steps, and checks all else that runs no code of filters, without effect.

        Nothing is created, not even a log file. Objects that do not change are shared with the active configuration, which
        must not change until the draft is built. `config_dir`: directory for relative paths of filters. `base_dir`: parent
        of `logs/`. BuildError has all errors.
        """
        server = packed.rest.servers[0]
        made = PreparedConfig(packed, server.limits, server.overload)
        made.recent_exchanges = server.recent_exchanges or RecentExchanges()
        draft = Draft(packed, made, config_dir, base_dir)
        yield from self._prepare_tables(made, packed.parts)
        made.clusters = yield from self._clusters.build(packed)
        filters, builder = self._builders(draft, self._modules.draft(packed.source_files()))
        builder.runs_code = False
        kept = yield from self._kept(packed)
        for i, listener in enumerate(server.listeners):
            if listener.known_name() not in kept:
                yield from builder.check(i, listener)
                yield from filters.check(listener, f"servers[0].listeners[{i}]")
        close_logs(builder.new_logs)
        if builder.faults or filters.faults:
            yield from self.discard(made)
            raise BuildError([*builder.faults, *filters.faults])
        return draft

    def build(self, draft: Draft) -> Steps[PreparedConfig]:
        """Builds a checked configuration in steps, which imports and creates its filters. BuildError has all errors.

        It has no effect but that of their code.
        """
        packed, made = draft.packed, draft.made
        config = packed.rest
        modules = self._modules.draft(packed.source_files())
        filters, builder = self._builders(draft, modules)
        before = {built.name: built for built in self.active.listeners}
        kept = yield from self._kept(packed)
        for built in kept.values():
            filters.keep(built.filter_keys)
        filters.note_replaced([listener for listener in config.servers[0].listeners if listener.known_name() not in kept])
        try:
            for i, listener in enumerate(config.servers[0].listeners):
                name = listener.known_name()
                made.listeners.append(kept.get(name) or (yield from builder.listener(i, listener, before.get(name))))
        except BaseException:
            modules.rollback()
            raise
        if builder.faults or filters.faults:
            close_logs(builder.new_logs)
            modules.rollback()
            yield from self.discard(made)
            raise BuildError([*builder.faults, *filters.faults])
        made.modules = modules
        made.filters = filters.built
        made.new_filters = self._newest = filters.new()
        made.marks, made.new_logs = filters.marks, builder.new_logs
        made.drain_order = drain_order(config, [built.listener for built in made.listeners], made.clusters_of, packed.reach)
        return made

    def _kept(self, packed: PackedConfig) -> Steps[dict[str, BuiltListener]]:
        """The active listeners that stay as they are, by name: neither they nor the code of filters have changed."""
        found: dict[str, BuiltListener] = {}
        if packed.sources == self.active.sources:
            before = {built.name: built for built in self.active.listeners}
            for count, listener in enumerate(packed.rest.servers[0].listeners):
                built = before.get(listener.known_name())
                if built is not None and (built.config is listener or built.config == listener):
                    found[built.name] = built
                if not count % LISTENERS_PER_STEP:
                    yield
        return found

    def _builders(self, draft: Draft, modules: ModuleDraft) -> tuple[FilterBuilder, ListenerBuilder]:
        slots = {name: self._slots.get(name) or TableSlot(name) for name in draft.packed.tables}
        self._slots = {**self._slots, **slots}
        active, base_dir = self.active.filters, draft.base_dir
        clients = ClusterClients(self.runtime)
        node = draft.packed.rest.node if isinstance(draft.packed.rest.node, dict) else {}
        filters = FilterBuilder(
            draft.config_dir, self.metrics, self.log, clients, active, modules, self.clock, self.share, node
        )
        find_pem = resolver(draft.packed.parts)
        listeners = ListenerBuilder(
            self.runtime, slots, filters, self._network, self.share, base_dir, self._loop, self.logs, self.tls, find_pem
        )
        return filters, listeners

    def _prepare_tables(self, made: PreparedConfig, parts: Parts) -> Steps[None]:
        for name, packed in made.packed_tables.items():
            if self.active.packed_tables.get(name) == packed:
                made.clusters_of[name] = self.active.clusters_of[name]
                continue
            made.clusters_of[name] = set()
            pieces = _pieces(packed, parts, made.clusters_of[name])
            made.tables[name] = yield from build_in_steps(unpack_table(packed, parts), pieces)

    def activate(self, made: PreparedConfig) -> list[Listener]:
        """Makes a prepared configuration live in one step; returns the listeners that must be started.

        Removed clusters stay until the removed listeners, now in `retired`, are empty: see `tidy`. `clean_up` must follow.
        """
        before, already = set(self.listeners), set(self.active.listeners)
        self.logs.activate(made.new_logs)
        self._clusters.activate(made.clusters, made.packed_clusters)
        for name, table in made.tables.items():
            old = self._slots[name].table
            if old is not None:
                self._remains += parts_of(old)
            self._slots[name].table = table
        made.tables = {}
        self.retired.add(self.active, made)
        if made.tracing != self.active.tracing:
            self.runtime.tracer = make_tracer(made.tracing, self.traces, self.runtime.stamps)
        if made.modules is not None:
            self.retired.modules.append(made.modules.commit())
            made.modules = None
        self.active = made
        routes, wanted = self.runtime.routes, made.metrics
        routes.is_detailed, routes.has_exemplars, routes.limit = wanted.per_route, wanted.exemplars, wanted.max_series
        limits = made.limits
        self.admission.max_connections = limits.max_connections
        self.admission.descriptor_ceiling = descriptor_ceiling(limits.descriptor_reserve)
        self._network.gate.limit = self.share.of(limits.max_handshakes)
        self._network.gate.source_limit = self.share.of(limits.max_handshakes_per_source)
        self.runtime.overload.max_head_bytes = limits.max_head_bytes
        recent = made.recent_exchanges
        self.runtime.stories.set_limits(recent.failed, recent.slow, recent.window)
        for built in made.listeners:
            if built in already:
                continue
            left = built.activate()
            if left is not None:
                self.retired.listeners.append(left)
        self._network.activate_addresses(made.listeners)
        return [listener for listener in self.listeners if listener not in before]

    def note_addresses(self, services: list[tuple[str, int]] | None = None) -> None:
        """Updates the addresses that must not be a client's destination, after listeners have started.

        `services`: the addresses of the supervisor's services.
        """
        if services is not None:
            self._network.own_addresses.set_services(services)
        self._network.activate_addresses(self.active.listeners)

    def take_failed_handshakes(self) -> Mapping[str, list[FailedHandshake]]:
        """The last failed handshakes of each listener since the last call."""
        return self._network.gate.take_failures()

    def tidy(self) -> Steps[None]:
        """Drops, in steps, everything that only retired listeners used, and the counters of removed objects."""
        if self.retired.listeners:
            return
        has_removed = self._clusters.tidy()
        for name, slot in self._slots.items():
            if name not in self.active.packed_tables and slot.table is not None:
                self._remains += parts_of(slot.table)
                slot.table = None
        yield from self.clean_up()
        listeners = {built.name for built in self.active.listeners}
        counted = {*listeners, *(f"router {name}" for name in self.active.packed_tables)}
        if has_removed or not self._counted <= counted:
            yield from self.metrics.keep_in_steps(partial(self._is_counted, listeners))
        self._counted = counted

    def clean_up(self) -> Steps[None]:
        """Closes and frees, in steps, what the last change has replaced."""
        yield from self._clusters.clean_up()
        self.tls.keep([chain.contexts for built in self.active.listeners for chain in built.chains.chains])
        remains, self._remains = self._remains, []
        yield from free(remains)

    def _is_counted(self, listeners: set[str], kind: str, labels: Labels) -> bool:
        if kind == "downstream":
            return dict(labels).get("listener") in listeners
        if kind == ROUTES:
            return dict(labels).get("router") in (*self.active.packed_tables, OTHER)
        return kind != "upstream" or self._clusters.has(labels)

    def size(self) -> int:
        """Roughly the number of routes, used hosts and connections: of what the garbage collector must traverse."""
        tables = [slot.table for slot in self._slots.values() if slot.table is not None]
        routes = sum(len(host.routes) for table in tables for host in table.virtual_hosts)
        connections = sum(listener.connection_count for listener in self.listeners)
        return routes + connections + len(self.metrics)

    def reopen_logs(self) -> None:
        """Reopens the log files, and makes every filter reopen its own."""
        self.logs.reopen()
        filters = [*self.active.filters.values(), *self.retired.all_filters]
        for built in [*filters, *(new for new in self._newest if new not in filters)]:
            built.reopen()

    def filter_files(self) -> list[str]:
        """The files of the active filters."""
        return sorted({file for built in self.active.filters.values() if (file := source_file(built.handle.kind))})

    def filter_codes(self) -> list[FilterCode]:
        """All filters, active ones and those that exchanges still use."""
        return [built.handle for built in [*self.retired.all_filters, *self.active.filters.values()]]

    def filter_at(self, locations: list[tuple[str, int]]) -> FilterHandle | ConnectionFilterHandle | None:
        """The filter whose class has the first of `locations` (file and line), or else the one whose file has it."""
        handles = [built.handle for built in [*self.active.filters.values(), *self.retired.all_filters]]
        tests = [(is_of, file, line) for is_of in (is_in_class, is_in_file) for file, line in locations]
        return next((h for is_of, file, line in tests for h in handles if is_of(h.kind, file, line)), None)

    def set_hosts(self, name: str, packed: PackedCluster, parts: Parts) -> Steps[None]:
        """Replaces a cluster, whose hosts have changed, in steps; it becomes active when it is complete."""
        cluster = yield from self._clusters.build_one(packed, parts)
        self._clusters.set_hosts(name, cluster, packed)
        yield from self.clean_up()

    def set_ticket_secret(self, secret: bytes) -> None:
        """Replaces the secret of TLS session tickets."""
        self.tls.tickets.set(secret)

    def discard(self, made: PreparedConfig) -> Steps[None]:
        """Frees the memory of a prepared configuration that will not be activated, in steps."""
        self._newest = []
        return made.discard(self._clusters.active)

    def set_health(self, cluster: str, hosts: dict[str, bool]) -> None:
        """Applies results of the active health check, also for hosts that are added later."""
        self._clusters.set_health(cluster, hosts)

    @property
    def ejections(self) -> RecentEjections:
        """The recent ejections of hosts."""
        return self._clusters.maker.ejections

    def restore_ejections(self, ejections: list[Ejection]) -> None:
        """Continues ejections by another worker, also of hosts that are added soon."""
        self._clusters.restore_ejections(ejections)

    async def aclose(self) -> bool:
        """Stops the filters, closes the pools and flushes the logs; returns whether no filter has failed to stop."""
        try:
            return await stop_filters([*self.active.filters.values(), *self.retired.all_filters])
        finally:
            self.runtime.clusters.activate({})
            self.logs.flush()


def _pieces(packed: PackedTable, parts: Parts, clusters: set[str]) -> Iterator[list[Piece]]:
    """The virtual hosts of a table, part by part; adds the clusters that they refer to.

    The schema objects of thousands of routes are larger than the table built from them: they are not kept.
    """
    for digest in packed.pieces:
        pieces = unpack_pieces(parts[digest])
        clusters |= clusters_of(host for _, host in pieces)
        yield pieces
