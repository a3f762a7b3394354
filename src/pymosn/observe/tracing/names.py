"""The names of spans. Their number must be small, so that they contain nothing that differs with each request."""

from __future__ import annotations

from typing import Final

#: The methods of RFC 9110, PATCH, and those of WebDAV that are common; others are `HTTP`.
_METHODS: Final[dict[bytes, str]] = {
    key: key.decode()
    for key in b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK".split()
}
#: Characters of the name of a service and of a method.
_LONGEST: Final = 256


def method_name(method: bytes) -> str:
    """The method of an HTTP request, in the name of a span."""
    return _METHODS.get(method, "HTTP")


def method_text(method: bytes) -> str:
    """The method of an HTTP request itself."""
    known = _METHODS.get(method)
    return method.decode("utf-8", "replace") if known is None else known


def span_name(is_http: bool, method: bytes, label: str, service: str, rpc_method: str, protocol: str) -> str:
    """`service/method` of a call; else the method, and the label of the route if it has one; else `protocol`."""
    if service or rpc_method:
        name = (
            f"{service[:_LONGEST]}/{rpc_method[:_LONGEST]}" if service and rpc_method else (service or rpc_method)[:_LONGEST]
        )
        return name.encode("utf-8", "replace").decode()
    if not is_http:
        return protocol
    return f"{method_name(method)} {label}" if label else method_name(method)
