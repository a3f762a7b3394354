"""Values of labels that a configuration adds: the attributes of CEL that are known here, and texts in quotes.

An expression is one attribute, `string(...)` of one, or a text. Anything else needs an interpreter for CEL, which would run
for each request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.core.addresses import address_port
from pymosn.core.headers import to_text

#: The value of a label for an exchange; empty if it has none.
Value = Callable[[Exchange], str]

_TEXT: Final = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")
_STRING: Final = re.compile(r"string\(\s*(.*?)\s*\)")
_HEADER: Final = re.compile(r"""(request|response)\.headers\[\s*(?:'([\w-]+)'|"([\w-]+)")\s*\]""")
_NODE: Final = re.compile(r"""(?:xds\.)?node\.metadata((?:\[\s*(?:'[^'\\]+'|"[^"\\]+")\s*\]|\.\w+)+)""")
_KEY: Final = re.compile(r"""\[\s*(?:'([^'\\]+)'|"([^"\\]+)")\s*\]|\.(\w+)""")


def value_of(expression: str, node: Mapping[str, Any]) -> Value | None:
    """The value that an expression has; None if it is not supported. `node`: the metadata of the node."""
    text = expression.strip()
    inside = _STRING.fullmatch(text)
    if inside is not None:
        text = inside.group(1)
    quoted = _TEXT.fullmatch(text)
    if quoted is not None:
        return partial(_constant, quoted.group(1) or quoted.group(2) or "")
    header = _HEADER.fullmatch(text)
    if header is not None:
        return partial(_header, header.group(1), header.group(2) or header.group(3))
    of_node = _NODE.fullmatch(text)
    if of_node is not None:
        return partial(_constant, _in_node(node, [next(filter(None, key)) for key in _KEY.findall(of_node.group(1))]))
    return _ATTRIBUTES.get(text)


def _constant(text: str, exchange: Exchange) -> str:
    return text


def _header(side: str, name: str, exchange: Exchange) -> str:
    head = exchange.request if side == "request" else exchange.response
    return "" if head is None else head.headers.get(name, "")


def _in_node(node: Mapping[str, Any], keys: list[str]) -> str:
    found: Any = node
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _path(exchange: Exchange) -> str:
    return to_text(exchange.request.raw_target())


def _bare_path(exchange: Exchange) -> str:
    return to_text(exchange.request.raw_path)


def _status(exchange: Exchange) -> str:
    return "" if exchange.response is None else str(exchange.response.status)


def _grpc_status(exchange: Exchange) -> str:
    status = exchange.call_status
    return str(status) if status >= 0 else ""


def _protocol(exchange: Exchange) -> str:
    return {"Http1": "HTTP/1.1", "Http2": "HTTP/2"}.get(exchange.protocol, exchange.protocol)


def _port(address: str) -> str:
    return str(address_port(address) or "")


def _server_name(exchange: Exchange) -> str:
    tls = exchange.connection.tls
    return "" if tls is None else tls.server_name


def _tls_version(exchange: Exchange) -> str:
    tls = exchange.connection.tls
    return "" if tls is None else tls.version


def _is_mutual(exchange: Exchange) -> str:
    tls = exchange.connection.tls
    return "true" if tls is not None and tls.certificate is not None and tls.certificate.is_verified else "false"


_ATTRIBUTES: Final[dict[str, Value]] = {
    "request.host": lambda exchange: to_text(exchange.request.raw_host),
    "request.method": lambda exchange: exchange.request.method,
    "request.path": _path,
    "request.url_path": _bare_path,
    "request.scheme": lambda exchange: exchange.connection.scheme,
    "request.protocol": _protocol,
    "request.useragent": partial(_header, "request", "user-agent"),
    "request.referer": partial(_header, "request", "referer"),
    "request.id": partial(_header, "request", "x-request-id"),
    "response.code": _status,
    "response.grpc_status": _grpc_status,
    "response.code_details": lambda exchange: "via_upstream" if exchange.failure is None else exchange.failure.reason,
    "source.address": lambda exchange: exchange.remote_address,
    "source.port": lambda exchange: _port(exchange.remote_address),
    "destination.address": lambda exchange: exchange.connection.original_destination or exchange.local_address,
    "destination.port": lambda exchange: _port(exchange.connection.original_destination or exchange.local_address),
    "upstream.address": lambda exchange: exchange.upstream_address,
    "upstream.port": lambda exchange: _port(exchange.upstream_address),
    "connection.requested_server_name": _server_name,
    "connection.tls_version": _tls_version,
    "connection.mtls": _is_mutual,
    "xds.cluster_name": lambda exchange: exchange.cluster_name,
    "xds.route_name": lambda exchange: "" if exchange.route is None else exchange.route.label,
}
