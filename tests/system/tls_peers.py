"""Configurations and clients for tests of listeners with TLS on the real program."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from pymosn_process import PATIENCE
from tests.kit.certificates import Issued, ca, client, server


def context_for(certificate: Issued, *, demands: Issued | None = None, **more: Any) -> dict[str, Any]:
    """A `tls_context` with PEM text. `demands`: the CA of the certificates that clients must have."""
    found = {"status": True, "cert_chain": certificate.certificate.decode(), "private_key": certificate.key.decode()}
    if demands is not None:
        found |= {"ca_cert": demands.certificate.decode(), "verify_client": True, "require_client_cert": True}
    return found | more


def proxy_filter(table: str) -> dict[str, Any]:
    settings = {"downstream_protocol": "Http1", "router_config_name": table, "extend_config": {"reason_header": True}}
    return {"type": "proxy", "config": settings}


def table_of(name: str, text: str = "", cluster: str = "") -> dict[str, Any]:
    """A router that answers with a text, or forwards to a cluster."""
    route = {"direct_response": {"status": 200, "body": text}} if text else {"route": {"cluster_name": cluster}}
    host = {"name": name, "domains": ["*"], "routers": [{"match": {"prefix": "/"}, **route}]}
    return {"router_config_name": name, "virtual_hosts": [host]}


def listener_of(name: str, port: int, chains: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"name": name, "address": f"127.0.0.1:{port}", "bind_port": True, "filter_chains": chains, **more}


def config_of(
    listeners: list[dict[str, Any]], tables: list[dict[str, Any]], clusters: dict[str, str] | None = None
) -> dict[str, Any]:
    """`clusters`: the address of the one host of each cluster."""
    made = [{"name": name, "lb_type": "LB_RANDOM", "hosts": [{"address": at}]} for name, at in (clusters or {}).items()]
    return {
        "servers": [{"default_log_path": "stdout", "processor": 1, "listeners": listeners, "routers": tables}],
        "cluster_manager": {"clusters": made},
    }


def client_context(*, certificate: Issued | None = None, alpn: tuple[str, ...] = (), trusts: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca().certificate.decode())
    context.check_hostname = False
    if not trusts:
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        certificate.load_into(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@contextlib.contextmanager
def opened(
    port: int, name: str = "server.test", *, context: ssl.SSLContext | None = None, source: str = "", **settings: Any
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection that sends `name` as its server name; empty for none. `settings`: of `client_context`."""
    context = context or client_context(**settings)
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0) if source else None) as raw:
        session = settings.get("session")
        with context.wrap_socket(raw, server_hostname=name or None, session=session) as secured:
            yield secured


def exchange(sock: socket.socket, host: str | None = "server.test", target: str = "/") -> tuple[int, bytes]:
    """Status and body of a GET on an open connection. `host`: None for HTTP/1.0 without a host."""
    line = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n" if host is not None else f"GET {target} HTTP/1.0\r\n\r\n"
    sock.sendall(line.encode())
    response = http.client.HTTPResponse(sock, method="GET")
    response.begin()
    return response.status, response.read()


def answer(port: int, name: str = "server.test", host: str | None = "server.test", **settings: Any) -> tuple[int, bytes]:
    """Status and body of a GET on a new TLS connection; (0, reason) if there is no handshake."""
    try:
        with opened(port, name, **settings) as secured:
            return exchange(secured, host)
    except ssl.SSLError as error:
        return 0, (error.reason or str(error)).encode()
    except (ConnectionError, http.client.BadStatusLine) as error:
        return 0, type(error).__name__.encode()


def plain_answer(port: int, host: str | None = "server.test") -> tuple[int, bytes]:
    """The same without TLS."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            return exchange(sock, host)
    except (ConnectionError, http.client.BadStatusLine) as error:
        return 0, type(error).__name__.encode()


__all__ = [
    "answer",
    "client",
    "client_context",
    "config_of",
    "context_for",
    "exchange",
    "listener_of",
    "opened",
    "plain_answer",
    "proxy_filter",
    "server",
    "table_of",
]
