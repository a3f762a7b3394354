"""Counters and access logs of a finished exchange, and a line in the process log for a failure."""

from __future__ import annotations

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import DEADLINE_EXCEEDED, Failure
from pymosn.core.foreign import report
from pymosn.core.log import DEBUG, WARN, Log


def log_failure(log: Log, exchange: Exchange, failure: Failure, detail: str) -> None:
    """Logs a failure at WARN: attacks, and server errors but for those of overload (`retry_after`); others at DEBUG.

    A deadline that the client has chosen is logged at DEBUG too: some streams always end by it, and clients could fill the
    log. The line about an attack has the address of the client.
    """
    is_error = failure.status >= 500 and failure.retry_after == 0 and failure is not DEADLINE_EXCEEDED
    level = WARN if failure.is_attack or is_error else DEBUG
    if log.level <= level:
        upstream = exchange.upstream_connection_id or "-"
        try:
            request = exchange.request.describe(exchange.protocol)
        except BaseException:  # of the head of an installed protocol
            request = exchange.protocol
        if failure.is_attack:
            client = exchange.connection.remote_ip or "a unix socket"
            detail = f"from {client}: {detail}" if detail else f"from {client}"
        text = f"[{exchange.connection_id},{upstream},-] {failure.status} {failure.reason} ({detail}): {request}"
        log.write(level, text)


def count(exchange: Exchange, stats: DownstreamStats, was_tunnel: bool) -> None:
    """Adds a finished exchange to the listener's counters."""
    stats.request_active.value -= 1
    exchange.connection.count_into(stats.bytes_read, stats.bytes_written)
    if was_tunnel:
        stats.tunnel_active.value -= 1
        stats.request_time.record(exchange.response_received - exchange.started)
    else:
        stats.request_time.record(exchange.finished - exchange.started)
    failure = exchange.failure
    if exchange.response is not None:
        stats.count_status(exchange.response.status)
    elif failure is not None:
        stats.count_status(failure.status)
    if failure is not None:
        stats.request_failed.value += 1
        stats.count_reason(failure.reason)


def write_logs(exchange: Exchange, access_logs: list[AccessLog]) -> None:
    """Writes a finished exchange to the listener's access logs."""
    for access_log in access_logs:
        try:
            access_log.log(exchange)
        except BaseException as error:  # of the heads of an installed protocol
            report("an access log cannot be written", error)
