"""Builds the listeners of one worker from the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from pymosn.api.exchange import AccessLog
from pymosn.api.network import FilterChainFactory, NetworkFilterFactory, join_address
from pymosn.api.stream import ListenerFacts, StreamProtocol
from pymosn.assembly.access_logs import compiled_log, log_condition
from pymosn.assembly.alpn import alpn_offers
from pymosn.assembly.chains import ListenerChains
from pymosn.assembly.clusters import tcp_keepalive
from pymosn.assembly.filters import FilterBuilder, FilterKey
from pymosn.assembly.local_replies import local_replies
from pymosn.assembly.protocols import ProtocolLoadError, load_protocol
from pymosn.assembly.share import WorkerShare
from pymosn.assembly.steps import Steps
from pymosn.assembly.tcp import check_observers, tcp_observers, tcp_options
from pymosn.assembly.tls import Resolve, TlsStore
from pymosn.assembly.udp import DatagramNetwork, build_udp
from pymosn.config.chains import chain_conditions, chain_name
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.schema import AccessLog as AccessLogConfig
from pymosn.config.schema import FilterChain, ProxyConfig
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema.network_filters import StreamProxyConfig
from pymosn.core.addresses import split_address
from pymosn.core.counters import DownstreamStats
from pymosn.core.errors import describe, is_a, reason
from pymosn.network.admission import Admission
from pymosn.network.chain_match import ChainConditions
from pymosn.network.datagram_session import SessionFactory
from pymosn.network.destinations import OwnAddresses
from pymosn.network.filter_chains import Chain
from pymosn.network.host_demands import HostDemands
from pymosn.network.listener import ConnectionIds, Listener, ListenerDirectory
from pymosn.network.original_dst import OriginalDst
from pymosn.network.reject_all import RejectAllFactory
from pymosn.network.tls.contexts import ServerContexts
from pymosn.network.tls.gate import HandshakeGate
from pymosn.network.udp import DatagramListener
from pymosn.observe.access_log import AccessLogFile
from pymosn.observe.destination import Destination
from pymosn.observe.logs import LogSet
from pymosn.proxy.connection_filters import ConnectionFilters, FilteredChain
from pymosn.proxy.filtered_chain import FilteredChainFactory
from pymosn.proxy.options import HttpRules, ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import StreamFilters
from pymosn.proxy.tcp_proxy import TcpFallback, TcpProxyFactory
from pymosn.routing.actions import NO_TIMEOUT
from pymosn.routing.table import TableSlot
from pymosn.stream.http.options import forwarding_options, path_policy
from pymosn.stream.registry import built_protocols
from pymosn.stream.settings import flag, seconds


class _Shared(NamedTuple):
    """What the chains of one listener have in common. `demands`: None if there are none. `path`: the listener's.

    `proxies`: the stream filters of each chain's proxy, None for those of the listener.
    """

    filters: StreamFilters
    proxies: list[StreamFilters | None]
    stats: DownstreamStats
    access_logs: list[AccessLog]
    demands: HostDemands | None
    path: str


class BuiltListener(msgspec.Struct, eq=False):
    """A listener, with the configuration that it was built from and its filters.

    Until `activate`, `listener` may still be live with an older configuration. `max_connections`: this worker's share.
    """

    name: str
    config: ListenerConfig
    filters: StreamFilters
    #: The connection filters of each chain.
    connection_filters: list[ConnectionFilters]
    listener: Listener
    chains: ListenerChains
    max_connections: int
    #: The chains that `listener` has until then; None if it is new.
    before: ListenerChains | None = None
    #: What makes the sessions of a UDP listener, which has no chains.
    sessions: SessionFactory | None = None
    #: The stream filters of each chain's proxy; None for those of the listener.
    proxy_filters: list[StreamFilters | None] = []
    #: The keys of all its filters.
    filter_keys: list[FilterKey] = []

    def has_filters(
        self,
        filters: StreamFilters,
        connection_filters: list[ConnectionFilters],
        proxy_filters: list[StreamFilters | None],
    ) -> bool:
        """Whether its filters are the same objects as these."""
        own = [chain.all for chain in self.connection_filters]
        proxies = [None if chain is None else chain.all for chain in self.proxy_filters]
        return (
            self.filters.all == filters.all
            and own == [chain.all for chain in connection_filters]
            and proxies == [None if chain is None else chain.all for chain in proxy_filters]
        )

    def all_stream_filters(self) -> list[StreamFilters]:
        """The stream filters of the listener, and of the proxies that have their own."""
        return [self.filters, *[chain for chain in self.proxy_filters if chain is not None]]

    def activate(self) -> Listener | None:
        """Makes the configuration live: for new connections, and for the next exchange of each open one.

        Returns an owner for the open connections of chains that are gone, which are to be drained; None if there are none.
        """
        self.listener.max_connections = self.max_connections
        self.listener.write_timeout = self.config.write_timeout
        self.listener.write_min_rate = float(self.config.write_min_rate)
        self.listener.original_dst = original_dst(self.config)
        if isinstance(self.listener, DatagramListener):
            if self.sessions is not None:
                self.listener.sessions = self.sessions
            return None
        left: Listener | None = None
        if self.before is not None:
            gone = self.chains.take_over(self.before)
            are_all = len(gone) == len(self.before.chains)
            left = self.listener.part_with([chain.factory for chain in gone], are_all=are_all) if gone else None
            self.before = None
        self.listener.factory = self.chains.factory()
        self.listener.keepalive = tcp_keepalive(self.config.tcp_keepalive)
        return left


class WorkerNetwork:
    """Objects that the listeners of one worker share."""

    def __init__(self, admission: Admission, incarnation: int = 0) -> None:
        self.admission = admission
        self.ids = ConnectionIds(incarnation)
        self.directory = ListenerDirectory()
        self.own_addresses = OwnAddresses()
        self.gate = HandshakeGate()
        self.datagrams = DatagramNetwork()

    def activate_addresses(self, listeners: list[BuiltListener]) -> None:
        """Makes listeners reachable for redirected connections, and unreachable as destinations that clients choose.

        To be called again when listeners have started, because only their sockets know a port that was configured as 0.
        """
        self.directory.by_address, own, datagrams = {}, [], []
        for built in listeners:
            if built.config.network.lower() == "unix":
                continue
            host, port = split_address(built.config.address)
            if built.config.is_udp():
                datagrams.append(built.listener.bound_address() or (host, port))
                continue
            self.directory.by_address[join_address(host or "0.0.0.0", port)] = built.listener
            if built.config.bind_port:
                own.append(built.listener.bound_address() or (host, port))
        self.own_addresses.replace(own)
        self.datagrams.own.replace(datagrams)


class ListenerBuilder(msgspec.Struct, eq=False):
    """Builds the listeners of one configuration; collects errors in `faults`. `base_dir`: parent of `logs/`."""

    runtime: Runtime
    slots: Mapping[str, TableSlot]
    filters: FilterBuilder
    network: WorkerNetwork
    share: WorkerShare
    base_dir: str
    loop: asyncio.AbstractEventLoop
    logs: LogSet
    tls: TlsStore
    #: Resolves references to certificates.
    find_pem: Resolve
    faults: list[Diagnostic] = []
    #: The destinations of access logs that are not open yet, by path.
    new_logs: dict[str, Destination] = {}
    #: Whether protocols of installed packages may be loaded, which runs their code.
    runs_code: bool = True

    def check(self, index: int, config: ListenerConfig) -> Steps[None]:
        """Finds, in steps, what prevents a listener of the configuration from being built, besides its filters."""
        path = f"servers[0].listeners[{index}]"
        for key, entries in config.log_lists():
            self._access_logs(config, entries, f"{path}.{key}")
            yield
        for i, chain in enumerate(config.filter_chains):
            self._contexts(chain, f"{path}.filter_chains[{i}]")
            acting = chain.acting_filters()
            if acting.proxy is not None:
                self._protocol_options(self._protocols(acting.proxy, path), config, acting.proxy, path)
            if acting.tcp is not None:
                self.faults += check_observers(acting.tcp, path)
            yield

    def listener(self, index: int, config: ListenerConfig, before: BuiltListener | None) -> Steps[BuiltListener]:
        """A listener of the configuration, built in steps, and not started.

        `before`, the active listener of that name, is returned if nothing has changed. If its address has not changed, the
        result has the same `Listener`, which `activate` will update.
        """
        path = f"servers[0].listeners[{index}]"
        keys: list[FilterKey] = []
        self.filters.used = keys
        filters = self.filters.chain(config, path)
        connection: list[ConnectionFilters] = []
        proxies: list[StreamFilters | None] = []
        for i in range(len(config.filter_chains)):
            yield
            connection.append(self.filters.connection_chain(config, i, path))
            proxies.append(self.filters.proxy_chain(config, i, path))
        if before is not None and before.config == config and before.has_filters(filters, connection, proxies):
            return before
        built = yield from self._build(config, filters, connection, proxies, path)
        built.proxy_filters = proxies
        built.filter_keys = keys
        if before is not None and _socket(before.config) == _socket(config):
            built.listener = before.listener
            built.before = before.chains
        return built

    def _build(
        self,
        config: ListenerConfig,
        filters: StreamFilters,
        connection: list[ConnectionFilters],
        proxies: list[StreamFilters | None],
        path: str,
    ) -> Steps[BuiltListener]:
        udp = config.udp_proxy()
        if udp is not None:
            return self._build_udp(config, udp, filters, connection, path)
        name, runtime, network = config.known_name(), self.runtime, self.network
        stats = DownstreamStats(runtime.metrics.group("downstream", ("listener", name)))
        access_logs = self._access_logs(config, config.access_logs, f"{path}.access_logs")
        conditions = [chain_conditions(chain) for chain in config.filter_chains]
        contexts: list[ServerContexts | None] = []
        for i, chain in enumerate(config.filter_chains):
            contexts.append(self._contexts(chain, f"{path}.filter_chains[{i}]"))
            yield
        demands = HostDemands(conditions, contexts, config.inspector, trusts_plain=not config.refuse_misdirected_plain)
        is_checked = config.refuse_misdirected and not demands.are_none()
        shared = _Shared(filters, proxies, stats, access_logs, demands if is_checked else None, path)
        chains: list[Chain] = []
        for i in range(len(config.filter_chains)):
            chains.append(self._chain(config, i, conditions[i], contexts[i], connection[i], shared))
            yield
        built = ListenerChains(chains, stats, config, network.gate)
        listener = Listener(
            name, config.address, built.factory(), stats, network.ids, runtime.clock, runtime.wheel, network.admission
        )
        listener.directory = network.directory
        return BuiltListener(name, config, filters, connection, listener, built, self.share.of(config.max_connections))

    def _build_udp(
        self,
        config: ListenerConfig,
        udp: StreamProxyConfig,
        filters: StreamFilters,
        connection: list[ConnectionFilters],
        path: str,
    ) -> BuiltListener:
        name, runtime, network = config.known_name(), self.runtime, self.network
        group = runtime.metrics.group("downstream", ("listener", name))
        stats = DownstreamStats(group)
        logs = self._access_logs(config, config.access_logs, f"{path}.access_logs")
        options = tcp_options(name, config, udp, stats, logs)
        listener, sessions = build_udp(
            config, udp, options, group, runtime, network.ids, network.admission, network.datagrams, self.share
        )
        chains = ListenerChains([], stats, config, network.gate)
        share = self.share.of(config.max_connections)
        return BuiltListener(name, config, filters, connection, listener, chains, share, sessions=sessions)

    def _contexts(self, chain: FilterChain, path: str) -> ServerContexts | None:
        """The TLS contexts of a chain; None if it does not terminate TLS."""
        return self.tls.contexts(
            chain, self.find_pem, lambda key, message: self.faults.append(error_at(f"{path}.{key}", message))
        )

    def _chain(
        self,
        config: ListenerConfig,
        index: int,
        conditions: ChainConditions,
        contexts: ServerContexts | None,
        connection: ConnectionFilters,
        shared: _Shared,
    ) -> Chain:
        name, runtime = config.known_name(), self.runtime
        stats = shared.stats
        acting = config.filter_chains[index].acting_filters()
        fallback: NetworkFilterFactory | None = None
        factory: FilterChainFactory = RejectAllFactory(stats)
        speaks_http = False
        if acting.tcp is not None:
            logs = self._chain_logs(config, index, acting.tcp.access_logs, shared)
            observers = tcp_observers(acting.tcp, self.filters, runtime)
            tcp = tcp_options(name, config, acting.tcp, stats, logs, observers)
            fallback = TcpFallback(runtime, tcp)
            factory = TcpProxyFactory(runtime, tcp)
        if acting.proxy is not None:
            options = self._options(name, config, acting.proxy, shared, index)
            options.demands = shared.demands
            speaks_http = any(protocol.spec.name == "Http1" for protocol in options.protocols)
            factory = ProxyFactory(runtime, options, fallback)
        if connection.all:
            inner = factory if acting.proxy is not None or acting.tcp is not None else None
            filtered = FilteredChain(connection, inner, stats, shared.access_logs, config.idle_timeout())
            factory = FilteredChainFactory(runtime, filtered)
        return Chain(
            chain_name(config, index),
            conditions,
            factory,
            contexts,
            speaks_http=speaks_http,
            speaks_first=acting.tcp is not None or (acting.proxy is None and bool(connection.all)),
            reads_hello=acting.tcp is not None and any(route.server_names for route in acting.tcp.routes),
        )

    def _options(self, name: str, config: ListenerConfig, proxy: ProxyConfig, shared: _Shared, index: int) -> ProxyOptions:
        http1 = _rules(proxy, "Http1")
        protocols = self._protocols(proxy, shared.path)
        speaks_http2 = any(protocol.spec.name == "Http2" for protocol in protocols)
        return ProxyOptions(
            listener_name=name,
            protocols=protocols,
            protocol_options=self._protocol_options(protocols, config, proxy, shared.path),
            slot=self.slots.get(proxy.router_config_name) or TableSlot(proxy.router_config_name),
            filters=shared.proxies[index] or shared.filters,
            stats=shared.stats,
            access_logs=self._chain_logs(config, index, proxy.access_logs, shared),
            forwarding=http1.forwarding,
            reason_header=http1.reason_header,
            stream_idle_timeout=http1.stream_idle_timeout,
            tunnel_idle_timeout=http1.tunnel_idle_timeout,
            idle_timeout=_idle_timeout(config, proxy),
            detection_timeout=proxy.detection_timeout,
            paths=http1.paths,
            rules={"Http2": _rules(proxy, "Http2")} if speaks_http2 else None,
            longest_exchange=proxy.max_stream_duration,
            empty_failures=proxy.local_reply_body == "none",
            local_replies=local_replies(proxy.local_replies, self.runtime.clock, config),
            envoy_statuses=http1.envoy_statuses,
            offers=alpn_offers(proxy.upstream_alpn),
        )

    def _protocol_options(
        self, protocols: list[StreamProtocol], config: ListenerConfig, proxy: ProxyConfig, path: str
    ) -> dict[str, object]:
        """The options of each protocol, by its name."""
        facts = ListenerFacts(idle_timeout=_idle_timeout(config, proxy), overload=self.runtime.overload)
        options: dict[str, object] = {}
        for protocol in protocols:
            name = protocol.spec.name
            try:
                options[name] = protocol.options(proxy.extend_config.of(name), facts)
            except BaseException as error:  # of an installed protocol
                text = reason(error) if is_a(error, ValueError) else describe(error)
                self.faults.append(error_at(path, f"settings of protocol {name!r}: {text}"))
        return options

    def _protocols(self, proxy: ProxyConfig, path: str) -> list[StreamProtocol]:
        """The protocols to try, in order. `Auto` means all built-in ones, in the order of the registry."""
        known = self.runtime.protocols
        spoken: list[StreamProtocol] = []
        names = proxy.protocols()
        for name in [built.spec.name for built in built_protocols()] if names == ["Auto"] else names:
            protocol = known.get(name)
            if protocol is None and not self.runs_code:
                continue
            if protocol is None:
                try:
                    protocol = load_protocol(name)
                except ProtocolLoadError as error:
                    self.faults.append(error_at(path, str(error)))
                    continue
                known.add(name, protocol)
            spoken.append(protocol)
        return spoken

    def _access_logs(self, config: ListenerConfig, entries: list[AccessLogConfig], path: str) -> list[AccessLog]:
        """The access logs at `path` of the configuration."""
        made: list[AccessLog] = []
        for i, entry in enumerate(entries):
            log_path = entry.log_path or config.default_access_log(self.base_dir)
            try:
                destination = self.logs.access_destination(log_path, self.loop.call_soon, self.new_logs)
                line = compiled_log(entry).bind(self.runtime.clock, config.known_name(), config.type)
                made.append(AccessLogFile(destination, line, log_condition(entry.filter), entry.name, entry.disabled))
            except (OSError, ValueError) as error:
                self.faults.append(error_at(f"{path}[{i}]", str(error)))
        return made

    def _chain_logs(
        self, config: ListenerConfig, index: int, own: list[AccessLogConfig] | None, shared: _Shared
    ) -> list[AccessLog]:
        """The access logs of a filter of a chain: its own, or those of the listener."""
        if own is None:
            return shared.access_logs
        return self._access_logs(config, own, f"{shared.path}.filter_chains[{index}].filters.access_logs")


def _idle_timeout(config: ListenerConfig, proxy: ProxyConfig) -> float:
    own = proxy.connection_idle_timeout
    return config.idle_timeout() if own is None else own


def _rules(proxy: ProxyConfig, protocol: str) -> HttpRules:
    """The rules of a version of HTTP. RPC protocols have those of HTTP/1."""
    settings = proxy.extend_config.of(protocol)
    return HttpRules(
        forwarding=forwarding_options(settings),
        reason_header=flag(settings, "reason_header"),
        stream_idle_timeout=seconds(settings, "stream_idle_timeout") or NO_TIMEOUT,
        tunnel_idle_timeout=seconds(settings, "tunnel_idle_timeout"),
        paths=path_policy(settings),
        envoy_statuses=flag(settings, "envoy_statuses"),
    )


def original_dst(config: ListenerConfig) -> OriginalDst | None:
    """How the listener finds the original destination of redirected clients; None if it does not.

    `use_original_dst` enables this, and the `original_dst` filter, if present, selects the method, as in MOSN.
    """
    if config.use_original_dst not in ("redirect", "tproxy"):
        return None
    default = {"type": config.use_original_dst}
    method = next((entry.config for entry in config.listener_filters if entry.type == "original_dst"), default)
    return OriginalDst(method.get("type") == "tproxy", bool(method.get("fallback_to_local")), config.hand_over)


def _socket(listener: ListenerConfig) -> tuple[str, str, bool, bool]:
    """What a listener cannot change without another socket."""
    return listener.network.lower() or "tcp", listener.address, listener.bind_port, listener.use_original_dst == "tproxy"
