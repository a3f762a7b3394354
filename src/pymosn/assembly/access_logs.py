"""Access logs of the configuration: their formats, and which exchanges they have."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pymosn.api.envoy_variables import envoy_flags
from pymosn.api.exchange import Exchange
from pymosn.config.schema.http_chain import AccessLog, Comparison, LogCondition, LogFilter, LogHeader
from pymosn.core.message import UnreadableHeaders
from pymosn.core.regex import compiled
from pymosn.filters.settings import StringMatch
from pymosn.observe.access_log import Format, compile_format
from pymosn.observe.json_log import JsonFormat

Condition = Callable[[Exchange], bool]


def compiled_log(entry: AccessLog) -> Format | JsonFormat:
    """The format of an access log. Raises ValueError with the error."""
    if entry.json_format:
        return JsonFormat(entry.json_format, entry.omit_empty)
    return compile_format(entry.log_format)


def log_condition(filter: LogFilter | None, draw: Callable[[], float] = random.random) -> Condition | None:
    """Which exchanges are logged; None for all. `draw`: a random number from 0 to below 1. Raises ValueError."""
    if filter is None:
        return None
    conditions = _conditions(filter, draw)
    for inner in filter.all_of:
        conditions += _conditions(inner, draw)
    if filter.any_of:
        choices = [_conditions(inner, draw) for inner in filter.any_of]
        conditions.append(lambda exchange: any(all(found(exchange) for found in choice) for choice in choices))
    return lambda exchange: all(condition(exchange) for condition in conditions)


def _conditions(filter: LogCondition, draw: Callable[[], float]) -> list[Condition]:
    found: list[Condition] = []
    if filter.status is not None:
        status = _compared(filter.status)
        found.append(lambda exchange: status(0 if exchange.response is None else int(exchange.response.status)))
    if filter.statuses:
        codes = frozenset(filter.statuses)
        found.append(lambda exchange: exchange.response is not None and int(exchange.response.status) in codes)
    if filter.reasons:
        reasons = frozenset(filter.reasons)
        found.append(lambda exchange: exchange.failure is not None and exchange.failure.reason in reasons)
    if filter.duration_ms is not None:
        duration = _compared(filter.duration_ms)
        found.append(lambda exchange: duration(int((exchange.finished - exchange.started) * 1000.0)))
    if filter.failed:
        found.append(lambda exchange: bool(envoy_flags(exchange.failure)))
    if filter.response_flags:
        flags = frozenset(filter.response_flags)
        found.append(lambda exchange: envoy_flags(exchange.failure) in flags)
    if filter.header is not None:
        found.append(_header(filter.header))
    if filter.grpc_status:
        statuses, excludes = frozenset(filter.grpc_status), filter.exclude_grpc_status
        found.append(lambda exchange: (exchange.call_status in statuses) != excludes)
    if filter.sample < 100.0:
        share = filter.sample / 100.0
        found.append(lambda exchange: draw() < share)
    return found


def _compared(comparison: Comparison) -> Callable[[int], bool]:
    value = comparison.value
    if comparison.op == "ge":
        return lambda number: number >= value
    if comparison.op == "le":
        return lambda number: number <= value
    return (lambda number: number != value) if comparison.op == "ne" else (lambda number: number == value)


def _header(header: LogHeader) -> Condition:
    name, match, inverted = header.name, header.match, header.invert
    matches = (lambda text: True) if match is None else text_matcher(match)

    def holds(exchange: Exchange) -> bool:
        try:
            value = exchange.request.headers.joined(name)
        except UnreadableHeaders:
            return False
        return (value is not None and matches(value)) != inverted

    return holds


def text_matcher(match: StringMatch) -> Callable[[str], bool]:
    """Whether a text fulfils a condition. Raises ValueError for an invalid expression."""
    if match.regex:
        regex: Any = compiled(match.regex)
        return lambda text: regex.fullmatch(text.encode()) is not None
    fold = str.lower if match.ignore_case else str
    exact, prefix, suffix, part = match.exact, fold(match.prefix), fold(match.suffix), fold(match.contains)
    if exact is not None:
        expected = fold(exact)
        return lambda text: fold(text) == expected
    return lambda text: fold(text).startswith(prefix) and fold(text).endswith(suffix) and part in fold(text)
