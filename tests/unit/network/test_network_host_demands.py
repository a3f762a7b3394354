"""Which hosts a connection may name, where chains demand different things of clients."""

import ssl

import pytest
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api.network import Connection
from pymosn.network.chain_match import ChainConditions
from pymosn.network.host_demands import HostDemands
from pymosn.network.tls.contexts import ServerContext, ServerContexts
from pymosn.network.tls.settings import ServerSettings, TlsSettings


def contexts(demand: bytes) -> ServerContexts:
    settings = ServerSettings(TlsSettings(), verifies=bool(demand), requires=bool(demand))
    return ServerContexts([ServerContext(settings, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), demand)])


OPEN = ChainConditions(server_names=("open.example",), transport="tls")
CLOSED = ChainConditions(server_names=("closed.example",), transport="tls")
PLAIN = ChainConditions(transport="raw_buffer")


def connection(name: str = "", demand: bytes = b"") -> Connection:
    """A connection with TLS for a server name; without one it is plain text."""
    made = Connection()
    made.local_ip, made.local_port, made.remote_ip = "10.0.0.1", 443, "10.0.0.2"
    if name:
        made.tls = tls_info(certificate() if demand else None, server_name=name)
        made.tls.client_demand = demand
    return made


@pytest.mark.parametrize("trusts_plain", [True, False])
def test_hosts_of_chains_with_server_names_are_compared(trusts_plain: bool) -> None:
    demands = HostDemands([OPEN, CLOSED, PLAIN], [contexts(b""), contexts(b"ca"), None], False, trusts_plain=trusts_plain)
    assert not demands.are_none()
    assert not demands.are_met(connection("open.example"), b"closed.example")
    assert demands.are_met(connection("open.example"), b"open.example")
    assert demands.are_met(connection("closed.example", b"ca"), b"closed.example")
    # Plain text has been let in by a chain of its own; whether it may name hosts of others is for the configuration.
    assert demands.are_met(connection(), b"closed.example") is trusts_plain


def test_in_a_mesh_chains_without_names_do_not_compare_hosts() -> None:
    """So that a new CA does not make open connections useless."""
    conditions = [ChainConditions(transport="tls", protocols=("istio",)), PLAIN]
    assert HostDemands(conditions, [contexts(b"ca"), None], False, trusts_plain=True).are_none()
    assert not HostDemands(conditions, [contexts(b"ca"), None], False).are_none()
