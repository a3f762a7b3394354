"""Listeners of the configuration as run-time objects of one worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import msgspec

from pymosn.api.exchange import AccessLog
from pymosn.api.network import FilterChainFactory, NetworkFilterFactory
from pymosn.api.stream import ListenerFacts, StreamProtocol
from pymosn.assembly.filters import FilterBuilder
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Http1Settings, ProxyConfig
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema.network_filters import PROTOCOLS, CidrRange, StreamProxyConfig, StreamRoute
from pymosn.core.counters import DownstreamStats
from pymosn.core.message import ForwardingOptions
from pymosn.filters.protocols import ProtocolLoadError, load_protocol
from pymosn.network.admission import Admission
from pymosn.network.listener import ConnectionIds, Listener, ListenerDirectory
from pymosn.network.original_dst import OriginalDst
from pymosn.network.reject_all import RejectAllFactory
from pymosn.observe.access_log import AccessLogFile, compile_format
from pymosn.observe.logs import LogSet
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.proxy.tcp_proxy import TcpFallback, TcpProxyFactory
from pymosn.routing.by_address import AddressRoute, End, address_range, port_ranges
from pymosn.routing.table import TableSlot
from pymosn.stream.http1.options import trusts_peer
from pymosn.stream.registry import built_protocols
from pymosn.upstream.limits import worker_share


class BuiltListener:
    """A listener, the configuration that it is built from, and its filters.

    `listener` may be one in force with an older configuration, until `activate`.
    """

    def __init__(
        self,
        config: ListenerConfig,
        filters: StreamFilters,
        options: ProxyOptions | None,
        factory: FilterChainFactory,
        fallback: NetworkFilterFactory | None,
        original_dst: OriginalDst | None,
        max_connections: int,
    ) -> None:
        """`options`: of its `proxy` filter, None when that is not what `factory` makes; `fallback`: of the filter behind it.

        `max_connections`: this worker's share of them.
        """
        self.config = config
        self.filters = filters
        self._options = options
        self._factory = factory
        self._fallback = fallback
        self._original_dst = original_dst
        self._max_connections = max_connections
        self.listener: Listener

    def activate(self) -> None:
        """Lets the listener work as configured: its new connections, and the next exchange of each open one."""
        self.listener.max_connections = self._max_connections
        self.listener.write_timeout = self.config.write_timeout
        self.listener.write_min_rate = float(self.config.write_min_rate)
        factory = self.listener.factory
        self.listener.original_dst = self._original_dst
        if self._options is not None and isinstance(factory, ProxyFactory):
            factory.activate(self._options, self._fallback)
        else:
            self.listener.factory = self._factory


class WorkerShares:
    """What a worker's listeners have in common: the worker's admission, and its share of limits of the whole process."""

    def __init__(self, admission: Admission, workers: int, worker: int) -> None:
        """`workers`: how many share; `worker`: which of them this is, from 0; -1 when it does not know."""
        self.admission = admission
        self._workers = workers
        self._worker = worker

    def of(self, limit: int) -> int:
        """This worker's share of `limit`; 0 is no limit."""
        return worker_share(limit, self._workers, self._worker)


class ListenerBuilder:
    """Builds the listeners of one configuration. What is wrong is collected in `faults`."""

    def __init__(
        self,
        runtime: Runtime,
        slots: Mapping[str, TableSlot],
        filters: FilterBuilder,
        numbers: ConnectionIds,
        directory: ListenerDirectory,
        base_dir: str,
        loop: asyncio.AbstractEventLoop,
        logs: LogSet,
        shares: WorkerShares,
    ) -> None:
        self.faults: list[Diagnostic] = []
        self._runtime = runtime
        self._slots = slots
        self._filters = filters
        self._numbers = numbers
        self._directory = directory
        self._base_dir = base_dir
        self._loop = loop
        self._logs = logs
        self._shares = shares

    def listener(self, place: int, config: ListenerConfig, before: BuiltListener | None) -> BuiltListener:
        """The listener at `place` of the configuration, not started.

        `before`, the listener of that name in force, is returned when nothing has changed. When it has but the address has
        not, the result has the same `Listener`, to be changed by `activate`.
        """
        path = f"servers[0].listeners[{place}]"
        filters = self._filters.chain(config, path)
        if before is not None and before.config == config and before.filters.all == filters.all:
            return before
        name = config.name or config.address
        stats = DownstreamStats(self._runtime.metrics.group("downstream", ("listener", name)))
        acting = config.acting_filters()
        access_logs = self._access_logs(name, config, path)
        options: ProxyOptions | None = None
        fallback: NetworkFilterFactory | None = None
        factory: FilterChainFactory = RejectAllFactory(stats)
        if acting.tcp is not None:
            tcp = tcp_options(name, config, acting.tcp, stats, access_logs)
            fallback = TcpFallback(self._runtime, tcp)
            factory = TcpProxyFactory(self._runtime, tcp)
        if acting.proxy is not None:
            options = self._options(name, config, acting.proxy, filters, stats, access_logs, path)
            factory = ProxyFactory(self._runtime, options, fallback)
        share = self._shares.of(config.max_connections)
        built = BuiltListener(config, filters, options, factory, fallback, original_dst(config), share)
        if before is not None and has_same_socket(before.config, config):
            built.listener = before.listener
        else:
            clock, wheel = self._runtime.clock, self._runtime.wheel
            built.listener = Listener(
                name, config.address, factory, stats, self._numbers, clock, wheel, self._shares.admission
            )
            built.listener.directory = self._directory
        return built

    def _options(
        self,
        name: str,
        config: ListenerConfig,
        proxy: ProxyConfig,
        filters: StreamFilters,
        stats: DownstreamStats,
        access_logs: list[AccessLog],
        path: str,
    ) -> ProxyOptions:
        http1 = proxy.extend_config.Http1
        protocols = self._protocols(proxy, path)
        return ProxyOptions(
            listener_name=name,
            protocols=protocols,
            protocol_options=self._protocol_options(protocols, config, proxy, path),
            slot=self._slots.get(proxy.router_config_name) or TableSlot(proxy.router_config_name),
            filters=filters,
            stats=stats,
            access_logs=access_logs,
            forwarding=forwarding_options(http1),
            reason_header=http1.reason_header,
            stream_idle_timeout=http1.stream_idle_timeout,
            tunnel_idle_timeout=http1.tunnel_idle_timeout,
            idle_timeout=config.connection_idle_timeout,
            detection_timeout=proxy.detection_timeout,
        )

    def _protocol_options(
        self, protocols: list[StreamProtocol], config: ListenerConfig, proxy: ProxyConfig, path: str
    ) -> dict[str, object]:
        """The options of each protocol, by its name."""
        facts = ListenerFacts(idle_timeout=config.connection_idle_timeout, overload=self._runtime.overload)
        options: dict[str, object] = {}
        for protocol in protocols:
            name = protocol.spec.name
            try:
                options[name] = protocol.options(proxy.extend_config.of(name), facts)
            except ValueError as error:
                self._fault(path, f"settings of protocol {name!r}: {error}")
        return options

    def _protocols(self, proxy: ProxyConfig, path: str) -> list[StreamProtocol]:
        """The protocols that are tried, in order. `Auto` is all that come with pymosn, in the order of the registry."""
        known = self._runtime.protocols
        spoken: list[StreamProtocol] = []
        names = proxy.protocols()
        for name in [built.spec.name for built in built_protocols()] if names == ["Auto"] else names:
            protocol = known.get(name)
            if protocol is None and name in PROTOCOLS:
                continue  # not built: the check has said so
            if protocol is None:
                try:
                    protocol = load_protocol(name)
                except ProtocolLoadError as error:
                    self._fault(path, str(error))
                    continue
                known.add(name, protocol)
            spoken.append(protocol)
        return spoken

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
        self.faults.append(Diagnostic(severity="error", file="", line=0, column=0, path=path, message=message))


def tcp_options(
    name: str, config: ListenerConfig, tcp: StreamProxyConfig, stats: DownstreamStats, access_logs: list[AccessLog]
) -> TcpOptions:
    """What a `tcp_proxy` was configured to do."""
    return TcpOptions(
        listener_name=name,
        cluster=tcp.cluster,
        routes=[_address_route(route) for route in tcp.routes],
        stats=stats,
        access_logs=access_logs,
        idle_timeout=tcp.idle_timeout / 1e9 if tcp.idle_timeout > 0 else config.connection_idle_timeout,
        connect_attempts=tcp.max_connect_attempts,
    )


def forwarding_options(http1: Http1Settings) -> ForwardingOptions:
    """What a listener adds to requests about the client."""
    return ForwardingOptions(
        x_forwarded=http1.x_forwarded,
        x_request_id=http1.x_request_id,
        trusts_peer=trusts_peer(msgspec.structs.asdict(http1)),
        trusted_hops=http1.trusted_hops,
    )


def _address_route(route: StreamRoute) -> AddressRoute:
    source = _end(route.sourceaddrs, route.sourceport)
    return AddressRoute(route.cluster, source, _end(route.destinationaddrs, route.destinationport))


def _end(networks: list[CidrRange], ports: str) -> End:
    return End([address_range(entry.address, entry.length) for entry in networks], port_ranges(ports))


def original_dst(config: ListenerConfig) -> OriginalDst | None:
    """How the listener finds where redirected clients wanted to go; None when it does not look.

    The `original_dst` filter, when there is one, says how, and `use_original_dst` whether at all, as in MOSN.
    """
    if config.use_original_dst not in ("redirect", "tproxy"):
        return None
    kind, fallback_to_local = config.use_original_dst, False
    for entry in config.listener_filters:
        if entry.type == "original_dst":
            kind = str(entry.config.get("type") or "redirect")
            fallback_to_local = bool(entry.config.get("fallback_to_local", False))
            break
    return OriginalDst(kind == "tproxy", fallback_to_local)


def has_same_socket(one: ListenerConfig, other: ListenerConfig) -> bool:
    """Whether a listener can pass from one configuration to the other without another socket."""
    return _socket(one) == _socket(other)


def _socket(listener: ListenerConfig) -> tuple[str, str, bool, bool]:
    return listener.network.lower() or "tcp", listener.address, listener.bind_port, listener.use_original_dst == "tproxy"
