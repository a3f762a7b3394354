"""Checks the server, its logs and its listeners."""

from collections.abc import Collection
from functools import partial
from itertools import pairwise
from typing import Final

from pymosn.config.check.access_logs import check_access_log
from pymosn.config.check.accounts import check_socket_file
from pymosn.config.check.addresses import listen_fault, path_fault
from pymosn.config.check.chains import check_chains
from pymosn.config.check.connections import check_tcp_keepalive
from pymosn.config.check.filters import check_listener_filters, check_stream_filters, check_stream_proxy
from pymosn.config.check.local_replies import check_local_replies
from pymosn.config.check.names import opened
from pymosn.config.check.proxy_protocol import check_proxy_protocol
from pymosn.config.check.tls import check_listener_tls
from pymosn.config.check.udp import check_udp_listener
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Listener, Overload, Server
from pymosn.config.schema.server import MOST_WORKERS
from pymosn.observe.roller import parse_roller, roller_oddities

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
#: Values of `use_original_dst`.
ORIGINAL_DST: Final = ("redirect", "tproxy")


def check_server(
    server: Server, path: str, report: Diagnostics, stream_filters: Collection[str], clusters: Collection[str]
) -> None:
    """Check a server with its listeners; router tables are checked by `routes`."""
    _check_log(server, path, report)
    _check_processor(server, path, report)
    _check_overload(server.overload, f"{path}.overload", report)
    names: dict[str, str] = {}
    addresses: dict[tuple[str, str], str] = {}
    hands_over = any(listener.hands_over() for listener in server.listeners)
    tables = opened(server.router_tables(), clusters)
    for i, listener in enumerate(server.listeners):
        inner = f"{path}.listeners[{i}]"
        _check_address(listener, inner, report, addresses, hands_over)
        _check_original_dst(listener, inner, report)
        check_socket_file(listener, inner, report)
        check_proxy_protocol(listener, inner, report)
        check_tcp_keepalive(listener.tcp_keepalive, f"{inner}.tcp_keepalive", report)
        if listener.tcp_keepalive is not None and (listener.network or "tcp").lower() != "tcp":
            report.warning(f"{inner}.tcp_keepalive", "has no effect: only for TCP")
        name = listener.known_name()
        if name and (earlier := names.setdefault(name, inner)) != inner:
            report.error(f"{inner}.name", f"duplicate name, already used in {report.line(earlier)}", listener.name)
        for key, logs in listener.log_lists():
            for j, log in enumerate(logs):
                check_access_log(log, f"{inner}.{key}[{j}]", report)
        for key, replies in listener.local_replies():
            check_local_replies(replies, f"{inner}.{key}", report)
        if listener.is_udp():
            check_udp_listener(listener, inner, report, partial(check_stream_proxy, report=report, clusters=clusters))
            continue
        check_chains(listener, inner, report, tables, clusters)
        check_listener_tls(listener, inner, report)
        check_stream_filters(listener, inner, report, stream_filters)
        chains = listener.acting_filters()
        if chains and listener.stream_filters and all(acting.proxy is None and acting.tcp is not None for acting in chains):
            report.warning(f"{inner}.stream_filters", "have no effect: tcp_proxy has no requests")
        check_listener_filters(listener, inner, report)


def _check_log(server: Server, path: str, report: Diagnostics) -> None:
    level = server.default_log_level
    if level and level not in LEVELS:
        report.warning(f"{path}.default_log_level", "unknown level; using INFO, as MOSN does", level, LEVELS)
    roller = server.global_log_roller
    if report.attempt(f"{path}.global_log_roller", parse_roller, roller, value=roller) is not None:
        for oddity in roller_oddities(roller):
            report.odd(f"{path}.global_log_roller", oddity, roller)


def _check_processor(server: Server, path: str, report: Diagnostics) -> None:
    value = server.processor
    if isinstance(value, str) and value and value != "auto" and not (value.isascii() and value.isdecimal()):
        report.warning(f"{path}.processor", 'neither a number nor "auto"; using all CPUs, as MOSN does', value, ["auto"])
    elif server.workers(1) > MOST_WORKERS:
        report.error(f"{path}.processor", f"must be {MOST_WORKERS} or less", value)


def _check_overload(overload: Overload, path: str, report: Diagnostics) -> None:
    steps = ("stop_keep_alive", "shed", "stop_accept")
    for before, step in pairwise(steps):
        share = getattr(overload, step)
        if share < getattr(overload, before):
            report.error(f"{path}.{step}", f"must not be below {before}: the steps must be in ascending order", share)


def _check_address(
    listener: Listener, path: str, report: Diagnostics, addresses: dict[tuple[str, str], str], hands_over: bool
) -> None:
    """`hands_over`: whether a listener of the server hands connections over to others, which then need no socket."""
    network = (listener.network or "tcp").lower()
    if network not in ("tcp", "udp", "unix"):
        report.error(f"{path}.network", "unknown network", listener.network, ["tcp", "udp", "unix"])
        return
    find_fault = path_fault if network == "unix" else listen_fault
    if not listener.address:
        report.error(f"{path}.address", "a listener needs an address")
    elif fault := find_fault(listener.address):
        report.error(f"{path}.address", fault, listener.address)
    elif listener.bind_port and (earlier := addresses.setdefault((network, listener.address), path)) != path:
        report.error(f"{path}.address", f"duplicate address, already used in {report.line(earlier)}", listener.address)
    if not listener.bind_port and (network == "udp" or not hands_over):
        report.warning(f"{path}.bind_port", "false: nothing listens on this address")


def _check_original_dst(listener: Listener, path: str, report: Diagnostics) -> None:
    """Check how the listener determines the original destination of redirected clients."""
    kind = listener.use_original_dst
    if not kind:
        return
    if kind not in ORIGINAL_DST:
        report.warning(f"{path}.use_original_dst", "unknown; disabled, as in MOSN", kind, ORIGINAL_DST)
    elif (listener.network or "tcp").lower() == "unix":
        report.error(f"{path}.use_original_dst", "connections to a unix socket have no original destination", kind)
