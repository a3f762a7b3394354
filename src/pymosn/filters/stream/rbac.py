"""`rbac`: who may do what, by Envoy's policies (envoy.extensions.filters.http.rbac.v3; key reference section 13)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import ACCESS_DENIED
from pymosn.core.log import INFO
from pymosn.filters.stream.addresses import parse_ip
from pymosn.filters.stream.envoy_match import Condition, Fields, header_test, never, text_test
from pymosn.filters.stream.problems import Problems

ACTIONS: Final = ("ALLOW", "DENY", "LOG")
Read = Callable[[object, str, Problems], Condition]


class _Policies:
    """The policies of one set of rules. `action`: what becomes of a request that one of them is about."""

    def __init__(self, config: Any, path: str, hops: int, problems: Problems) -> None:
        self.action: str = config.action or "ALLOW"
        if self.action not in ACTIONS:
            problems.add(f"{path}.action", f"must be one of {', '.join(ACTIONS)}, not {self.action!r}")
        reader = _Reader(hops)
        self._policies: list[tuple[str, list[Condition], list[Condition]]] = []
        for name, policy in config.policies.items():
            place = f"{path}.policies.{name}"
            permissions = _read_all(policy.permissions, f"{place}.permissions", reader.permission, problems)
            principals = _read_all(policy.principals, f"{place}.principals", reader.principal, problems)
            self._policies.append((name, permissions, principals))

    def find(self, exchange: Exchange) -> str | None:
        """The name of the first policy that is about a request."""
        for name, permissions, principals in self._policies:
            if _any(permissions, exchange) and _any(principals, exchange):
                return name
        return None

    def lets_in(self, found: str | None) -> bool:
        """Whether a request may pass that the policy `found` is about, or none."""
        if self.action == "LOG":
            return True
        return (found is not None) is (self.action == "ALLOW")


class RbacFilter(StreamFilter):
    """Requests that the rules do not let in get 403. `shadow_rules` are only counted and logged.

    Per request: the conditions of the policies until one is met: about 0.4 us for each policy that is not; addresses more.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        hops: int = config.xff_num_trusted_hops
        self._rules = None if config.rules is None else _Policies(config.rules, ".rules", hops, problems)
        shadow = config.shadow_rules
        self._shadow = None if shadow is None else _Policies(shadow, ".shadow_rules", hops, problems)
        problems.end()

    def on_request(self, exchange: Exchange) -> Reply | None:
        shadow = self._shadow
        if shadow is not None:
            found = shadow.find(exchange)
            lets_in = shadow.lets_in(found)
            self.context.counter("shadow_allowed" if lets_in else "shadow_denied").value += 1
        rules = self._rules
        if rules is None:
            return None
        found = rules.find(exchange)
        if rules.action == "LOG" and found is not None:
            self.context.write(f"{exchange.request.method} {exchange.request.path}: policy {found}", INFO)
        if rules.lets_in(found):
            self.context.counter("allowed").value += 1
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        exchange.failure_detail = f"policy {found}" if found is not None else "no policy"
        return Reply(403, "RBAC: access denied")


def _read_all(values: list[Any], path: str, read: Read, problems: Problems) -> list[Condition]:
    if not values:
        problems.add(path, "at least one is needed")
    return [read(value, f"{path}[{place}]", problems) for place, value in enumerate(values)]


def _any(conditions: list[Condition], exchange: Exchange) -> bool:
    return any(condition(exchange) for condition in conditions)


def _all(conditions: list[Condition], exchange: Exchange) -> bool:
    return all(condition(exchange) for condition in conditions)


class _Reader:
    """Reads principals and permissions, which are trees of conditions."""

    def __init__(self, hops: int) -> None:
        """`hops`: how many proxies before this one are trusted to add to X-Forwarded-For."""
        self._hops = hops

    def principal(self, value: object, path: str, problems: Problems) -> Condition:
        """Who."""
        fields = Fields(value, path, problems)
        condition = self._who(fields, problems)
        fields.end()
        return condition

    def _who(self, fields: Fields, problems: Problems) -> Condition:
        for key in ("direct_remote_ip", "source_ip"):
            if key in fields:
                return _network_test(fields.inner(key), lambda exchange: exchange.connection.remote_ip)
        if "remote_ip" in fields:
            return _network_test(fields.inner("remote_ip"), self._remote_ip)
        return _combined(fields, problems, "ids", "id", self.principal) or _common(fields, problems, "principal")

    def permission(self, value: object, path: str, problems: Problems) -> Condition:
        """What."""
        fields = Fields(value, path, problems)
        condition = self._what(fields, problems)
        fields.end()
        return condition

    def _what(self, fields: Fields, problems: Problems) -> Condition:
        if "destination_ip" in fields:
            return _network_test(fields.inner("destination_ip"), lambda exchange: exchange.connection.local_ip)
        if "destination_port" in fields:
            port = fields.take("destination_port", int, -1)
            return lambda exchange: exchange.connection.local_port == port
        return _combined(fields, problems, "rules", "rule", self.permission) or _common(fields, problems, "permission")

    def _remote_ip(self, exchange: Exchange) -> str:
        if self._hops <= 0:
            return exchange.remote_ip
        entries = ",".join(exchange.request.headers.get_all("x-forwarded-for")).split(",")
        return entries[-self._hops].strip() if len(entries) >= self._hops else exchange.connection.remote_ip


def _combined(fields: Fields, problems: Problems, many: str, one: str, read: Read) -> Condition | None:
    """`and_ids`, `or_rules`, `not_id` and the like."""
    for word, join in (("and", _all), ("or", _any)):
        if f"{word}_{many}" in fields:
            conditions = [read(value, path, problems) for value, path in fields.items(f"{word}_{many}", many)]
            return lambda exchange: join(conditions, exchange)
    if f"not_{one}" in fields:
        denied = read(*fields.value(f"not_{one}"), problems)
        return lambda exchange: not denied(exchange)
    return None


def _common(fields: Fields, problems: Problems, what: str) -> Condition:
    """What principals and permissions have in common."""
    if "any" in fields:
        if not fields.take("any", bool, True):
            problems.add(f"{fields.path}.any", "must be true")
        return lambda exchange: True
    if "header" in fields:
        return header_test(fields.inner("header"))
    if "url_path" in fields:
        outer = fields.inner("url_path")
        if "path" not in outer:
            problems.add(outer.path, "needs a path")
            return never
        test = text_test(outer.inner("path"))
        outer.end()
        return lambda exchange: test(exchange.request.path or "/")  # RPC calls have none
    problems.add(fields.path, f"no {what} that is built; see docs/shipped-filters.md")
    return never


def _network_test(fields: Fields, address_of: Callable[[Exchange], str]) -> Condition:
    """A CidrRange."""
    if "prefix_len" not in fields:
        fields.problems.add(fields.path, "prefix_len is missing; Envoy would take it for 0, which is every address")
    text = fields.take("address_prefix", str, "")
    length = fields.take("prefix_len", int, 0)
    fields.end()
    try:
        network = ip_network(f"{text}/{length}", strict=False)
    except ValueError:
        fields.problems.add(fields.path, f"not a network: {text!r} with {length} bits")
        return never

    def is_within(exchange: Exchange) -> bool:
        address = parse_ip(address_of(exchange))
        return address is not None and address in network

    return is_within
