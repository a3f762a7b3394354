"""MOSN's `ip_access`: allows or denies clients by their address (section 13)."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.address_ranges import parse_network
from pymosn.core.failure import ACCESS_DENIED
from pymosn.filters.settings import Block, works
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.addresses import Network, parse_ip
from pymosn.filters.stream.problems import Problems

#: Number of addresses whose result is cached.
REMEMBERED: Final = 4096
#: Characters of the longest text that is cached; no address is longer.
LONGEST: Final = 64


class IpRule(Block, kw_only=True):
    """A list of addresses, and the action for them."""

    action: str = ""
    addrs: list[str] = []


class Settings(Block, kw_only=True):
    """`ip_access`."""

    default_action: Annotated[str, works("allow or deny; anything else is rejected")] = "allow"
    header: Annotated[str, works("a header with the client's address; of a list the last one counts")] = ""
    ips: Annotated[list[IpRule], works("the first entry that contains the address decides")] = []


class IpAccessFilter(StreamFilter):
    """The first list with the client's address decides, else `default_action`; denied requests get 403.

    With `header`, its value is the client's address; of a list the last one, which the nearest proxy added. Invalid
    addresses are denied. Cost per request: one dict lookup; the lists are searched for addresses that are not cached.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        self._header = settings.header
        if self._header:
            problems.header(".header", self._header)
        self._default = _is_allowing(settings.default_action or "allow", ".default_action", problems)
        self._lists: list[tuple[bool, list[Network]]] = []
        for i, rule in enumerate(settings.ips):
            path = f".ips[{i}]"
            networks: list[Network] = []
            problems.require(rule.addrs, f"{path}.addrs", "at least one address is required")
            for j, text in enumerate(rule.addrs):
                try:
                    networks.append(parse_network(text))
                except ValueError:
                    problems.add(f"{path}.addrs[{j}]", f"not an IP address or network: {text!r}")
            self._lists.append((_is_allowing(rule.action, f"{path}.action", problems), networks))
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
            allowed = self._allows(address)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            if len(address) <= LONGEST:
                self._known[address] = allowed
        if allowed:
            return None
        self.context.counter("denied").value += 1
        exchange.failure = ACCESS_DENIED
        return Reply(403)

    def _allows(self, text: str) -> bool:
        address = parse_ip(text)
        if address is None:
            return False
        for allows, networks in self._lists:
            if any(address in network for network in networks):
                return allows
        return self._default


def _is_allowing(action: str, path: str, problems: Problems) -> bool:
    problems.require(action in ("allow", "deny"), path, f"must be allow or deny, not {action!r}")
    return action == "allow"


DIFFERENCES: Final = (
    ("a list in `header`", "no address: `default_action`", "the last one, which the nearest proxy wrote, counts"),
    ("an invalid address", "`default_action`", "403"),
    ("actions other than allow and deny", "allow", "the file is rejected"),
)
SPEC: Final = FilterSpec("ip_access", Settings, IpAccessFilter, "", DIFFERENCES, guards=True)
