"""What a listener demands of the clients of each host, to refuse requests that belong to another connection (421).

A client chooses the chain and TLS context of its connection by the server name that it sends, but its requests may name any
host. Without this check it could reach a host that demands client certificates through one that does not.
"""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import Connection
from pymosn.core.addresses import normal_ip
from pymosn.core.authority import split_authority
from pymosn.network.chain_match import TLS, ChainConditions, ChainTable
from pymosn.network.filter_chains import ends_of
from pymosn.network.tls.contexts import ServerContexts


class HostDemands:
    """The demands of one listener. Immutable."""

    def __init__(
        self,
        conditions: list[ChainConditions],
        contexts: list[ServerContexts | None],
        may_be_plain: bool,
        *,
        trusts_plain: bool = False,
    ) -> None:
        """The two lists have one entry per chain; the contexts are None if the chain does not terminate TLS.

        `may_be_plain`: chains with TLS serve plain text too (`inspector`). `trusts_plain`: plain text that has a chain may
        name any host, and without chains that are chosen by server names, so may all clients.
        """
        self._trusts_plain = trusts_plain
        self._table = ChainTable(conditions)
        self._contexts = contexts
        demands = {b""} if may_be_plain else set()
        required: list[bool] = []
        for chain in contexts:
            demands.update([b""] if chain is None else [context.demand for context in chain.contexts])
            required += [False] if chain is None else [context.needs_certificate for context in chain.contexts]
        self._are_equal = len(demands) <= 1
        self._is_required = any(required)
        self._has_names = any(entry.server_names for entry in conditions)
        self._is_always_required = all(required)

    def are_none(self) -> bool:
        """Whether every connection meets them: all have the same demand, and none needs a certificate."""
        if self._trusts_plain and not self._has_names:
            return True
        return self._are_equal and not self._is_required

    def are_met_by(self, connection: Connection) -> bool:
        """Whether requests without a host, those of RPC, may come over this connection.

        A connection that was opened before certificates were required may have none.
        """
        return not self._is_always_required or has_certificate(connection)

    def are_met(self, connection: Connection, authority: bytes) -> bool:
        """Whether a request for `authority`, in lower case, may come over this connection.

        True if a connection of this client that sends the host as its server name would meet the same demand. A request
        without a host, or for an IP address, must meet what is demanded without a server name, if anything is.
        """
        if self._trusts_plain and connection.tls is None:
            return True
        if not self.are_met_by(connection):
            return False
        if self._are_equal:
            return True
        tls = connection.tls
        name = server_name_of(authority)
        is_own = tls is not None and tls.server_name == name
        if is_own and not self._is_required:
            return True
        protocols = () if tls is None else tls.offered_protocols
        ends = ends_of(connection)
        index: i64 = self._table.find_for(ends, name, TLS, protocols)
        if index < 0:
            # No connection of this client is possible. If the name has a chain, it is not for this client.
            return is_own or not self._table.has_name(int(ends.destination_port), name, ends.destination)
        contexts = self._contexts[index]
        if contexts is None:
            return is_own or self._demand_of(connection) == b""
        context = contexts.for_host(name, protocols)
        if context.needs_certificate and not has_certificate(connection):
            return False
        return is_own or context.demand == self._demand_of(connection) or (not name and not context.demand)

    def _demand_of(self, connection: Connection) -> bytes:
        """The demand that the connection has met."""
        tls = connection.tls
        return b"" if tls is None else tls.client_demand


def has_certificate(connection: Connection) -> bool:
    """Whether the client has a verified certificate."""
    tls = connection.tls
    certificate = None if tls is None else tls.certificate
    return certificate is not None and certificate.is_verified


def server_name_of(authority: bytes) -> str:
    """The server name that a client sends for a host with an optional port; empty for an IP address."""
    found = split_authority(authority)
    if found.is_literal():
        return ""
    text = found.host.decode("ascii", "replace").removesuffix(".")
    return "" if normal_ip(text) else text
