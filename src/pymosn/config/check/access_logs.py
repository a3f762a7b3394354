"""Checks access logs: their formats and filters."""

from typing import Final

from pymosn.api.envoy_variables import LETTERS
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import AccessLog, Server
from pymosn.config.schema.http_chain import LogCondition, LogFilter
from pymosn.core import failure
from pymosn.core.headers import is_token
from pymosn.core.regex import compiled
from pymosn.observe.access_log import EVERY, compile_format
from pymosn.observe.json_log import JsonFormat

#: The reason words of the table of failures.
REASONS: Final = frozenset(value.reason for value in vars(failure).values() if isinstance(value, failure.Failure))


def check_access_log(log: AccessLog, path: str, report: Diagnostics) -> None:
    """Check one access log."""
    if log.name == EVERY:
        report.error(f"{path}.name", "this name means all access logs", log.name)
    if log.disabled and not log.name:
        report.warning(f"{path}.disabled", "without a name it is switched on only by routes with `*`")
    if log.json_format and log.log_format:
        report.error(f"{path}.json_format", "log_format and json_format are mutually exclusive")
        return
    if log.omit_empty and not log.json_format:
        report.warning(f"{path}.omit_empty", "has no effect without json_format")
    warnings: list[str] = []
    key = "json_format" if log.json_format else "log_format"
    if log.json_format:
        members = report.attempt(f"{path}.json_format", JsonFormat, log.json_format, log.omit_empty)
        warnings = members.warnings if members is not None else []
    else:
        made = report.attempt(f"{path}.log_format", compile_format, log.log_format, value=log.log_format)
        warnings = made.warnings if made is not None else []
    for warning in warnings:
        report.warning(f"{path}.{key}", warning)
    if log.filter is not None:
        check_condition(log.filter, f"{path}.filter", report)


def check_switches(server: Server, path: str, report: Diagnostics) -> None:
    """Check that routes and virtual hosts switch access logs that exist."""
    lists = [logs for listener in server.listeners for _, logs in listener.log_lists()]
    names = {log.name for logs in lists for log in logs if log.name}
    for table_path, table in server.all_tables(path):
        for i, host in enumerate(table.virtual_hosts):
            inner = f"{table_path}.virtual_hosts[{i}]"
            _check_names(host.access_logs, f"{inner}.access_logs", names, report)
            for j, route in enumerate(host.routers):
                _check_names(route.access_logs, f"{inner}.routers[{j}].access_logs", names, report)


def _check_names(switches: dict[str, bool], path: str, names: set[str], report: Diagnostics) -> None:
    for name in switches:
        if name != EVERY and name not in names:
            report.warning(f"{path}.{name}", "no access log has this name", name, names)


def check_condition(filter: LogFilter, path: str, report: Diagnostics) -> None:
    """Check which exchanges are logged."""
    _check_condition(filter, path, report)
    for key in ("all_of", "any_of"):
        for i, inner in enumerate(getattr(filter, key)):
            _check_condition(inner, f"{path}.{key}[{i}]", report)


def _check_condition(filter: LogCondition, path: str, report: Diagnostics) -> None:
    for i, flag in enumerate(filter.response_flags):
        if flag not in LETTERS:
            report.warning(f"{path}.response_flags[{i}]", "no exchange has this flag here", flag, sorted(LETTERS))
    for i, word in enumerate(filter.reasons):
        if word not in REASONS:
            report.warning(f"{path}.reasons[{i}]", "not a reason word of pymosn; a filter may have it", word, REASONS)
    header = filter.header
    if header is not None and not is_token(header.name.encode()):
        report.error(f"{path}.header.name", "not the name of a header", header.name)
    if header is not None and header.match is not None and header.match.regex:
        report.attempt(f"{path}.header.match.regex", compiled, header.match.regex, value=header.match.regex)
