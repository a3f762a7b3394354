"""The messages of envoy.service.auth.v3: the description of a request, and the verdict of the service."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.api.tls import TlsInfo
from pymosn.core.headers import to_text
from pymosn.core.proto_wire import Fields, integer, message, read_struct, struct, text, text_map

#: The method of the service.
CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
#: Names of protocols as Envoy writes them.
_PROTOCOLS: Final = {"Http1": "HTTP/1.1", "Http2": "HTTP/2"}

APPEND: Final = 0
ADD_IF_ABSENT: Final = 1
OVERWRITE: Final = 2
OVERWRITE_IF_EXISTS: Final = 3


class Change(NamedTuple):
    """A change of a header: a name, a value and APPEND, ADD_IF_ABSENT, OVERWRITE or OVERWRITE_IF_EXISTS."""

    name: str
    value: str
    action: int


class Verdict(NamedTuple):
    """What the service has decided. `status`: 0 to allow the request, else the one for the client.

    `changes`: of the request if it is allowed, else the headers for the client. `removed`: headers of the request.
    """

    status: int
    changes: list[Change]
    body: bytes = b""
    removed: tuple[str, ...] = ()
    for_client: tuple[Change, ...] = ()
    query_set: tuple[tuple[str, str], ...] = ()
    query_removed: tuple[str, ...] = ()
    metadata: Mapping[str, object] = {}


class Description(NamedTuple):
    """The request, for the service. `headers`: also the pseudo headers. `body`: None if it is not sent."""

    headers: list[tuple[str, str]]
    body: bytes | None
    is_raw: bool
    extensions: Mapping[str, str]
    metadata: Mapping[str, Mapping[str, object]]
    with_certificate: bool
    with_tls: bool


def peer(address: str, port: int, principal: str, certificate: str = "") -> bytes:
    """The body of an AttributeContext.Peer."""
    socket = text(2, address) + integer(3, port)
    return message(1, message(1, socket)) + text(4, principal) + text(5, certificate)


def source_of(connection: Connection, address: str, with_certificate: bool) -> bytes:
    """The peer that has sent a request; `address`: the client's, which proxies may have forwarded."""
    certificate = None if connection.tls is None else connection.tls.certificate
    if certificate is None or not certificate.is_verified:
        return peer(address, connection.remote_port, "")
    principal = next(iter((*certificate.uris, *certificate.dns_names, certificate.subject)), "")
    pem = quote(ssl.DER_cert_to_PEM_cert(certificate.der), safe="") if with_certificate else ""
    return peer(address, connection.remote_port, principal, pem)


def destination_of(connection: Connection) -> bytes:
    """The peer that has received it."""
    uris = () if connection.tls is None else connection.tls.own_uris
    return peer(*connection.destination(), next(iter(uris), ""))


def _session(tls: TlsInfo | None) -> bytes:
    return b"" if tls is None else message(12, text(1, tls.server_name))


def connection_request(connection: Connection, with_certificate: bool, now: float) -> bytes:
    """The CheckRequest for a connection. `now`: seconds since 1970."""
    peers = message(1, source_of(connection, connection.remote_ip, with_certificate)) + message(
        2, destination_of(connection)
    )
    return message(1, peers + message(4, message(1, _time(now))) + _session(connection.tls))


def http_request(exchange: Exchange, what: Description, now: float) -> bytes:
    """The CheckRequest for a request."""
    request = exchange.request
    target = to_text(request.raw_target()) if request.has_path() else ""
    length = int(request.content_length) if what.body is None else len(what.body)
    http = (
        text(1, request.headers.get("x-request-id", ""))
        + text(2, request.method)
        + text_map(3, what.headers)
        + text(4, target)
        + text(5, request.host)
        + text(6, request.scheme)
        + integer(9, length)
        + text(10, _PROTOCOLS.get(exchange.protocol, exchange.protocol))
    )
    if what.body:
        http += text(12 if what.is_raw else 11, what.body if what.is_raw else what.body.decode("utf-8", "replace"))
    connection = exchange.connection
    attributes = (
        message(1, source_of(connection, exchange.remote_ip, what.with_certificate))
        + message(2, destination_of(connection))
        + message(4, message(1, _time(now)) + message(2, http))
        + text_map(10, what.extensions.items())
    )
    if what.metadata:
        entries = [message(1, text(1, name) + message(2, struct(values))) for name, values in what.metadata.items()]
        attributes += message(11, b"".join(entries))
    return message(1, attributes + (_session(connection.tls) if what.with_tls else b""))


def _time(now: float) -> bytes:
    seconds = int(now)
    return integer(1, seconds) + integer(2, int((now - seconds) * 1e9))


def read_verdict(body: bytes) -> Verdict:
    """A CheckResponse. Raises ValueError for one that is invalid, or that reports an error of the service."""
    response = Fields(body)
    metadata = read_struct(response.inner(4))
    if 5 in response:
        raise ValueError("the service has reported an error")
    if response.inner(1).number(1) != 0:
        denied = response.inner(2)
        status = denied.inner(1).number(1) or 403
        if not 200 <= status <= 599:
            status = 403
        return Verdict(status, _changes(denied.items(2)), denied.raw(3), metadata=metadata)
    if 2 in response:
        raise ValueError("a response that both allows and denies")
    allowed = response.inner(3)
    return Verdict(
        0,
        _changes(allowed.items(2)),
        removed=tuple(allowed.texts(5)),
        for_client=tuple(_changes(allowed.items(6), appends=True)),
        query_set=tuple((item.text(1), item.text(2)) for item in allowed.items(7)),
        query_removed=tuple(allowed.texts(8)),
        metadata=metadata,
    )


def _changes(options: list[Fields], appends: bool = False) -> list[Change]:
    """HeaderValueOptions. `appends`: whether an option without an action appends, instead of Envoy's overwriting."""
    found: list[Change] = []
    for option in options:
        header = option.inner(1)
        action = option.number(3)
        if 2 in option:
            action = APPEND if option.inner(2).number(1) else OVERWRITE
        elif action == APPEND and not appends:
            action = OVERWRITE
        value = header.raw(2) or header.raw(3)
        found.append(Change(header.text(1), value.decode("latin-1"), action))
    return found
