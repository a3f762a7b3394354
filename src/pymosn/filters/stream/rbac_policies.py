"""Envoy's policies (envoy.config.rbac.v3): who may do what; for `rbac` of requests and of connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.record import NO_REQUEST
from pymosn.api.tls import ClientCertificate
from pymosn.core.address_ranges import parse_network
from pymosn.core.addresses import entry_ip
from pymosn.filters.settings import AnyMap, EnvoyBlock, works
from pymosn.filters.stream.addresses import Network, parse_ip
from pymosn.filters.stream.dynamic_metadata import metadata_test
from pymosn.filters.stream.envoy_match import (
    ANY_READING,
    EVERY_READING,
    MISSING_PATH,
    Condition,
    EnvoyObject,
    Test,
    header_test,
    never,
    path_readings,
    text_test,
)
from pymosn.filters.stream.problems import Problems

ACTIONS: Final = ("ALLOW", "DENY", "LOG")
Read = Callable[[object, str, Problems], Condition]
#: The filter state that Istio has the identity of the peer in.
_PEER: Final = "io.istio.peer_principal"


class Policy(EnvoyBlock, kw_only=True):
    """Permitted actions of certain clients."""

    permissions: Annotated[
        list[AnyMap],
        works(
            "any, destination_ip, destination_port, destination_port_range, header, url_path, requested_server_name,"
            " metadata, and_rules, or_rules, not_rule; others are rejected"
        ),
    ] = []
    principals: Annotated[
        list[AnyMap],
        works(
            "any, authenticated, direct_remote_ip, source_ip, remote_ip, header, url_path, metadata, filter_state (Istio's"
            " peer_principal), and_ids, or_ids, not_id; others are rejected"
        ),
    ] = []


class Rules(EnvoyBlock, kw_only=True):
    """Policies by name, and the action for requests that match one."""

    action: Annotated[str, works("ALLOW, DENY or LOG")] = "ALLOW"
    policies: dict[str, Policy] = {}


class Policies:
    """The policies of one set of rules. `action`: for requests that match one of them."""

    def __init__(self, config: Rules, path: str, hops: int, problems: Problems) -> None:
        self.action = config.action or "ALLOW"
        problems.one_of(f"{path}.action", self.action, ACTIONS)
        self._policies: list[tuple[str, list[Condition], list[Condition]]] = []
        for name, policy in config.policies.items():
            inner = f"{path}.policies.{name}"
            permissions = _read_all(policy.permissions, f"{inner}.permissions", _permission, problems)
            principals = _read_all(policy.principals, f"{inner}.principals", partial(_principal, hops), problems)
            self._policies.append((name, permissions, principals))

    def find(self, exchange: Exchange) -> str | None:
        """The name of the first policy that matches a request."""
        reading = EVERY_READING if self.action == "ALLOW" else ANY_READING
        for name, permissions, principals in self._policies:
            if any(met(exchange, reading) for met in permissions) and any(met(exchange, reading) for met in principals):
                return name
        return None

    def allows(self, found: str | None) -> bool:
        """Whether a request that matches the policy `found`, or none, is allowed."""
        if self.action == "LOG":
            return True
        return (found is not None) is (self.action == "ALLOW")


def _read_all(values: list[AnyMap], path: str, read: Read, problems: Problems) -> list[Condition]:
    problems.require(values, path, "must not be empty")
    return [read(value, f"{path}[{i}]", problems) for i, value in enumerate(values)]


def _principal(hops: int, value: object, path: str, problems: Problems) -> Condition:
    """A principal: a condition on the client. `hops`: the trusted proxies, which append to X-Forwarded-For."""
    with EnvoyObject(value, path, problems) as source:
        if "direct_remote_ip" in source:
            return _network_test(source.inner("direct_remote_ip"), lambda exchange: exchange.connection.direct_ip())
        if "source_ip" in source:
            return _network_test(source.inner("source_ip"), lambda exchange: exchange.connection.remote_ip)
        if "authenticated" in source:
            return _authenticated(source.inner("authenticated"))
        if "remote_ip" in source:
            return _network_test(source.inner("remote_ip"), partial(_remote_ip, hops))
        if "filter_state" in source:
            return _filter_state(source.inner("filter_state"))
        return _combined(source, "ids", "id", partial(_principal, hops)) or _common(source, "principal")


def _authenticated(source: EnvoyObject) -> Condition:
    """Clients with a verified certificate, and with one of its names that `principal_name` accepts."""
    with source:
        test = text_test(source.inner("principal_name")) if "principal_name" in source else None
    return partial(_is_authenticated, test)


def _is_authenticated(test: Test | None, exchange: Exchange, reading: bool) -> bool:
    certificate = _certificate(exchange, reading)
    if certificate is None:
        return False
    if test is None:
        return True
    kinds = (certificate.uris, certificate.dns_names, (certificate.subject,))
    if reading is ANY_READING:
        return any(test(name) for names in kinds for name in names)
    # As in Envoy's documentation: the subject only counts in a certificate without alternative names.
    return any(test(name) for name in next(names for names in kinds if names))


def _filter_state(source: EnvoyObject) -> Condition:
    """A FilterStateMatcher; only on the identity of the peer, which here is the SPIFFE id of a verified certificate."""
    with source:
        key = source.take("key", str, "")
        source.problems.require(key == _PEER, f"{source.path}.key", f"only {_PEER} is supported, not {key!r}")
        if "string_match" not in source:
            source.problems.add(source.path, "only string_match is supported")
            return never
        test = text_test(source.inner("string_match"))
    return partial(_is_peer, test)


def _is_peer(test: Test, exchange: Exchange, reading: bool) -> bool:
    certificate = _certificate(exchange, reading)
    return certificate is not None and test(certificate.spiffe_id)


def _certificate(exchange: Exchange, reading: bool) -> ClientCertificate | None:
    """The client's certificate. One that is not verified only counts where a name denies access: anyone can make it."""
    tls = exchange.connection.tls
    certificate = None if tls is None else tls.certificate
    return certificate if certificate is None or certificate.is_verified or reading is ANY_READING else None


def _permission(value: object, path: str, problems: Problems) -> Condition:
    """A permission: a condition on the request."""
    with EnvoyObject(value, path, problems) as source:
        if "destination_ip" in source:
            return _network_test(source.inner("destination_ip"), lambda exchange: exchange.connection.destination()[0])
        if "destination_port" in source:
            port = source.take("destination_port", int, -1)
            return lambda exchange, _: exchange.connection.destination()[1] == port
        if "destination_port_range" in source:
            with source.inner("destination_port_range") as limits:
                start, end = limits.take("start", int, 0), limits.take("end", int, 0)
            return lambda exchange, _: start <= exchange.connection.destination()[1] < end
        if "requested_server_name" in source:
            test = text_test(source.inner("requested_server_name"), folds=True)
            return lambda exchange, _: test(_server_name(exchange))
        return _combined(source, "rules", "rule", _permission) or _common(source, "permission")


def _server_name(exchange: Exchange) -> str:
    tls = exchange.connection.tls
    return "" if tls is None else tls.server_name


def _remote_ip(hops: int, exchange: Exchange) -> str:
    if hops <= 0:
        return exchange.remote_ip
    lines = ",".join(exchange.request.headers.get_all("x-forwarded-for"))
    entries = [entry for part in lines.split(",") if (entry := part.strip(" \t"))]
    if len(entries) < hops:
        return exchange.connection.remote_ip
    return entry_ip(entries[-hops]) or entries[-hops]


def _combined(source: EnvoyObject, many: str, one: str, read: Read) -> Condition | None:
    """`and_ids`, `or_rules`, `not_id` and the like."""
    for word, join in (("and", all), ("or", any)):
        if f"{word}_{many}" in source:
            conditions = [read(*part, source.problems) for part in source.items(f"{word}_{many}", many)]
            return lambda exchange, reading: join(condition(exchange, reading) for condition in conditions)
    if f"not_{one}" in source:
        denied = read(*source.value(f"not_{one}"), source.problems)
        return lambda exchange, reading: not denied(exchange, not reading)
    return None


def _common(source: EnvoyObject, what: str) -> Condition:
    """The conditions that principals and permissions have in common."""
    if "any" in source:
        source.problems.require(source.take("any", bool, True), f"{source.path}.any", "must be true")
        return lambda _exchange, _reading: True
    if "header" in source:
        return header_test(source.inner("header"))
    if "metadata" in source:
        return metadata_test(source.inner("metadata"))
    if "sourced_metadata" in source:
        with source.inner("sourced_metadata") as outer:
            kind = outer.take("metadata_source", str, "DYNAMIC")
            outer.problems.require(kind == "DYNAMIC", f"{outer.path}.metadata_source", "only DYNAMIC is supported")
            if "metadata_matcher" in outer:
                return metadata_test(outer.inner("metadata_matcher"))
            outer.problems.add(outer.path, "needs a metadata_matcher")
        return never
    if "url_path" in source:
        with source.inner("url_path") as outer:
            outer.problems.require("path" in outer, outer.path, "needs a path")
            test = text_test(outer.inner("path"), is_path=True) if "path" in outer else never
        return partial(_has_path, test)
    source.problems.add(source.path, f"no supported {what}; see docs/shipped-filters.md")
    return never


def _has_path(test: Test, exchange: Exchange, reading: bool) -> bool:
    """Whether the path meets a condition. A connection has no request at all; CONNECT and RPC calls have no path."""
    request = exchange.request
    if request is NO_REQUEST:
        return False
    if not request.has_path():
        return reading is ANY_READING and any(map(test, MISSING_PATH))
    return any(map(test, path_readings(request.path, reading)))


def _network_test(source: EnvoyObject, address_of: Callable[[Exchange], str]) -> Condition:
    """A CidrRange."""
    with source:
        missing = "prefix_len is missing; Envoy would use 0, which is every address"
        source.problems.require("prefix_len" in source, source.path, missing)
        text = source.take("address_prefix", str, "")
        length = source.take("prefix_len", int, 0)
    try:
        network = parse_network(f"{text}/{length}")
    except ValueError:
        source.problems.add(source.path, f"not a network: {text!r} with {length} bits")
        return never
    return partial(_is_within, network, address_of)


def _is_within(network: Network, address_of: Callable[[Exchange], str], exchange: Exchange, reading: bool) -> bool:
    text = address_of(exchange)
    address = parse_ip(text)
    if address is None:
        # An unreadable address may be any; a client on a unix socket has none.
        return bool(text) and reading is ANY_READING
    return address in network
