"""`servers[]`: the process log, the listeners and the router tables."""

import os
from typing import Annotated, Final, Literal

import msgspec

from pymosn.config.schema.connections import TcpKeepalive
from pymosn.config.schema.http_chain import AccessLog, StreamFilter
from pymosn.config.schema.local_replies import LocalReplies
from pymosn.config.schema.network_filters import (
    ActingFilters,
    ConnectionManagerFilter,
    NetworkFilter,
    ProxyFilter,
    PythonConfig,
    PythonFilter,
    StreamProxyConfig,
    TcpProxyFilter,
    UdpProxyFilter,
    may_follow,
)
from pymosn.config.schema.router import RouterConfiguration
from pymosn.config.schema.tls import TlsContext
from pymosn.filters.settings import AnyMap, Block, Duration, DurationOrDefault, Port, Unsigned, ignored, negative, own, works

MemoryLimit = Annotated[int, msgspec.Meta(ge=-1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
KeptExchanges = Annotated[int, msgspec.Meta(ge=0, le=1000)]
#: A larger number is probably a typo, and every worker is a process.
MOST_WORKERS: Final = 1024
#: Default seconds of `connection_idle_timeout`: of connections, and of sessions of UDP.
TCP_IDLE: Final = 90.0
UDP_IDLE: Final = 5.0


class ListenerFilter(Block, kw_only=True):
    """A filter on connections, before any data."""

    type: str = ""
    config: AnyMap = {}


class ChainMatch(Block, kw_only=True):
    """The connections that a filter chain gets; all given conditions must match (Envoy's FilterChainMatch)."""

    server_names: Annotated[
        list[str], own("names that the client sends (SNI); `*.example.com` matches every subdomain")
    ] = []
    application_protocols: Annotated[
        list[str],
        own("one that the client offers by ALPN; of plain text, with `http_inspector`: http/1.0, http/1.1 or h2c"),
    ] = []
    transport_protocol: Annotated[Literal["", "tls", "raw_buffer"], own("`raw_buffer` is plain text")] = ""
    destination_port: Annotated[Port, own("the port that the client connected to, before any redirect; 0: any")] = 0
    source_prefixes: Annotated[list[str], own("networks of clients, such as `10.0.0.0/8`")] = []
    source_type: Annotated[
        Literal["", "local", "external"], own("`local`: clients on this machine, `external`: all others")
    ] = ""
    source_ports: Annotated[list[Port], own("ports of clients")] = []
    direct_source_prefixes: Annotated[list[str], own("like source_prefixes; not with proxy_protocol")] = []
    destination_prefixes: Annotated[
        list[str], own("networks of the address that the client connected to, before any redirect")
    ] = []


class FilterChain(Block, kw_only=True):
    """The network filters of a listener, in order, for the connections that `match` selects."""

    name: Annotated[str, own("for logs and errors")] = ""
    match: Annotated[str | ChainMatch, own("conditions; a text is ignored, as in MOSN")] = ""
    is_default: Annotated[bool, own("gets the connections that no other chain matches; it has no `match`")] = False
    tls_context: Annotated[TlsContext | None, works("see the table of TLS contexts")] = None
    tls_context_set: Annotated[list[TlsContext], works("by server name, then ALPN, then the first, as in MOSN")] = []
    filters: list[NetworkFilter] = []

    def conditions(self) -> ChainMatch:
        """The conditions of `match`, none if it is a text."""
        return self.match if isinstance(self.match, ChainMatch) else ChainMatch()

    def tls_contexts(self) -> list[TlsContext]:
        """The enabled TLS contexts; empty if TLS is not terminated."""
        return [context for _, context in self.keyed_contexts() if context.status]

    def keyed_contexts(self) -> list[tuple[str, TlsContext]]:
        """All TLS contexts, each with its key below the chain."""
        single = [] if self.tls_context is None else [("tls_context", self.tls_context)]
        return single + [(f"tls_context_set[{i}]", context) for i, context in enumerate(self.tls_context_set)]

    def acting_filters(self) -> ActingFilters:
        """Its network filters that have an effect."""
        acting: list[ProxyFilter | TcpProxyFilter] = []
        for filter in self.filters:
            if isinstance(filter, ProxyFilter | TcpProxyFilter) and (not acting or may_follow(acting, filter)):
                acting.append(filter)
        proxy = next((filter.config for filter in acting if isinstance(filter, ProxyFilter)), None)
        return ActingFilters(proxy, next((filter.config for filter in acting if isinstance(filter, TcpProxyFilter)), None))

    def connection_filters(self) -> list[tuple[int, PythonConfig]]:
        """The filters in Python, with their indexes. Those after a filter that takes all bytes have no effect."""
        found: list[tuple[int, PythonConfig]] = []
        for i, filter in enumerate(self.filters):
            if isinstance(filter, ProxyFilter | TcpProxyFilter):
                break
            if isinstance(filter, PythonFilter):
                found.append((i, filter.config))
        return found


class ProxyProtocol(Block, kw_only=True):
    """The PROXY protocol of a listener's clients."""

    trusted_prefixes: Annotated[
        list[str], own("networks of the load balancers whose header is believed; must not be empty")
    ] = []
    is_required: Annotated[
        bool, own("reset connections of trusted clients without a header; false: they are served under their own address")
    ] = True
    timeout: Annotated[Duration, own("time for the header to arrive")] = 5.0


class Listener(Block, kw_only=True):
    """An address to listen on, and the handling of its connections."""

    name: Annotated[str, works("default: the address")] = ""
    type: Annotated[str, works("ingress or egress; informational")] = ""
    address: Annotated[str, works("`ip:port` or `[ip6]:port`; with `network` unix a path")] = ""
    bind_port: Annotated[
        bool, works("false: no socket; listeners with `use_original_dst` may hand over connections to it")
    ] = False
    mode: Annotated[str, own('of a unix socket\'s file, octal, such as "0660"; default: as the umask gives')] = ""
    user: Annotated[str, own("owner of a unix socket's file; default: the user of the process")] = ""
    group: Annotated[str, own("group of a unix socket's file; default: the group of `user`, or of the process")] = ""
    network: Annotated[str, works("tcp, udp or unix")] = "tcp"
    reuseport: Annotated[
        bool, ignored("every TCP or UDP listener has one SO_REUSEPORT socket per worker; a unix one is shared by all")
    ] = False
    use_original_dst: Annotated[str, works("redirect or tproxy, IPv4 and IPv6; see docs/operations.md")] = ""
    hand_over: Annotated[
        bool, own("give redirected connections to the listener of their destination; false: only note the destination")
    ] = True
    inspector: Annotated[bool, works("TLS and plain text on one port")] = False
    refuse_misdirected: Annotated[
        bool, own("421 for hosts with other demands on client certificates, see docs/filter-chains.md; false: as in Envoy")
    ] = True
    refuse_misdirected_plain: Annotated[
        bool, own("the same for plain text; false: its chain alone decides, as in a mesh that accepts plain text too")
    ] = True
    http_inspector: Annotated[
        bool, own("find out the protocol of plain text, for `application_protocols` of filter chains")
    ] = False
    tls_uninspected_ports: Annotated[
        str, own("original destination ports on which TLS is not looked for, such as `80,8000-8010`")
    ] = ""
    http_uninspected_ports: Annotated[str, own("the same for HTTP and `http_inspector`")] = ""
    tls_handshake_timeout: Annotated[Duration, own("from accepting a connection to the end of its handshake; 0: none")] = (
        10.0
    )
    inspection_timeout: Annotated[
        Duration, own("time for the first bytes that filter chains depend on; 0: `tls_handshake_timeout`, 15 s for silence")
    ] = 0.0
    on_undecided: Annotated[
        Literal["", "continue", "close"],
        own("then `continue` as plain text of no known protocol, or `close`; empty: continue after silence only"),
    ] = ""
    proxy_protocol: Annotated[ProxyProtocol | None, own("read the PROXY protocol, version 1 and 2")] = None
    connection_idle_timeout: Annotated[
        Annotated[Duration, negative("never, as in MOSN")] | None,
        works("exact, not MOSN's 15 s steps; 0 means never; default 90 s, for sessions of udp 5 s"),
    ] = None
    tcp_keepalive: Annotated[TcpKeepalive | None, own("probes on silent connections; default: none")] = None
    max_connections: Annotated[
        Unsigned, own("of all workers together; further ones are reset immediately; 0 means no limit")
    ] = 0
    write_timeout: Annotated[Duration, own("time limit for a client to read some of the pending data; 0 means none")] = 60.0
    write_min_rate: Annotated[Unsigned, own("bytes per second that it must read, on average over `write_timeout`")] = 100
    default_read_buffer_size: Annotated[int, ignored("tuning of Go's read buffers")] = 0
    access_logs: list[AccessLog] = []
    listener_filters: Annotated[list[ListenerFilter], works("see the table of listener filters")] = []
    filter_chains: Annotated[list[FilterChain], works("MOSN takes one; several must differ in `match`")] = []
    stream_filters: Annotated[list[StreamFilter], works("see the table of stream filters")] = []
    log_path: Annotated[str, ignored("MOSN does not use it either; see access_logs")] = ""

    def hands_over(self) -> bool:
        """Whether it gives redirected connections to other listeners."""
        return self.hand_over and self.use_original_dst in ("redirect", "tproxy")

    def known_name(self) -> str:
        """The name under which the listener is known."""
        return self.name or self.address

    def log_lists(self) -> list[tuple[str, list[AccessLog]]]:
        """All lists of access logs, with their paths below the listener."""
        found = [("access_logs", self.access_logs)]
        for i, chain in enumerate(self.filter_chains):
            for j, filter in enumerate(chain.filters):
                if isinstance(filter, ProxyFilter | TcpProxyFilter) and filter.config.access_logs is not None:
                    found.append((f"filter_chains[{i}].filters[{j}].config.access_logs", filter.config.access_logs))
        return found

    def local_replies(self) -> list[tuple[str, LocalReplies]]:
        """The forms of local replies, with their paths below the listener."""
        return [
            (f"filter_chains[{i}].filters[{j}].config.local_replies", filter.config.local_replies)
            for i, chain in enumerate(self.filter_chains)
            for j, filter in enumerate(chain.filters)
            if isinstance(filter, ProxyFilter) and filter.config.local_replies is not None
        ]

    def filter_lists(self) -> list[tuple[str, list[StreamFilter]]]:
        """All lists of stream filters, with their paths below the listener."""
        found = [("stream_filters", self.stream_filters)]
        for i, chain in enumerate(self.filter_chains):
            for j, filter in enumerate(chain.filters):
                if isinstance(filter, ProxyFilter) and filter.config.stream_filters is not None:
                    found.append((f"filter_chains[{i}].filters[{j}].config.stream_filters", filter.config.stream_filters))
        return found

    def default_access_log(self, base_dir: str) -> str:
        """The path of an access log that has none."""
        return os.path.join(base_dir, "logs", f"{self.known_name()}_access.log")

    def idle_timeout(self) -> float:
        """Seconds after which an idle connection is closed, or an idle session of UDP ends; 0 for never."""
        if self.connection_idle_timeout is not None:
            return self.connection_idle_timeout
        return UDP_IDLE if self.is_udp() else TCP_IDLE

    def is_udp(self) -> bool:
        """Whether it receives datagrams."""
        return self.network.lower() == "udp"

    def udp_proxy(self) -> StreamProxyConfig | None:
        """The settings of the `udp_proxy` that handles its datagrams."""
        filters = [filter for chain in self.filter_chains for filter in chain.filters] if self.is_udp() else []
        return next((filter.config for filter in filters if isinstance(filter, UdpProxyFilter)), None)

    def acting_filters(self) -> list[ActingFilters]:
        """The network filters of each filter chain that have an effect."""
        return [chain.acting_filters() for chain in self.filter_chains]


class WorkerLimits(Block, kw_only=True):
    """`limits`: limits per worker, for all its listeners (not in MOSN)."""

    max_connections: Annotated[Unsigned, own("client connections; further ones are reset immediately; 0 means no limit")] = 0
    max_head_bytes: Annotated[Unsigned, own("bytes of incomplete request heads; then 503; 0 means no limit")] = 64 << 20
    max_handshakes: Annotated[
        Unsigned, own("TLS handshakes in progress in all workers together; further connections are reset; 0 means no limit")
    ] = 1024
    max_handshakes_per_source: Annotated[
        Unsigned, own("likewise of one /24 (IPv4) or /56 (IPv6) network; 0 means no limit")
    ] = 256
    descriptor_reserve: Annotated[
        Unsigned, own("descriptors reserved for other uses than clients; 0 means a quarter of all")
    ] = 0


class Overload(Block, kw_only=True):
    """`overload`: the reaction of a worker to low memory (not in MOSN). The thresholds are fractions of the limit."""

    memory_limit: Annotated[
        MemoryLimit, own("RSS in bytes of one worker; 0: its share of the cgroup's limit; -1: never")
    ] = 0
    stop_keep_alive: Annotated[Share, own("above it responses have `connection: close`")] = 0.8
    shed: Annotated[Share, own("above it requests get 503 with Retry-After")] = 0.9
    stop_accept: Annotated[Share, own("above it new connections wait in the kernel's backlog")] = 0.95


class RecentExchanges(Block, kw_only=True):
    """`recent_exchanges`: which exchanges each worker keeps for `/api/v1/exchanges` (not in MOSN)."""

    failed: Annotated[KeptExchanges, own("the newest failed exchanges to keep; 0: none")] = 100
    slow: Annotated[KeptExchanges, own("the slowest exchanges to keep; 0: none")] = 50
    window: Annotated[Duration, own("how long slow exchanges are kept")] = 300.0


class Server(Block, kw_only=True):
    """The one server of the process."""

    mosn_server_name: Annotated[str, works("informational")] = ""
    default_log_path: Annotated[str, works("default `<base>/logs/mosn.log`; a file, stdout or stderr")] = ""
    default_log_level: Annotated[str, works("TRACE, DEBUG, INFO, WARN, ERROR or FATAL")] = "INFO"
    global_log_roller: Annotated[str, works("such as `size=100 keep=3` or `time=24`")] = ""
    use_netpoll_mode: Annotated[bool, ignored("pymosn always uses an event loop")] = False
    graceful_timeout: Annotated[
        DurationOrDefault, works("0 means the default, as in MOSN"), negative("nothing is waited for, as in MOSN")
    ] = 30.0
    worker_hang_limit: Annotated[
        Duration, own("a worker that does not respond for this long is replaced; 0 disables this")
    ] = 10.0
    worker_start_limit: Annotated[
        Duration, own("a worker that is not ready this long after its start has failed, and is replaced; 0 disables this")
    ] = 60.0
    watch_filters: Annotated[bool, own("activate an edited file of a Python filter immediately")] = True
    watch_filters_interval: Annotated[
        Duration, own("checks for edits this often, where the file system does not report them (NFS); 0: it reports them")
    ] = 0.0
    watch_certificates: Annotated[
        bool, own("use the new content of certificates, keys, CAs and revocation lists as soon as their files change")
    ] = True
    watch_certificates_interval: Annotated[
        Duration, own("checks for changes this often, where the file system does not report them (NFS); 0: it reports them")
    ] = 0.0
    processor: Annotated[
        int | float | str,
        works("number of workers; `auto` or below 1: the CPUs of the affinity, at most the cgroup's quota"),
    ] = 0
    limits: WorkerLimits = msgspec.field(default_factory=WorkerLimits)
    overload: Overload = msgspec.field(default_factory=Overload)
    listeners: list[Listener] = []
    routers: Annotated[list[RouterConfiguration], works("the last of equal names wins, as in MOSN")] = []
    recent_exchanges: Annotated[RecentExchanges | None, own("exchanges for `/api/v1/exchanges`; docs/tap.md")] = None

    def workers(self, cpus: int) -> int:
        """The number of workers that `processor` requests on a machine with `cpus` available CPUs."""
        return count_of(self.processor) or cpus

    def all_tables(self, path: str) -> list[tuple[str, RouterConfiguration]]:
        """All router tables, including those of `connection_manager` filters, with their paths; `path`: the server's."""
        tables = [(f"{path}.routers[{i}]", table) for i, table in enumerate(self.routers)]
        for i, listener in enumerate(self.listeners):
            for j, chain in enumerate(listener.filter_chains):
                for k, filter in enumerate(chain.filters):
                    if isinstance(filter, ConnectionManagerFilter):
                        tables.append((f"{path}.listeners[{i}].filter_chains[{j}].filters[{k}].config", filter.config))
        return tables

    def router_tables(self) -> dict[str, RouterConfiguration]:
        """All router tables by name; later ones replace earlier ones. One without a name is not used."""
        return {name: table for _, table in self.all_tables("") if (name := table.router_config_name)}


def count_of(value: int | float | str | None) -> int:
    """A number of workers; 0 for values below 1 or not numbers, which MOSN treats as not given."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        return 0  # Python also reads `1_0` and white space
    try:
        return max(0, int(value or 0))
    except (ValueError, OverflowError):
        return 0
