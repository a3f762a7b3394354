"""The PROXY protocol: the step of a listener that reads the header, and the header for the hosts of a cluster.

Only a load balancer in a trusted network is believed. What others send is not inspected: a header of theirs is part
of their request, and invalid as such. From this step on the connection has the addresses of the header. Before it, in
admission and in the log of a refused header, it has those of its socket.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from mypy_extensions import i64

from pymosn.api.network import DONE, MORE_BYTES, REFUSE, Accepted, Connection, FirstBytes
from pymosn.api.protocol import ProtocolError
from pymosn.core.addresses import split_address
from pymosn.core.failure import (
    BAD_PROXY_HEADER,
    DETECTION_TIMEOUT,
    NO_PROXY_HEADER,
    PROXY_HEADER_TIMEOUT,
    TLS_HANDSHAKE_TIMEOUT,
)
from pymosn.protocol.proxy_protocol.header import TCP4, TCP6, UNIX, ProxyHeader, local_header, read_header, write_header


class ProxyProtocol(FirstBytes):
    """Reads the header of trusted peers. The first step of a listener."""

    def __init__(self, trusted: list[IPv4Network | IPv6Network], *, is_required: bool, timeout: float) -> None:
        """`trusted`: networks of load balancers; every peer on a unix socket is one, by the rights of the socket's file.

        `is_required`: trusted peers without a header are refused, instead of served under their own address. `timeout`:
        seconds from accepting the connection to the end of the header; 0: the timeouts of any other connection.
        """
        self._trusted = trusted
        self._is_required = is_required
        self._timeout = timeout

    def needs_bytes(self, accepted: Accepted) -> bool:
        return False  # peers that are not trusted may wait for the server to speak

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> i64:
        if not self._trusts(accepted.connection):
            return DONE
        accepted.time_limit = self._timeout
        if not data:
            return MORE_BYTES
        try:
            header = read_header(data)
        except ProtocolError as error:
            if error.failure is NO_PROXY_HEADER and not self._is_required:
                return DONE
            accepted.failure = error.failure
            return REFUSE
        if header is None:
            return MORE_BYTES
        accepted.consumed = header.size
        _apply(header, accepted.connection)
        return DONE

    def on_undecided(self, accepted: Accepted) -> i64:
        if accepted.waiting == 0 and not self._is_required:
            return DONE
        is_late = accepted.failure in (DETECTION_TIMEOUT, TLS_HANDSHAKE_TIMEOUT)
        accepted.failure = PROXY_HEADER_TIMEOUT if is_late else BAD_PROXY_HEADER
        return REFUSE

    def _trusts(self, connection: Connection) -> bool:
        if not connection.remote_ip:
            return True
        address = ip_address(connection.remote_ip)
        return any(address in network for network in self._trusted)


def client_preface(version: str, client: Connection | None) -> bytes:
    """The header that tells a host the addresses of a client; None: the connection is the proxy's own."""
    if client is None:
        return local_header(version)
    target_ip: str = client.local_ip
    target_port: i64 = client.local_port
    if client.original_destination:
        target_ip, port = split_address(client.original_destination)
        target_port = port
    return write_header(version, client.remote_ip, client.remote_port, target_ip, target_port)


def _apply(header: ProxyHeader, connection: Connection) -> None:
    """Gives the connection the addresses of the header. Without addresses it keeps its own, as specified."""
    if header.kind in (TCP4, TCP6, UNIX):
        connection.proxy_ip = connection.remote_ip
        connection.remote_ip = header.source_ip
        connection.remote_port = header.source_port
        connection.local_ip = header.target_ip
        connection.local_port = header.target_port
