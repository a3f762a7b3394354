"""The whole file."""

from typing import Annotated, Any, Literal

import msgspec

from pymosn.config.schema import absent
from pymosn.config.schema.cluster import ClusterManager
from pymosn.config.schema.extensions import Extend, ThirdPartCodecs, WasmPlugin
from pymosn.config.schema.observability import Metrics, Tracing
from pymosn.config.schema.server import Server
from pymosn.filters.settings import Block, Port, Positive, Unsigned, ignored, own, planned, planned_checked, works


class SocketAddress(Block, kw_only=True):
    address: Annotated[str, works("default: 127.0.0.1")] = ""
    port_value: Port = 0


class Address(Block, kw_only=True):
    """Envoy's wrapper around a socket address."""

    socket_address: SocketAddress = msgspec.field(default_factory=SocketAddress)


class Admin(Block, kw_only=True):
    """The admin API; without a port number only its unix socket exists. Relative paths belong to the file's directory."""

    address: Address = msgspec.field(default_factory=Address)
    socket: Annotated[str, own("unix socket for changes; default: `<base>/<name of the file>.admin.sock`")] = ""
    token_file: Annotated[str, own("file with the token for changes over TCP, mode 0600; read at each use")] = ""
    allow_changes_without_token: Annotated[bool, own("changes over TCP by anybody who reaches the port; loopback only")] = (
        False
    )
    allow_drain_without_token: Annotated[
        bool,
        own("drain_listeners, healthcheck, quitquitquit over TCP without a token, as Istio's agent does; loopback only"),
    ] = False
    allowed_hosts: Annotated[list[str], own("names that `Host` may have, besides IP addresses and localhost")] = []
    allowed_folders: Annotated[
        list[str],
        own("folders for files that changes through the API may name, besides the configuration's and `<base>/logs`"),
    ] = []

    def endpoint(self) -> tuple[str, int] | None:
        """Host and port to listen on; None without a port. An empty host means loopback."""
        socket = self.address.socket_address
        return (socket.address or "127.0.0.1", socket.port_value) if socket.port_value else None


class Pprof(Block, kw_only=True):
    """The profiling port, with the paths and the format of Go's; docs/profiling.md."""

    debug: Annotated[bool, works("opens the port")] = False
    port_value: Annotated[Port, works("0 means 9090")] = 0
    endpoint: Annotated[str, works("address; default: 127.0.0.1, MOSN's 0.0.0.0; off loopback calls need the token")] = ""

    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None if the port is not opened."""
        return (self.endpoint or "127.0.0.1", self.port_value or 9090) if self.debug else None


class Plugin(Block, kw_only=True):
    """Sub-process plugins."""

    log_base: str = ""


class MosnConfig(Block, kw_only=True):
    """A configuration file of MOSN. By the keys for xDS it is in one of three modes:

    file (no xDS), mixed (xDS adds to the file), or dynamic (xDS only; the file has no servers).
    """

    servers: Annotated[list[Server], works("exactly one, as in MOSN")] = []
    cluster_manager: ClusterManager = msgspec.field(default_factory=ClusterManager)
    admin: Admin | None = None
    pid: Annotated[str, works("pid file; default `<base>/logs/mosn.pid`")] = ""
    user: Annotated[str, own("user to run as, by name or number, after the sockets are bound as root")] = ""
    group: Annotated[str, own("group to run as; default: the group of `user`")] = ""
    umask: Annotated[str, own('of the process, octal, such as "0027"; default: the inherited one')] = ""
    dynamic_resources: Annotated[Any, works("Envoy's, with ads_config over gRPC; docs/xds.md")] = None
    static_resources: Annotated[Any, works("Envoy's: clusters, also of control planes, and listeners")] = None
    node: Annotated[Any, works("Envoy's: id, cluster, metadata, locality")] = None
    layered_runtime: Annotated[Any, ignored("Envoy's runtime; MOSN does not use it either")] = None
    xds_cache: Annotated[
        str,
        own(
            "folder for the last good resources of xDS, from which a start without a control plane serves; "
            "default `<base>/logs/xds_cache`, `off` for none"
        ),
    ] = ""
    xds_max_message_bytes: Annotated[
        Positive, own("largest response of a control plane; a larger one ends the stream, and what is active stays")
    ] = 256 * 1024 * 1024
    xds_removal_guard: Annotated[
        Unsigned,
        own("a reconnect that removes all clusters, or all listeners, has to wait if they are so many; 0: never"),
    ] = 10
    pprof: Annotated[Pprof | None, works("profiles of CPU and memory for `go tool pprof`; docs/profiling.md")] = None
    tracing: Annotated[Tracing | None, works("docs/tracing.md")] = None
    metrics: Annotated[Metrics | None, works("docs/metrics.md")] = None
    uds_dir: Annotated[str, works("folder of the sockets of a MOSN that a start replaces; docs/upgrade.md")] = ""
    disable_upgrade: Annotated[bool, works("upgrades are refused")] = False
    close_graceful: Annotated[bool, works("old name of disable_upgrade")] = False
    inherit_old_mosnconfig: Annotated[
        bool,
        works("upgrades, also of MOSN, keep the active configuration instead of reading the file, as --keep-config"),
    ] = False
    sighup: Annotated[
        Literal["reload", "upgrade"], own("what SIGHUP does; `upgrade`: as in MOSN, another process takes over")
    ] = "reload"
    plugin: Annotated[Plugin | None, planned(absent.PROCESS_PLUGINS)] = None
    third_part_codec: Annotated[ThirdPartCodecs | None, planned_checked(absent.EXTERNAL_CODECS)] = None
    wasm_global_plugins: Annotated[list[WasmPlugin], planned(absent.WASM_PLUGINS)] = []
    extends: Annotated[list[Extend], works(absent.EXTENDS)] = []
    stream_filters: Annotated[list[Any], ignored("used by MOSN-on-Envoy only")] = []

    def uses_xds(self) -> bool:
        """Whether it is in mixed or dynamic mode."""
        return self.dynamic_resources is not None and self.static_resources is not None

    def uses_sds(self) -> bool:
        """Whether a TLS context of the file has its secrets from SDS."""
        contexts = [self.cluster_manager.tls_context, *(cluster.tls_context for cluster in self.cluster_manager.clusters)]
        contexts += [
            context
            for server in self.servers
            for listener in server.listeners
            for chain in listener.filter_chains
            for _, context in chain.keyed_contexts()
        ]
        return any(context is not None and context.status and context.sds_source is not None for context in contexts)
