"""From a checked configuration to the run-time objects of one worker."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pymosn.api.network import FilterChainFactory
from pymosn.api.proxy import AccessLog, StreamFilter
from pymosn.config.build_routes import build_table
from pymosn.config.build_upstream import build_clusters
from pymosn.config.drain_order import drain_order
from pymosn.config.faults import Fault
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import MosnConfig, ProxyConfig, ProxyFilter, RouterConfiguration
from pymosn.config.schema import StreamFilter as StreamFilterConfig
from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS
from pymosn.core.clock import Clock
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.filters.stream.python import FilterLoadError, load_file, load_installed
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionNumbers, Listener
from pymosn.network.refusal import RefusalFactory
from pymosn.observe.access_log import AccessLogFile, compile_format
from pymosn.observe.logs import LogSet
from pymosn.protocol.http1.decoder import Http1Limits
from pymosn.proxy.filter_chain import NamedFilter, StreamFilters
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.routing.table import TableSlot
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.registry import protocols
from pymosn.upstream.cluster import Clusters, PoolMaker


class BuildError(Exception):
    """The configuration is well-formed but cannot be built here: a filter that does not load."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.text() for fault in faults))
        self.faults = faults


class WorkerRuntime:
    """Everything that one worker runs."""

    def __init__(self, runtime: Runtime, listeners: list[Listener], order: list[list[Listener]], logs: LogSet) -> None:
        self.runtime = runtime
        self.listeners = listeners
        #: Groups of listeners in the order in which they may stop accepting.
        self.drain_order = order
        self.metrics = runtime.metrics
        self.wheel = runtime.wheel
        self.clock = runtime.clock
        self.log = runtime.log
        self._logs = logs

    async def aclose(self) -> None:
        """Closes the pools and writes out the logs."""
        self.runtime.clusters.replace({})
        self._logs.flush()


def build_worker(
    config: MosnConfig,
    config_dir: str,
    base_dir: str,
    workers: int,
    loop: asyncio.AbstractEventLoop,
    logs: LogSet,
) -> WorkerRuntime:
    """Builds everything that a worker runs; nothing is started.

    `config_dir`: what paths of filters are relative to. `base_dir`: where `logs/` is. `workers`: how many share the limits.
    Raises BuildError with every fault.
    """
    clock = Clock()
    wheel = TimerWheel(clock)
    metrics = Metrics()
    numbers = ConnectionNumbers()
    spoken = protocols()
    maker = PoolMaker(spoken, TcpDialer(numbers, clock, wheel), wheel)
    clusters = Clusters()
    clusters.replace(build_clusters(config, maker, metrics, workers))
    runtime = Runtime(clock, wheel, metrics, logs.process_log, spoken, clusters)
    slots = {name: _slot(name, table) for name, table in _tables(config).items()}
    builder = _ListenerBuilder(runtime, slots, numbers, config_dir, base_dir, loop, logs)
    listeners = [builder.listener(place, listener) for place, listener in enumerate(config.servers[0].listeners)]
    if builder.faults:
        raise BuildError(builder.faults)
    return WorkerRuntime(runtime, listeners, drain_order(config, listeners), logs)


class _ListenerBuilder:
    def __init__(
        self,
        runtime: Runtime,
        slots: dict[str, TableSlot],
        numbers: ConnectionNumbers,
        config_dir: str,
        base_dir: str,
        loop: asyncio.AbstractEventLoop,
        logs: LogSet,
    ) -> None:
        self.faults: list[Fault] = []
        self._runtime = runtime
        self._slots = slots
        self._numbers = numbers
        self._config_dir = config_dir
        self._base_dir = base_dir
        self._loop = loop
        self._logs = logs

    def listener(self, place: int, config: ListenerConfig) -> Listener:
        """The listener at `place` of the configuration, not started."""
        path = f"servers[0].listeners[{place}]"
        name = config.name or config.address
        stats = DownstreamStats(self._runtime.metrics.group("downstream", ("listener", name)))
        factory: FilterChainFactory = RefusalFactory()
        for chain in config.filter_chains:
            for entry in chain.filters:
                if isinstance(entry, ProxyFilter):
                    factory = ProxyFactory(self._runtime, self._options(name, config, entry.config, stats, path))
        return Listener(name, config.address, factory, stats, self._numbers, self._runtime.clock, self._runtime.wheel)

    def _options(
        self, name: str, config: ListenerConfig, proxy: ProxyConfig, stats: DownstreamStats, path: str
    ) -> ProxyOptions:
        http1 = proxy.extend_config.Http1
        # `Auto` is every protocol that is built, in the order of their registration.
        known = self._runtime.protocols
        names = [name for name in proxy.downstream_protocol.split(",") if known.get(name) is not None] or known.names()
        limits = Http1Limits(http1.max_header_size, http1.max_header_count, http1.max_request_body_size)
        return ProxyOptions(
            name,
            [protocol for wanted in names if (protocol := known.get(wanted)) is not None],
            {"Http1": Http1Options(limits, config.connection_idle_timeout, http1.header_timeout, http1.body_timeout)},
            self._slots.get(proxy.router_config_name) or TableSlot(proxy.router_config_name),
            self._stream_filters(config, path),
            stats,
            self._access_logs(name, config, path),
            http1.x_forwarded,
            http1.x_request_id,
            http1.reason_header,
            http1.stream_idle_timeout,
        )

    def _access_logs(self, name: str, config: ListenerConfig, path: str) -> list[AccessLog]:
        made: list[AccessLog] = []
        for number, entry in enumerate(config.access_logs):
            log_path = entry.log_path or os.path.join(self._base_dir, "logs", f"{name}_access.log")
            try:
                destination = self._logs.access_destination(log_path, self._loop.call_soon)
                line = compile_format(entry.log_format).bind(self._runtime.clock, name, config.type)
            except (OSError, ValueError) as error:
                self._fault(f"{path}.access_logs[{number}]", str(error))
                continue
            made.append(AccessLogFile(destination, line))
        return made

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(severity="error", file="", line=0, column=0, path=path, message=message))

    def _stream_filters(self, config: ListenerConfig, path: str) -> StreamFilters:
        made: list[NamedFilter] = []
        for number, entry in enumerate(config.stream_filters):
            if entry.type in NO_OP_STREAM_FILTERS:
                continue
            try:
                stream_filter = self._stream_filter(entry)
            except FilterLoadError as error:
                self._fault(f"{path}.stream_filters[{number}]", str(error))
                continue
            name = str(entry.config.get("class", entry.type)) if entry.type == "python" else entry.type
            made.append(NamedFilter(name, stream_filter, self._runtime.metrics))
        return StreamFilters(made)

    def _stream_filter(self, entry: StreamFilterConfig) -> StreamFilter:
        if entry.type != "python":
            return load_installed(entry.type, dict(entry.config))
        settings = {key: value for key, value in entry.config.items() if key not in ("path", "class")}
        return load_file(Path(self._config_dir, str(entry.config["path"])), str(entry.config["class"]), settings)


def _tables(config: MosnConfig) -> dict[str, RouterConfiguration]:
    return config.servers[0].router_tables()


def _slot(name: str, table: RouterConfiguration) -> TableSlot:
    slot = TableSlot(name)
    slot.table = build_table(table)
    return slot
