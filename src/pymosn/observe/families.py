"""All metrics of `/metrics`: name, type, unit, labels, HELP text, and the counters they are made of.

This table is the only one: the exposition (`prometheus.py`), docs/metrics.md and the checks of dashboards and alerts read
it. Each event is counted by exactly one sample of a family, so that every sum over a family is right: what MOSN reports both
for a listener and for the whole process is one family here, and clusters and their hosts have families of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

#: What all names begin with.
PREFIX: Final = "pymosn_"
COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
INFO: Final = "info"


class Source(NamedTuple):
    """Counters of groups whose type is `type` (see `type_of`) and whose key matches `key` wholly.

    `labels`: in addition to those of the group; their values are templates of the match. `minus`: the key, a template too,
    of a counter that is subtracted: that of events which another family counts.
    """

    type: str
    key: re.Pattern[str]
    labels: tuple[tuple[str, str], ...] = ()
    minus: str = ""


class Family(NamedTuple):
    """One metric. `name`: as in OpenMetrics, so without `_total`, but with the unit. No `sources`: see `Fact`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    sources: tuple[Source, ...] = ()

    @property
    def unit(self) -> str:
        """`seconds`, `bytes` or nothing."""
        return next((unit for unit in ("seconds", "bytes") if self.name.endswith(f"_{unit}")), "")

    @property
    def shown_name(self) -> str:
        """The name of its samples, or what their names begin with."""
        return self.name + {COUNTER: "_total", INFO: "_info"}.get(self.kind, "")


class Fact(NamedTuple):
    """A sample of a family that is not made of counters."""

    family: str
    labels: tuple[tuple[str, str], ...]
    value: float


#: Types of groups -> the labels that are renamed; those with an empty name are left out.
LABELS: Final[dict[str, dict[str, str]]] = {
    "healthcheck": {"service": "cluster"},
    "worker": {"worker": ""},
    "config": {"config": ""},
    "xds": {"xds": ""},
    "tracing": {"side": ""},
    "mosn_tls": {"tls": ""},
}
#: Types whose label sets are limited, and the labels that are `other` above the limit.
BOUNDED: Final[dict[str, tuple[str, ...]]] = {
    "upstream host": ("host",),
    "route": ("router", "virtual_host", "route"),
    "filter": ("filter",),
    "grpc": ("service",),
    "grpc method": ("service", "method"),
    "mosn": ("service", "method"),
}
OTHER: Final = "other"
#: Types of groups that are in MOSN's formats only, because families made otherwise have the same.
NOT_SHOWN: Final = frozenset(("certificate",))


def type_of(kind: str, labels: dict[str, str]) -> str:
    """The type of a group as in `Source`: hosts and methods have their own, because clusters and services count them too."""
    if kind == "upstream" and "host" in labels:
        return "upstream host"
    if kind == "grpc" and "method" in labels:
        return f"{kind} method"
    return kind


def _source(kind: str, key: str, minus: str = "", **labels: str) -> Source:
    return Source(kind, re.compile(key), tuple(labels.items()), minus)


def _family(name: str, kind: str, text: str, labels: tuple[str, ...], *sources: Source) -> Family:
    return Family(f"{PREFIX}{name}", kind, text, labels, sources)


def _downstream() -> Iterator[Family]:
    of = ("listener",)

    def one(name: str, kind: str, text: str, *keys: str) -> Family:
        return _family(name, kind, text, of, *[_source("downstream", key) for key in keys])

    codes = (_source("downstream", r"request_(\d{3})_total", code=r"\1"), _source("downstream", r"code_(\d+)", code=r"\1"))
    yield _family("requests", COUNTER, "Finished requests, by the status that the client got.", ("listener", "code"), *codes)
    yield one("requests_received", COUNTER, "Requests that have begun.", "request_total")
    yield one("requests_active", GAUGE, "Requests in progress.", "request_active")
    yield one("requests_reset", COUNTER, "Requests that their client has given up.", "request_reset")
    failures = _source("downstream", r"failed_(.+)", reason=r"\1")
    text = "Failed requests, by reason word (docs/operations.md)."
    yield _family("request_failures", COUNTER, text, ("listener", "reason"), failures)
    rejected = _source("downstream", r"reason_(.+)", r"failed_\1", reason=r"\1")
    text = "Connections that were refused or failed without a request, by reason word."
    yield _family("connection_failures", COUNTER, text, ("listener", "reason"), rejected)
    yield one("request_duration_seconds", HISTOGRAM, "From a request's head to the end of its response.", "request_time")
    text = "What the proxy took itself, without the wait for clients and hosts."
    yield one("request_processing_seconds", HISTOGRAM, text, "process_time")
    yield one("connections", COUNTER, "Accepted connections.", "connection_total")
    yield one("connections_closed", COUNTER, "Connections that have ended.", "connection_destroy")
    yield one("connections_active", GAUGE, "Open connections.", "connection_active")
    text = "Connections that were closed at once, because of a limit."
    yield one("connections_refused", COUNTER, text, "connection_refused")
    yield one("received_bytes", COUNTER, "Bytes received from clients.", "bytes_read_total")
    yield one("sent_bytes", COUNTER, "Bytes sent to clients.", "bytes_write_total")
    yield one("tunnels", COUNTER, "Requests that became tunnels (WebSocket, CONNECT).", "tunnel_total")
    yield one("tunnels_active", GAUGE, "Open tunnels.", "tunnel_active")
    yield one("tcp_connections", COUNTER, "Connections, or sessions of UDP, that are forwarded as bytes.", "tcp_total")
    yield one("tcp_connections_active", GAUGE, "Those of them that are open.", "tcp_active")
    yield from _tls("", "downstream", of)
    datagrams = [_source("downstream", f"udp_datagrams_{key}", direction=way) for key, way in _WAYS]
    yield _family("udp_datagrams", COUNTER, "Datagrams from and to clients.", ("listener", "direction"), *datagrams)
    dropped = _source("downstream", "udp_dropped_(.+)", reason=r"\1")
    text = "Datagrams that were not forwarded, by reason word."
    yield _family("udp_datagrams_dropped", COUNTER, text, ("listener", "reason"), dropped)


_WAYS: Final = (("read", "received"), ("written", "sent"))


def _tls(before: str, kind: str, of: tuple[str, ...]) -> Iterator[Family]:
    done = _source(kind, "tls_handshake_total", result="completed")
    failed = _source(kind, "tls_handshake_failed", result="failed")
    yield _family(f"{before}tls_handshakes", COUNTER, "TLS handshakes, by result.", (*of, "result"), done, failed)
    text = "Completed handshakes that resumed a session."
    yield _family(f"{before}tls_sessions_resumed", COUNTER, text, of, _source(kind, "tls_resumed_total"))
    text = "TLS handshakes in progress."
    yield _family(f"{before}tls_handshakes_active", GAUGE, text, of, _source(kind, "tls_handshake_active"))
    text = "Plain connections where TLS is configured (`fall_back`)."
    yield _family(f"{before}tls_plain_connections", COUNTER, text, of, _source(kind, "tls_fall_back_total"))


def _upstream(before: str, kind: str, whose: str, *of: str) -> Iterator[Family]:
    def one(name: str, family_kind: str, text: str, key: str) -> Family:
        return _family(f"{before}{name}", family_kind, f"{text}, by {whose}.", of, _source(kind, key))

    def several(name: str, text: str, label: str, keys: dict[str, str]) -> Family:
        sources = [_source(kind, key, **{label: value}) for key, value in keys.items()]
        return _family(f"{before}{name}", COUNTER, f"{text}, by {whose}.", (*of, label), *sources)

    results = {"response_success": "success", "response_failed": "failure"}
    yield one("requests", COUNTER, "Attempts of requests", "request_total")
    yield one("requests_active", GAUGE, "Attempts in progress", "request_active")
    yield several("responses", "Ended attempts, by whether MOSN counts them as failed", "result", results)
    yield one("request_duration_seconds", HISTOGRAM, "Durations of attempts", "request_duration_time")
    yield one("request_timeouts", COUNTER, "Requests without a response in time", "request_timeout")
    yield one("requests_lost", COUNTER, "Requests that were lost with their connection", "request_failure_eject")
    resets = {"request_local_reset": "proxy", "request_remote_reset": "host"}
    yield several("request_resets", "Requests that were reset, by side", "by", resets)
    yield one("retries", COUNTER, "Requests that were repeated", "request_retry")
    limits = {"request_pending_overflow": "requests", "request_retry_overflow": "retries"}
    text = "Requests and retries beyond a limit (circuit breaker)"
    yield several("circuit_breaker_rejections", text, "limit", limits)
    yield one("connections", COUNTER, "Opened connections to hosts", "connection_total")
    yield one("connections_active", GAUGE, "Open connections to hosts", "connection_active")
    yield one("connections_failed", COUNTER, "Connections that could not be opened", "connection_con_fail")
    yield one("connections_retried", COUNTER, "Further attempts of `tcp_proxy` to connect", "connection_retry")
    closes = {"connection_local_close": "proxy", "connection_remote_close": "host"}
    yield several("connections_closed", "Connections that have ended, by side", "by", closes)
    cuts = {f"{key}_with_active_request": by for key, by in closes.items()}
    yield several("connections_cut", "Connections that ended before a response was complete, by side", "by", cuts)
    notified = "Connections whose end the host has announced (`Connection: close`, GOAWAY)"
    yield one("connections_end_announced", COUNTER, notified, "connection_close_notify")
    yield one("received_bytes", COUNTER, "Bytes received from hosts", "connection_bytes_read_total")
    yield one("sent_bytes", COUNTER, "Bytes sent", "connection_bytes_write")
    yield one("ejected", GAUGE, "Hosts out of use because of failed requests, times workers", "ejected")
    text = "Hosts out of use because of failed health checks, times workers"
    yield one("unhealthy", GAUGE, text, "failed_active_check")
    yield one("responses_stray", COUNTER, "Messages that match no pending request", "response_stray")


def _of_clusters() -> Iterator[Family]:
    yield from _upstream("upstream_", "upstream", "cluster", "cluster")
    of = ("cluster",)
    yield from _tls("upstream_", "upstream", of)
    copies = {"mirrored": "sent", "mirror_failed": "failed", "mirror_dropped": "dropped"}
    sources = [_source("upstream", key, result=value) for key, value in copies.items()]
    yield _family("upstream_mirrored_requests", COUNTER, "Copies of requests, by result.", (*of, "result"), *sources)
    text = "Requests whose labels match no subset."
    yield _family("upstream_subset_fallbacks", COUNTER, text, of, _source("upstream", "lb_subsets_fallback"))
    yield _family("upstream_subsets", GAUGE, "Subsets of hosts.", of, _source("upstream", "lb_subsets_created"))
    text = "Replaced pools of connections, because a TLS context has changed."
    yield _family("upstream_tls_pools_replaced", COUNTER, text, (), _source("mosn_tls", "connpool_changed"))
    checks = [_source("healthcheck", key, result=key) for key in ("success", "failure")]
    yield _family("health_checks", COUNTER, "Active health checks, by result.", (*of, "result"), *checks)
    text = "Active health checks that failed without an answer; they are failures too."
    yield _family("health_check_network_failures", COUNTER, text, of, _source("healthcheck", "network_failure"))
    yield _family("healthy_hosts", GAUGE, "Hosts that pass their health checks.", of, _source("healthcheck", "healty"))
    yield from _upstream("upstream_host_", "upstream host", "host", "cluster", "host")


def _of_code() -> Iterator[Family]:
    route = ("router", "virtual_host", "route")
    text = "Finished requests of a route."
    yield _family("route_requests", COUNTER, text, route, _source("route", "hits"))
    text = "Finished requests of a route, by status; with `metrics.per_route`."
    yield _family("route_responses", COUNTER, text, (*route, "code"), _source("route", r"code_(\d+)", code=r"\1"))
    text = "Durations of requests of a route; with `metrics.per_route`."
    yield _family("route_request_duration_seconds", HISTOGRAM, text, route, _source("route", "request_time"))

    def one(name: str, kind: str, text: str, key: str) -> Family:
        return _family(f"filter_{name}", kind, text, ("filter",), _source("filter", key))

    yield one("calls", COUNTER, "Calls of a filter.", "calls(_total)?")
    yield one("errors", COUNTER, "Exceptions and invalid results of a filter.", "errors(_total)?")
    yield one("timeouts", COUNTER, "Calls of a filter that took too long and were ended.", "timeouts")
    yield one("blocks", COUNTER, "How often a filter blocked the event loop of a worker.", "blocked")
    yield one("skips", COUNTER, "Requests that a filter has not seen, because it had failed.", "skipped")
    yield one("connections_active", GAUGE, "Open connections that a network filter sees.", "connections")
    text = "Durations of calls of a filter: of a sample, and of all that waited."
    yield one("seconds", HISTOGRAM, text, "time|seconds")
    yield from _of_calls()
    yield from _failed_calls()
    outcomes = [_source("mosn", f"response_{key}_total", outcome=outcome) for key, outcome in _OUTCOMES]
    text = "Ended calls of Dubbo, by outcome; of the filter `dubbo_stream`."
    yield _family("dubbo_calls", COUNTER, text, ("service", "method", "outcome"), *outcomes)


_OUTCOMES: Final = (("succ", "success"), ("fail", "failure"))


def _of_calls() -> Iterator[Family]:
    for suffix, of in _CALLS:
        before = f"grpc{suffix.replace(' ', '_')}"
        sources = [_source(f"grpc{suffix}", f"response_{key}_total", outcome=outcome) for key, outcome in _OUTCOMES]
        text = "Ended calls of gRPC, by outcome; of the filter `grpc_metric`."
        yield _family(f"{before}_calls", COUNTER, text, (*of, "outcome"), *sources)
        text, time = "Durations of calls of gRPC.", _source(f"grpc{suffix}", "request_time")
        yield _family(f"{before}_call_duration_seconds", HISTOGRAM, text, of, time)


def _failed_calls() -> Iterator[Family]:
    for suffix, of in _CALLS:
        source = _source(f"grpc{suffix}", "response_(?!succ_|fail_)(.+)_total", status=r"\1")
        name = f"grpc{suffix.replace(' ', '_')}_call_failures"
        yield _family(name, COUNTER, "Failed calls of gRPC, by status.", (*of, "status"), source)


_CALLS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (("", ("service",)), (" method", ("service", "method")))


def _of_workers() -> Iterator[Family]:
    def one(name: str, kind: str, text: str, key: str) -> Family:
        return _family(name, kind, text, (), _source("worker", key))

    yield _family("workers", GAUGE, "Worker processes, by state.", ("state",))
    yield _family("workers_configured", GAUGE, "Worker processes that there should be.", ())
    yield one("worker_restarts", COUNTER, "Workers that ended by themselves and were replaced.", "restarts")
    yield one("worker_kills", COUNTER, "Workers that were killed because they hung or served nothing.", "kills")
    yield one("worker_blocks", COUNTER, "How often the event loop of a worker was blocked.", "blocks")
    yield one("workers_resident_memory_bytes", GAUGE, "Resident memory of all workers.", "memory_rss")
    yield one("workers_returned_memory_bytes", COUNTER, "Memory that workers gave back to the system.", "memory_returned")
    yield one("workers_descriptors", GAUGE, "Open file descriptors of all workers.", "descriptors")
    yield one("workers_timers", GAUGE, "Pending timers of all workers.", "timers")
    yield one("workers_connections", GAUGE, "Connections of all workers, of clients and to hosts.", "connections")
    yield one("workers_head_bytes", GAUGE, "Memory of the heads that workers are reading.", "head_bytes")
    actions = [_source("worker", f"overload_({key})", action=r"\1") for key in _ACTIONS]
    yield _family("workers_overloaded", GAUGE, "Workers that protect themselves, by what they do.", ("action",), *actions)
    yield one("worker_overloads", COUNTER, "How often workers have begun to protect themselves.", "overload_total")
    yield one("worker_accept_pauses", COUNTER, "How often workers stopped accepting for lack of resources.", "accept_pauses")
    taken = {"taken_over": "sibling", "moved_in": "predecessor"}
    sources = [_source("worker", f"connections_{key}", origin=value) for key, value in taken.items()]
    text = "Connections that workers have taken over, by origin."
    yield _family("worker_connections_taken_over", COUNTER, text, ("origin",), *sources)
    lost = {"lost": "sibling", "moved_lost": "predecessor"}
    sources = [_source("worker", f"connections_{key}", origin=value) for key, value in lost.items()]
    yield _family("worker_connections_lost", COUNTER, "Connections that could not be taken over.", ("origin",), *sources)
    yield one("worker_connections_moved_out", COUNTER, "Connections given to a later generation.", "connections_moved_out")


_ACTIONS: Final = ("no_keep_alive", "shed", "stop_accept")


def _of_process() -> Iterator[Family]:
    yield _family(
        "build",
        INFO,
        "The version that runs, of pymosn and Python, and whether it is compiled.",
        ("version", "python", "build"),
    )
    yield _family("start_time_seconds", GAUGE, "When the supervisor started, in seconds since 1970.", ())
    yield _family("generation", GAUGE, "The number of hot upgrades before this process, plus 1.", ())
    yield _family("process_cpu_seconds", COUNTER, "CPU time of the supervisor and all workers, also of ended ones.", ())
    text = "Resident memory, by process (supervisor, worker-1, ...)."
    yield _family("process_resident_memory_bytes", GAUGE, text, ("process",))
    yield _family("config_generation", GAUGE, "The active configuration: 1 after the start, plus applied changes.", ())
    outcomes = [_source("config", key, outcome=key) for key in ("applied", "rejected")]
    text = "Changes of the configuration, by file, admin API and control plane."
    yield _family("config_reloads", COUNTER, text, ("outcome",), *outcomes)
    yield _family("config_last_reload_successful", GAUGE, "Whether the last change was applied (1), or rejected (0).", ())
    text = "When the active configuration became active, in seconds since 1970."
    yield _family("config_last_reload_success_timestamp_seconds", GAUGE, text, ())
    text = "When a certificate in use expires, in seconds since 1970; of those that expire first."
    yield _family("certificate_expiry_timestamp_seconds", GAUGE, text, ("name", "fingerprint"))
    updates = [
        _source("xds", f"{key}_update_{word}", type=kind, outcome=outcome)
        for key, kind in (("cds", "cluster"), ("l[ds]?s", "listener"))
        for word, outcome in (("success", "accepted"), ("reject", "rejected"))
    ]
    text = "Resources of clusters and listeners that control planes have sent, by outcome."
    yield _family("xds_updates", COUNTER, text, ("type", "outcome"), *updates)
    changes = [_source("xds", key, outcome=outcome) for key, outcome in (("changes", "applied"), ("rejected", "rejected"))]
    yield _family("xds_changes", COUNTER, "Changes that control planes have caused, by outcome.", ("outcome",), *changes)
    resources = _source("xds", "(.ds)_resources", type=r"\1")
    yield _family("xds_resources", GAUGE, "Resources that were received, by type.", ("type",), resources)
    rejected = _source("xds", "(.ds)_rejected", type=r"\1")
    yield _family("xds_resources_rejected", GAUGE, "Resources whose last version was rejected.", ("type",), rejected)
    yield _family("xds_waiting", GAUGE, "Resources that wait for others.", (), _source("xds", "waiting"))
    yield _family("xds_missing_secrets", GAUGE, "Secrets that were not received yet.", (), _source("xds", "missing_secrets"))
    yield _family("xds_connected", GAUGE, "Control planes that are connected.", (), _source("xds", "connected"))


def _of_traces() -> Iterator[Family]:
    def one(name: str, text: str, key: str, *of: str) -> Family:
        return _family(name, COUNTER, text, of, _source("tracing", key))

    yield one("traces_recorded", "Traces that workers have recorded.", "traces_recorded_total")
    yield one("traces_unsampled", "Requests whose traces were not sampled.", "traces_unsampled_total")
    yield one(
        "traces_dropped", "Recorded traces that workers have dropped, because too many waited.", "traces_dropped_total"
    )
    yield one("traces_sent", "Recorded traces that workers have given to the supervisor.", "traces_sent_total")
    yield one("spans_exported", "Spans that a collector has accepted.", "spans_exported_total", "driver")
    dropped = _source("tracing", "spans_dropped_(.+)_total", reason=r"\1")
    yield _family("spans_dropped", COUNTER, "Spans that were not exported, by reason.", ("driver", "reason"), dropped)
    yield one("span_export_retries", "Batches of spans that were sent again.", "export_retries_total", "driver")
    text = "Spans that wait to be exported."
    yield _family("spans_waiting", GAUGE, text, ("driver",), _source("tracing", "spans_waiting"))


FAMILIES: Final[tuple[Family, ...]] = (
    *_downstream(),
    *_of_clusters(),
    *_of_code(),
    *_of_workers(),
    *_of_process(),
    *_of_traces(),
)
#: Types of groups whose other keys have names with PREFIX too; those of any other type, which filters make, keep theirs.
OWN_TYPES: Final = frozenset({source.type for family in FAMILIES for source in family.sources})
#: What other families have already: sums over the samples of one, or parts of others.
REDUNDANT: Final = (
    _source("downstream", "request_failed|request_other_code"),
    _source("upstream", "connection_close"),
    _source("upstream host", "connection_close"),
    _source("healthcheck", "attempt|active_failure|passive_failure|verify_cluster"),
    *[_source(kind, "request_total") for kind in ("grpc", "grpc method", "mosn")],
)
