"""Counters and access logs of a finished exchange, and a line in the process log for a failure."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.variables import trace_id
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import DEADLINE_EXCEEDED, Failure
from pymosn.core.foreign import report
from pymosn.core.log import ALERT_CODEC, DEBUG, ERROR, WARN, LineLimit, Log
from pymosn.core.route_stats import RouteBook


def log_failure(log: Log, exchange: Exchange, failure: Failure, detail: str, limit: LineLimit) -> None:
    """Logs a failure: at ERROR what has one of MOSN's alert keys; at WARN attacks, and server errors but for those of
    overload (`retry_after`); others at DEBUG.

    A deadline that the client has chosen is logged at DEBUG too: some streams always end by it, and clients could fill the
    log. Of the frames that cannot be decoded `limit` lets some pass. The line about an attack has the address of the client.
    """
    is_error = failure.status >= 500 and failure.retry_after == 0 and failure is not DEADLINE_EXCEEDED
    level = WARN if failure.is_attack or is_error else DEBUG
    alert = failure.alert
    if alert:
        level = ERROR
    if log.level > level:
        return
    if alert == ALERT_CODEC and not is_error and not limit.passes(exchange.connection.now()):
        return
    try:
        request = exchange.request.describe(exchange.protocol)
    except BaseException:  # of the head of an installed protocol
        request = exchange.protocol
    if failure.is_attack:
        client = exchange.connection.remote_ip or "a unix socket"
        detail = f"from {client}: {detail}" if detail else f"from {client}"
    if alert == ALERT_CODEC and not is_error:
        request += limit.note()
    log.write(level, f"{log_prefix(exchange)} {failure.status} {failure.reason} ({detail}): {request}", alert)


def log_prefix(exchange: Exchange) -> str:
    """What MOSN's lines about a request begin with: the ids of both connections and of the trace, or `-`."""
    return f"[{exchange.connection_id},{exchange.upstream_connection_id or '-'},{trace_id(exchange) or '-'}]"


def count(exchange: Exchange, stats: DownstreamStats, was_tunnel: bool, book: RouteBook) -> i64:
    """Adds a finished exchange to the counters of the listener and of its route; returns its status, 0 without one."""
    stats.request_active.value -= 1
    taken = (exchange.response_received if was_tunnel else exchange.finished) - exchange.started
    exchange.connection.count_into(stats.bytes_read, stats.bytes_written)
    if was_tunnel:
        stats.tunnel_active.value -= 1
        stats.request_time.record(taken)
        stats.process_time.record(exchange.request_sent - exchange.started)
    else:
        stats.request_time.record(taken)
        stats.process_time.record(exchange.processing_time())
    if book.has_exemplars:
        _note_trace(exchange, stats, taken, book)
    failure = exchange.failure
    status: i64 = 0
    if exchange.response is not None:
        status = exchange.response.status
        stats.count_status(status)
    elif failure is not None:
        status = failure.status
        stats.count_status(status)
    route = exchange.route
    if route is not None:
        hits = route.hits
        if hits is None:
            route.stats = book.stats_of(route.name, route.label)
            hits = route.hits = route.stats.hits
        hits.value += 1
        if book.is_detailed and route.stats is not None:
            route.stats.count(status, taken)
    if failure is not None:
        stats.count_failure(failure.reason)
    return status


def _note_trace(exchange: Exchange, stats: DownstreamStats, taken: float, book: RouteBook) -> None:
    found = trace_id(exchange)
    if found is not None:
        stats.request_time.note_trace(taken, found, book.clock.wall())


def write_logs(exchange: Exchange, access_logs: list[AccessLog]) -> None:
    """Writes a finished exchange to the listener's access logs."""
    for access_log in access_logs:
        try:
            access_log.log(exchange)
        except BaseException as error:  # of the heads of an installed protocol
            report("an access log cannot be written", error)
