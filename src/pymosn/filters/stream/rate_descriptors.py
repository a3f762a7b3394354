"""Envoy's `rate_limits` (envoy.config.route.v3.RateLimit): the descriptors by which a request is counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import Final, NamedTuple

from pymosn.api.exchange import Exchange
from pymosn.filters.settings import AnyMap
from pymosn.filters.stream.addresses import parse_ip
from pymosn.filters.stream.dynamic_metadata import metadata_path, metadata_value
from pymosn.filters.stream.envoy_match import ANY_READING, EnvoyObject, header_test, header_values
from pymosn.filters.stream.problems import Problems

Entry = tuple[str, str]
Descriptor = tuple[Entry, ...]
#: The entry for a request; None without one: then there is no descriptor, or, if True, it is without this entry.
Action = Callable[[Exchange], Entry | bool | None]

_ROUTE_KINDS: Final = ("DYNAMIC",)


class _Limit(NamedTuple):
    stage: int
    actions: list[Action]


class RateLimits:
    """The descriptors of the requests of a route or filter."""

    def __init__(self, values: list[AnyMap], path: str, problems: Problems) -> None:
        self._limits: list[_Limit] = []
        for i, value in enumerate(values):
            with EnvoyObject(value, f"{path}[{i}]", problems) as source:
                stage = source.take("stage", int, 0)
                source.take("disable_key", str, "")
                actions: list[Action] = []
                given, where = source.value("actions") if "actions" in source else ([], f"{source.path}.actions")
                if not isinstance(given, list) or not given:
                    problems.add(where, "must not be empty")
                    continue
                actions += [_action(item, f"{where}[{j}]", problems) for j, item in enumerate(given)]
                self._limits.append(_Limit(stage, actions))

    def descriptors(self, exchange: Exchange, stage: int) -> list[Descriptor]:
        """Those of a request, of the limits for this stage."""
        found: list[Descriptor] = []
        for limit in self._limits:
            if limit.stage == stage:
                entries = [action(exchange) for action in limit.actions]
                kept = tuple(entry for entry in entries if isinstance(entry, tuple))
                if kept and all(entry is True or isinstance(entry, tuple) for entry in entries):
                    found.append(kept)
        return found


def _action(value: object, path: str, problems: Problems) -> Action:
    with EnvoyObject(value, path, problems) as source:
        if "destination_cluster" in source:
            source.value("destination_cluster")
            return lambda exchange: ("destination_cluster", exchange.cluster_name) if exchange.cluster_name else None
        if "remote_address" in source:
            source.value("remote_address")
            return lambda exchange: ("remote_address", exchange.remote_ip) if exchange.remote_ip else None
        for key, read in _READERS.items():
            if key in source:
                with source.inner(key) as inner:
                    return read(inner)
        problems.add(path, "no supported action; see docs/shipped-filters.md")
    return lambda _exchange: None


def _request_headers(source: EnvoyObject) -> Action:
    name = source.take("header_name", str, "").lower()
    key = source.take("descriptor_key", str, "")
    skips = source.take("skip_if_absent", bool, False)
    source.problems.require(name and key, source.path, "needs header_name and descriptor_key")

    def entry(exchange: Exchange) -> Entry | bool | None:
        values = header_values(exchange, name)
        if not values:
            return True if skips else None
        return (key, ",".join(values))

    return entry


def _generic_key(source: EnvoyObject) -> Action:
    key = source.take("descriptor_key", str, "") or "generic_key"
    value = source.take("descriptor_value", str, "")
    source.problems.require(value, f"{source.path}.descriptor_value", "must not be empty")
    return lambda _exchange: (key, value)


def _header_value_match(source: EnvoyObject) -> Action:
    key = source.take("descriptor_key", str, "") or "header_match"
    value = source.take("descriptor_value", str, "")
    expected = source.take("expect_match", bool, True)
    given, path = source.value("headers") if "headers" in source else ([], source.path)
    entries = given if isinstance(given, list) else []
    source.problems.require(entries, path, "must not be empty")
    tests = [header_test(EnvoyObject(item, f"{path}[{i}]", source.problems)) for i, item in enumerate(entries)]
    return lambda exchange: (key, value) if all(test(exchange, ANY_READING) for test in tests) is expected else None


def _metadata(source: EnvoyObject) -> Action:
    key = source.take("descriptor_key", str, "")
    default = source.take("default_value", str, "")
    skips = source.take("skip_if_absent", bool, False)
    kind = source.take("source", str, "DYNAMIC")
    source.problems.require(kind in _ROUTE_KINDS, f"{source.path}.source", "only DYNAMIC is supported")
    if "metadata_key" not in source:
        source.problems.add(source.path, "needs a metadata_key")
        return lambda _exchange: None
    with source.inner("metadata_key") as inner:
        namespace = inner.take("key", str, "")
        path = metadata_path(inner)
    return partial(_metadata_entry, key, namespace, path, default, skips)


def _metadata_entry(
    key: str, namespace: str, path: list[str], default: str, skips: bool, exchange: Exchange
) -> Entry | bool | None:
    value = metadata_value(exchange, namespace, path)
    text = value if isinstance(value, str) and value else default
    if text:
        return (key, text)
    return True if skips else None


def _masked_address(source: EnvoyObject) -> Action:
    v4, v6 = source.take("v4_prefix_mask_len", int, 32), source.take("v6_prefix_mask_len", int, 128)
    source.problems.require(0 <= v4 <= 32 and 0 <= v6 <= 128, source.path, "the length of a prefix is invalid")

    def entry(exchange: Exchange) -> Entry | None:
        address = parse_ip(exchange.remote_ip)
        if address is None:
            return None
        length = v4 if address.version == 4 else v6
        return ("masked_remote_address", str(ip_network(f"{address}/{length}", strict=False)))

    return entry


_READERS: Final[dict[str, Callable[[EnvoyObject], Action]]] = {
    "request_headers": _request_headers,
    "generic_key": _generic_key,
    "header_value_match": _header_value_match,
    "metadata": _metadata,
    "dynamic_metadata": _metadata,
    "masked_remote_address": _masked_address,
}
