"""What a listener demands of the clients of each host, to refuse requests that belong to another connection (421).

A client chooses the chain and TLS context of its connection by the server name that it sends, but its requests may name any
host. Without this check it could reach a host that demands client certificates through one that does not.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import Connection
from pymosn.core.addresses import normal_ip
from pymosn.network.chain_match import TLS, ChainConditions, ChainTable
from pymosn.network.filter_chains import port_of
from pymosn.network.tls.contexts import ServerContexts


class HostDemands:
    """The demands of one listener. Immutable."""

    def __init__(self, conditions: list[ChainConditions], contexts: list[ServerContexts | None]) -> None:
        """The two lists have one entry per chain; the contexts are None if the chain does not terminate TLS."""
        self._table = ChainTable(conditions)
        self._contexts = contexts

    def are_equal(self, may_be_plain: bool) -> bool:
        """Whether all clients meet the same demand. `may_be_plain`: chains with TLS serve plain text too (`inspector`)."""
        demands = {b""} if may_be_plain else set()
        for contexts in self._contexts:
            demands.update([b""] if contexts is None else [context.demand for context in contexts.contexts])
        return len(demands) <= 1

    def are_met(self, connection: Connection, authority: bytes) -> bool:
        """Whether a request for `authority`, in lower case, may come over this connection.

        True if a connection of this client that sends the host as its server name would meet the same demand. A request
        without a host, or for an IP address, must meet what is demanded without a server name, if anything is.
        """
        tls = connection.tls
        name = server_name_of(authority)
        if tls is not None and tls.server_name == name:
            return True
        protocols = () if tls is None else tls.offered_protocols
        index: i64 = self._table.find(port_of(connection), name, TLS, protocols, connection.remote_ip)
        if index < 0:
            return True  # no connection is possible, so nothing is demanded
        contexts = self._contexts[index]
        demand = b"" if contexts is None else contexts.for_host(name, protocols).demand
        return demand == (b"" if tls is None else tls.client_demand) or (not name and not demand)


def server_name_of(authority: bytes) -> str:
    """The server name that a client sends for a host with an optional port; empty for an IP address."""
    name, colon, port = authority.rpartition(b":")
    if not colon or b"]" in port:
        name = authority
    if name.startswith(b"["):
        return ""
    text = name.decode("ascii", "replace").removesuffix(".")
    return "" if normal_ip(text) else text
