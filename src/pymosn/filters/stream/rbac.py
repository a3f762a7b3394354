"""`rbac`: access control by Envoy's policies (envoy.extensions.filters.http.rbac.v3; key reference section 13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.address_ranges import parse_network
from pymosn.core.failure import ACCESS_DENIED
from pymosn.core.log import INFO
from pymosn.filters.settings import AnyMap, EnvoyBlock, Unsigned, own, works
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.addresses import Network, parse_ip
from pymosn.filters.stream.envoy_match import (
    ANY_READING,
    EVERY_READING,
    Condition,
    EnvoyObject,
    Test,
    header_test,
    never,
    text_test,
)
from pymosn.filters.stream.problems import Problems

ACTIONS: Final = ("ALLOW", "DENY", "LOG")
Read = Callable[[object, str, Problems], Condition]


class Policy(EnvoyBlock, kw_only=True):
    """Permitted actions of certain clients."""

    permissions: Annotated[
        list[AnyMap],
        works("any, destination_ip, destination_port, header, url_path, and_rules, or_rules, not_rule; others are rejected"),
    ] = []
    principals: Annotated[
        list[AnyMap],
        works(
            "any, authenticated, direct_remote_ip, source_ip, remote_ip, header, url_path, and_ids, or_ids, not_id;"
            " others are rejected"
        ),
    ] = []


class Rules(EnvoyBlock, kw_only=True):
    """Policies by name, and the action for requests that match one."""

    action: Annotated[str, works("ALLOW, DENY or LOG")] = "ALLOW"
    policies: dict[str, Policy] = {}


class Settings(EnvoyBlock, kw_only=True):
    """`rbac`."""

    version: Annotated[str, works("not used; MOSN requires it")] = ""
    rules: Rules | None = None
    shadow_rules: Annotated[Rules | None, works("counted only")] = None
    xff_num_trusted_hops: Annotated[
        Unsigned, own("trusted proxies whose X-Forwarded-For determines `remote_ip`; 0: the client's IP, per `trusted_hops`")
    ] = 0


class _Policies:
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


class RbacFilter(StreamFilter):
    """Requests that the rules do not allow get 403. `shadow_rules` are only counted.

    Cost per request: the conditions of the policies up to the first match, about 0.4 us per policy; more for addresses.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        hops = settings.xff_num_trusted_hops
        self._rules = None if settings.rules is None else _Policies(settings.rules, ".rules", hops, problems)
        shadow = settings.shadow_rules
        self._shadow = None if shadow is None else _Policies(shadow, ".shadow_rules", hops, problems)
        problems.end()

    def on_request(self, exchange: Exchange) -> Reply | None:
        shadow = self._shadow
        if shadow is not None:
            allows = shadow.allows(shadow.find(exchange))
            self.context.counter("shadow_allowed" if allows else "shadow_denied").value += 1
        rules = self._rules
        if rules is None:
            return None
        found = rules.find(exchange)
        if rules.action == "LOG" and found is not None:
            self.context.write(f"{exchange.request.method} {exchange.request.path}: policy {found}", INFO)
        if rules.allows(found):
            self.context.counter("allowed").value += 1
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        exchange.failure_detail = f"policy {found}" if found is not None else "no policy"
        return Reply(403, "RBAC: access denied")


def _read_all(values: list[AnyMap], path: str, read: Read, problems: Problems) -> list[Condition]:
    problems.require(values, path, "must not be empty")
    return [read(value, f"{path}[{i}]", problems) for i, value in enumerate(values)]


def _principal(hops: int, value: object, path: str, problems: Problems) -> Condition:
    """A principal: a condition on the client. `hops`: the trusted proxies, which append to X-Forwarded-For."""
    with EnvoyObject(value, path, problems) as source:
        for key in ("direct_remote_ip", "source_ip"):
            if key in source:
                return _network_test(source.inner(key), lambda exchange: exchange.connection.remote_ip)
        if "authenticated" in source:
            return _authenticated(source.inner("authenticated"))
        if "remote_ip" in source:
            return _network_test(source.inner("remote_ip"), partial(_remote_ip, hops))
        return _combined(source, "ids", "id", partial(_principal, hops)) or _common(source, "principal")


def _authenticated(source: EnvoyObject) -> Condition:
    """Clients with a verified certificate, and with one of its names that `principal_name` accepts."""
    with source:
        test = text_test(source.inner("principal_name")) if "principal_name" in source else None
    return partial(_is_authenticated, test)


def _is_authenticated(test: Test | None, exchange: Exchange, reading: bool) -> bool:
    tls = exchange.connection.tls
    certificate = None if tls is None else tls.certificate
    if certificate is None or not certificate.is_verified:
        return False
    if test is None:
        return True
    kinds = (certificate.uris, certificate.dns_names, (certificate.subject,))
    if reading is ANY_READING:
        return any(test(name) for names in kinds for name in names)
    # As in Envoy's documentation: the subject only counts in a certificate without alternative names.
    return any(test(name) for name in next(names for names in kinds if names))


def _permission(value: object, path: str, problems: Problems) -> Condition:
    """A permission: a condition on the request."""
    with EnvoyObject(value, path, problems) as source:
        if "destination_ip" in source:
            return _network_test(source.inner("destination_ip"), lambda exchange: exchange.connection.local_ip)
        if "destination_port" in source:
            port = source.take("destination_port", int, -1)
            return lambda exchange, _: exchange.connection.local_port == port
        return _combined(source, "rules", "rule", _permission) or _common(source, "permission")


def _remote_ip(hops: int, exchange: Exchange) -> str:
    if hops <= 0:
        return exchange.remote_ip
    lines = ",".join(exchange.request.headers.get_all("x-forwarded-for"))
    entries = [entry for part in lines.split(",") if (entry := part.strip(" \t"))]
    return entries[-hops] if len(entries) >= hops else exchange.connection.remote_ip


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
    if "url_path" in source:
        with source.inner("url_path") as outer:
            outer.problems.require("path" in outer, outer.path, "needs a path")
            test = text_test(outer.inner("path")) if "path" in outer else never
        return lambda exchange, _: test(exchange.request.path or "/")  # RPC calls have none
    source.problems.add(source.path, f"no supported {what}; see docs/shipped-filters.md")
    return never


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


DIFFERENCES: Final = (
    ("policies that are not supported", "left out: a DENY allows everything", "the file is rejected"),
    (
        "`remote_ip`",
        "the first in X-Forwarded-For, which clients write",
        "the client's IP, per `trusted_hops` or `xff_num_trusted_hops`",
    ),
    ("`ignore_case`, regular expressions for `url_path`", "rejected, exact only", "as in Envoy"),
    ("an error in the filter", "the request passes", "500; `on_error: skip` is rejected"),
)
_NOTE: Final = "in MOSN's source tree, but not compiled into it"
SPEC: Final = FilterSpec("rbac", Settings, RbacFilter, _NOTE, DIFFERENCES, guards=True)
