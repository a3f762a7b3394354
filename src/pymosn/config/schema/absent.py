"""What MOSN has and pymosn has not, by its name in a configuration: why, and what to use instead.

A filter among these is an error, because traffic must not pass without it; all others are warnings. docs/compatibility.md
has the same sentences.
"""

from typing import Final

_PYTHON: Final = "write the filter in Python instead (a `python` stream filter, docs/filters.md)"

#: Stream filters.
STREAM_FILTERS: Final[dict[str, str]] = {
    "dsl": (
        "MOSN's expressions are not run by a filter: use `match.dsl_expressions` and `match.headers` of routes with their "
        "rewrites and header changes, or write the filter in Python (a `python` stream filter, docs/filters.md)"
    ),
    "seata": (
        "Seata's transactions are not built: begin and end them in the application, or in a `python` stream filter "
        "(docs/filters.md)"
    ),
    "proxywasm": f"WebAssembly is not run: {_PYTHON}",
    "mixer": "Istio has removed Mixer: use the stream filter `istio.stats` (docs/xds-istio.md)",
}

#: Of a filter with `go_plugin_config`.
GO_FILTER: Final = f"a Go shared object cannot be loaded: {_PYTHON}"

#: Of a filter that is not known, which may be compiled into a MOSN.
GO_FILTERS: Final = "filters that are compiled into MOSN are written in Python here (docs/filters.md)"

#: Network filters. `grpc` is not among them: it will not be built.
NETWORK_FILTERS: Final[dict[str, str]] = {
    "tunnel": (
        "reverse tunnels are not built: let clients reach the other side directly, with `tcp_proxy` or `proxy` to a cluster "
        "of its address, and TLS with `verify_client` in its listener"
    ),
    "fault_inject": (
        "not part of MOSN's own program either: use the stream filter `fault`, or a `python` network filter "
        "(docs/network-filters.md)"
    ),
}

#: The types of `extends`.
EXTENSIONS: Final[dict[str, str]] = {
    "tunnel_agent": (
        "reverse tunnels are not built: let the other side reach this listener directly, with `verify_client` in its TLS "
        "context"
    ),
    "dubbo_registry": (
        "there is no registry of Dubbo: get hosts by xDS (docs/xds.md), from DNS (STRICT_DNS), or by POST "
        "/api/v1/update_hosts"
    ),
    "holmes": "Go's profiles do not exist here: use py-spy or perf, and the counters of /api/v1/stats and /metrics",
    "transcoder_plugin": (
        "Go shared objects cannot be loaded: write the transcoder in Python (the stream filter `transcoder`, "
        "docs/protocols.md)"
    ),
}

#: The drivers of `tracing`.
TRACE_DRIVERS: Final[dict[str, str]] = {
    "PluginDriver": (
        "a Go shared object cannot be loaded, so nothing is recorded: use another driver, such as `otel` (docs/tracing.md)"
    ),
}

#: `third_part_codec`: the types of codecs.
CODECS: Final[dict[str, str]] = {
    "go-plugin": (
        "a Go shared object cannot be loaded: write the protocol in Python, as an installed package (docs/protocols.md)"
    ),
    "wasm": "WebAssembly is not run: write the protocol in Python, as an installed package (docs/protocols.md)",
}

WASM_PLUGINS: Final = f"WebAssembly is not run: {_PYTHON}"
PROCESS_PLUGINS: Final = f"plugins in processes of their own are not started: {_PYTHON}"
REGISTRY: Final = "there is no registry of Dubbo: get hosts by xDS (docs/xds.md), from DNS, or by POST /api/v1/update_hosts"
EXTENDS: Final = "of the type `python`, which is pymosn's own; MOSN's are compiled into it: each is a warning"
EXTERNAL_CODECS: Final = "each is a warning that names what to use instead"
