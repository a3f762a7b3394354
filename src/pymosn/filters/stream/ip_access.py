"""MOSN's `ip_access`: clients are let in or not by their address (section 13)."""

from __future__ import annotations

from typing import Any, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import ACCESS_DENIED
from pymosn.filters.stream.addresses import Network, parse_ip, parse_network
from pymosn.filters.stream.problems import Problems

ALLOW: Final = "allow"
DENY: Final = "deny"
#: Addresses whose answer is remembered.
REMEMBERED: Final = 4096


class IpAccessFilter(StreamFilter):
    """The first list that has the client's address decides, else `default_action`; who may not come in gets 403.

    With `header` its value is the client's address; of several in a row the last, which the nearest proxy wrote. What is no
    address is not let in. Per request: one look-up in a dict; the lists are searched for addresses that are not in it.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        self._header: str = config.header
        if self._header:
            problems.header(".header", self._header)
        self._default = _is_allowing(config.default_action or ALLOW, ".default_action", problems)
        self._lists: list[tuple[bool, list[Network]]] = []
        for place, entry in enumerate(config.ips):
            path = f".ips[{place}]"
            networks: list[Network] = []
            if not entry.addrs:
                problems.add(f"{path}.addrs", "at least one address is needed")
            for number, text in enumerate(entry.addrs):
                try:
                    networks.append(parse_network(text))
                except ValueError:
                    problems.add(f"{path}.addrs[{number}]", f"not an IP address or network: {text!r}")
            self._lists.append((_is_allowing(entry.action, f"{path}.action", problems), networks))
        problems.end()
        self._known: dict[str, bool] = {}

    def on_request(self, exchange: Exchange) -> Reply | None:
        address = exchange.remote_ip
        if self._header:
            values = exchange.request.headers.get_all(self._header)
            if values and any(values):
                address = values[-1].rpartition(",")[2]
        allowed = self._known.get(address)
        if allowed is None:
            allowed = self._lets_in(address)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[address] = allowed
        if allowed:
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        return Reply(403)

    def _lets_in(self, text: str) -> bool:
        address = parse_ip(text)
        if address is None:
            return False
        for allows, networks in self._lists:
            if any(address in network for network in networks):
                return allows
        return self._default


def _is_allowing(action: str, path: str, problems: Problems) -> bool:
    if action not in (ALLOW, DENY):
        problems.add(path, f"must be allow or deny, not {action!r}")
    return action == ALLOW
