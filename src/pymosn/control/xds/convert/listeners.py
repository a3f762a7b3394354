"""Listeners of xDS -> `Listener`, with the router tables in them, and what they wait for."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from google.protobuf.message import Message

from pymosn.config.schema import FilterChain, Listener, RouterConfiguration, TlsContext
from pymosn.config.schema.network_filters import (
    NetworkFilter,
)
from pymosn.config.schema.server import ChainMatch, ListenerFilter, ProxyProtocol
from pymosn.control.xds.convert.access_logs import read_access_logs
from pymosn.control.xds.convert.extensions import FilterSlot
from pymosn.control.xds.convert.istio import STATS, add_stats, read_stats, set_reporters
from pymosn.control.xds.convert.managers import (
    MANAGER,
    TCP_PROXY,
    Manager,
    Routes,
    RoutesConverter,
    read_manager,
    read_tcp_proxy,
)
from pymosn.control.xds.convert.network_filters import convert_network_filter
from pymosn.control.xds.convert.ports import disabled_ports
from pymosn.control.xds.convert.routes import convert_routes
from pymosn.control.xds.convert.sources import Source
from pymosn.control.xds.convert.tls import downstream_tls
from pymosn.control.xds.convert.values import cidr
from pymosn.control.xds.convert.view import View
from pymosn.core.addresses import UNIX, write_address
from pymosn.filters.istio.settings import StatsSettings
from pymosn.network.filter_chains import SILENCE_TIME

_LISTENER: Final = "envoy.extensions.filters.listener."
_DOWNSTREAM: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_RAW: Final = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
_SOURCE_TYPES: Final = {"ANY": "", "SAME_IP_OR_LOOPBACK": "local", "EXTERNAL": "external"}
_DIRECTIONS: Final = {"INBOUND": "ingress", "OUTBOUND": "egress"}


class ConvertedListener(NamedTuple):
    """A listener. `others`: for additional addresses. `tables`: inline router tables. `routes`: tables that it waits for.

    `secrets`: the names of secrets in its TLS contexts (`sds_source`). `slots`: of filters that are resources of their own.
    """

    listener: Listener
    others: tuple[Listener, ...] = ()
    tables: tuple[RouterConfiguration, ...] = ()
    routes: tuple[tuple[str, Source], ...] = ()
    secrets: tuple[str, ...] = ()
    slots: tuple[FilterSlot, ...] = ()


def convert_listener(view: View, convert_routes: RoutesConverter = convert_routes) -> ConvertedListener:
    """A `Listener`. `convert_routes`: makes the tables of inline RouteConfigurations."""
    with view:
        # Plain text beside mutual TLS (PERMISSIVE) is intended in a mesh: chains decide, not the names of hosts.
        listener = Listener(bind_port=True, refuse_misdirected_plain=False)
        address = view.inner("address")
        if address is None:
            view.fault("address", "missing")
        else:
            _read_address(address, listener)
        listener.name = view.value("name") or listener.address
        more = [_additional(item) for item in view.items("additional_addresses")]
        _read_binding(view, listener)
        listener.access_logs = read_access_logs(view)
        listener.type = _DIRECTIONS.get(view.enum("traffic_direction"), "")
        _refuse(view)
        _read_listener_filters(view, listener)
        routes = Routes([], {}, convert_routes, [])
        view.refuse("udp_listener_config", "UDP listeners are not supported by xDS yet")
        listener.filter_chains = _read_chains(view, listener, routes)
        set_reporters(listener)
        contexts = [context for chain in listener.filter_chains for context in chain.tls_contexts()]
        # 0 is no limit; but a client whose server speaks first is not kept waiting for ever.
        listener.inspection_timeout = view.seconds("listener_filters_timeout") or SILENCE_TIME
        listener.on_undecided = "continue" if view.value("continue_on_listener_filters_timeout") else "close"
        others = tuple(
            msgspec.structs.replace(listener, name=f"{listener.name}@{text}", address=text, network=network)
            for text, network in more
            if text
        )
        waits = tuple(routes.waits.items())
        return ConvertedListener(
            listener, others, tuple(routes.tables), waits, tuple(_secrets(contexts)), tuple(routes.slots)
        )


def _secrets(contexts: list[TlsContext]) -> dict[str, None]:
    names: dict[str, None] = {}
    for context in contexts:
        source = context.sds_source
        for secret in () if source is None else (source.CertificateConfig, source.ValidationConfig):
            if secret is not None:
                names[secret.name] = None
    return names


def _read_address(view: View, listener: Listener) -> None:
    with view:
        pipe, socket = view.inner("pipe"), view.inner("socket_address")
        if pipe is not None:
            with pipe:
                listener.network, listener.address = "unix", pipe.value("path").removeprefix(UNIX)
                mode = pipe.value("mode")
                listener.mode = f"{mode:04o}" if mode else ""
                if listener.address.startswith("@"):
                    pipe.fault("path", "abstract sockets are not supported")
            return
        if socket is None:
            view.refuse("envoy_internal_address", "internal listeners are not supported")
            if not view.has("envoy_internal_address"):
                view.fault("", "expected socket_address or pipe")
            return
        with socket:
            if socket.enum("protocol") == "UDP":
                socket.fault("protocol", "UDP listeners are not supported by xDS yet")
            for name in ("named_port", "resolver_name", "network_namespace_filepath"):
                socket.refuse(name, "not supported")
            host, port = socket.value("address"), socket.value("port_value")
            if not 0 < port <= 65535:
                socket.fault("port_value", f"expected a port from 1 to 65535, got {port}")
            if socket.value("ipv4_compat"):
                socket.warn("ipv4_compat", "add an IPv4 address instead")
            listener.address = write_address(host, port)


def _additional(view: View) -> tuple[str, str]:
    found = Listener()
    with view:
        view.refuse("socket_options", "not supported")
        address = view.inner("address")
        if address is not None:
            _read_address(address, found)
    return found.address, found.network


def _read_binding(view: View, listener: Listener) -> None:
    deprecated = view.inner("deprecated_v1")
    binds = view.wrapped("bind_to_port")
    if deprecated is not None:
        with deprecated:
            old = deprecated.wrapped("bind_to_port")
        binds = old if binds is None else binds
    listener.bind_port = binds is not False
    transparent, uses_original = view.wrapped("transparent"), view.wrapped("use_original_dst")
    if transparent:
        listener.use_original_dst = "tproxy"
    elif uses_original:
        listener.use_original_dst = "redirect"


def _refuse(view: View) -> None:
    for name in ("filter_chain_matcher", "fcds_config", "api_listener", "internal_listener", "enable_mptcp"):
        view.refuse(name, "not supported")
    view.refuse("freebind", "not supported")
    for item in view.items("socket_options"):
        item.fault("", "socket options are not supported")


def _read_listener_filters(view: View, listener: Listener) -> None:
    for item in view.items("listener_filters"):
        with item:
            item.value("name")
            item.refuse("config_discovery", "not supported")
            predicate = item.inner("filter_disabled")
            ports = "" if predicate is None else disabled_ports(predicate)
            config = item.typed("typed_config")
            if config is None:
                if not item.has("typed_config") and not item.has("config_discovery"):
                    item.fault("typed_config", "missing")
                continue
            with config:
                kind = config.type_name.removeprefix(_LISTENER)
                if kind == "tls_inspector.v3.TlsInspector":
                    listener.tls_uninspected_ports = ports
                elif kind == "http_inspector.v3.HttpInspector":
                    listener.http_inspector, listener.http_uninspected_ports = True, ports
                elif kind == "original_dst.v3.OriginalDst":
                    # The filter only restores the address; `use_original_dst` of the listener also hands over.
                    listener.hand_over = bool(listener.use_original_dst)
                    listener.use_original_dst = listener.use_original_dst or "redirect"
                    listener.listener_filters = [
                        ListenerFilter(type="original_dst", config={"type": listener.use_original_dst})
                    ]
                elif kind == "proxy_protocol.v3.ProxyProtocol":
                    _read_proxy_protocol(config, listener)
                else:
                    config.fault("", f"{config.type_name} is not supported")
            if ports and "inspector" not in kind:
                item.fault("filter_disabled", "only supported for tls_inspector and http_inspector")


def _read_proxy_protocol(view: View, listener: Listener) -> None:
    """Envoy believes the header of every client."""
    for name in ("rules", "pass_through_tlvs", "disallowed_versions"):
        view.refuse(name, "not supported")
    view.value("tlv_location")
    listener.proxy_protocol = ProxyProtocol(
        trusted_prefixes=["0.0.0.0/0", "::/0"],
        is_required=not view.value("allow_requests_without_proxy_protocol"),
    )


def _read_chains(view: View, listener: Listener, routes: Routes) -> list[FilterChain]:
    items = view.items("filter_chains")
    names = _names_of(items)
    chains = [_chain(item, name, listener.name, routes, i) for i, (item, name) in enumerate(zip(items, names, strict=True))]
    default = view.inner("default_filter_chain")
    if default is not None:
        chain = _chain(default, str(default.message.name) or "default", listener.name, routes, len(chains))
        if chain.match:
            view.fault("default_filter_chain.filter_chain_match", "the default chain has no conditions")
        chain.match, chain.is_default = "", True
        chains.append(chain)
    if not chains:
        view.fault("filter_chains", "missing: a listener needs a filter chain")
    return chains


def _names_of(chains: list[View]) -> list[str]:
    """The names of chains, each with a digest of its conditions if another one has the same, as Istio's may.

    Open connections and tables belong to a chain by its name, so that it must not depend on the chain's position.
    """
    plain = [str(view.message.name) for view in chains]
    return [
        name if name and plain.count(name) == 1 else f"{name}#{_digest(view.message.filter_chain_match)}"
        for name, view in zip(plain, chains, strict=True)
    ]


def _digest(message: Message) -> str:
    return sha256(message.SerializeToString(deterministic=True)).hexdigest()[:8]


def _chain(view: View, name: str, listener: str, routes: Routes, index: int) -> FilterChain:
    """`name`: unique in the listener. `index`: among the chains."""
    with view:
        view.value("name")
        chain = FilterChain(name=name)
        match = view.inner("filter_chain_match")
        if match is not None:
            found = _match(match)
            chain.match = found if found != ChainMatch() else ""
        view.refuse("use_proxy_proto", "deprecated; use the proxy_protocol listener filter")
        view.seconds("transport_socket_connect_timeout")  # `tls_handshake_timeout` has its default
        _read_transport(view, chain)
        stats: list[tuple[View, StatsSettings]] = []
        for i, item in enumerate(view.items("filters")):
            made = _network_filter(item, f"{listener}/{name}/{i}", routes)
            if isinstance(made, StatsSettings):
                stats.append((item, made))
                continue
            if isinstance(made, Manager):
                position = len(chain.filters)
                routes.slots.extend(FilterSlot(index, position, key, one) for key, one in made.discoveries.items())
                made = made.filter
            if made is not None:
                chain.filters.append(made)
        add_stats(chain.filters, stats)
        if not chain.filters and not view.report.faults:
            view.warn("filters", "no filters: connections are closed immediately")
    return chain


def _network_filter(view: View, name: str, routes: Routes) -> NetworkFilter | StatsSettings | Manager | None:
    with view:
        view.value("name")
        view.refuse("config_discovery", "filters by ECDS are not supported")
        config = view.typed("typed_config")
        if config is None:
            if not view.has("typed_config") and not view.has("config_discovery"):
                view.fault("typed_config", "missing")
            return None
        if config.type_name == MANAGER:
            return read_manager(config, name, routes)
        if config.type_name == STATS:
            return read_stats(config)
        return read_tcp_proxy(config) if config.type_name == TCP_PROXY else convert_network_filter(config)


def _read_transport(view: View, chain: FilterChain) -> None:
    socket = view.inner("transport_socket")
    if socket is None:
        return
    with socket:
        socket.value("name")
        config = socket.typed("typed_config")
        if config is None:
            if not socket.has("typed_config"):
                socket.fault("typed_config", "missing")
            return
        if config.type_name == _RAW:
            config.close()
        elif config.type_name == _DOWNSTREAM:
            contexts = downstream_tls(config)
            if len(contexts) == 1:
                chain.tls_context = contexts[0]
            else:
                chain.tls_context_set = contexts
        else:
            config.fault("", f"{config.type_name} is not supported")


def _match(view: View) -> ChainMatch:
    with view:
        for name in ("address_suffix", "suffix_len"):
            view.refuse(name, "not supported")
        return ChainMatch(
            destination_port=view.wrapped("destination_port") or 0,
            destination_prefixes=[cidr(item) for item in view.items("prefix_ranges")],
            direct_source_prefixes=[cidr(item) for item in view.items("direct_source_prefix_ranges")],
            source_type=_SOURCE_TYPES.get(view.enum("source_type"), ""),  # type: ignore[arg-type]
            source_prefixes=[cidr(item) for item in view.items("source_prefix_ranges")],
            source_ports=view.values("source_ports"),
            server_names=view.values("server_names"),
            transport_protocol=_transport(view),  # type: ignore[arg-type]
            application_protocols=view.values("application_protocols"),
        )


def _transport(view: View) -> str:
    text: str = view.value("transport_protocol")
    if text not in ("", "tls", "raw_buffer"):
        view.fault("transport_protocol", f"{text!r} is not supported; expected tls or raw_buffer")
        return ""
    return text
