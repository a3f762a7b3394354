"""What the proxy tells an upstream about the client: X-Forwarded-For, X-Forwarded-Proto, X-Request-Id."""

from __future__ import annotations

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.core.addresses import normal_ip
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead
from pymosn.network.dialer import host_field
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import RequestIds
from pymosn.routing.actions import GLOBAL_TIMEOUT, TRY_TIMEOUT
from pymosn.routing.rewrites import RequestChanges, rewrite_host


def add_forwarding_fields(exchange: Exchange, options: ProxyOptions, ids: RequestIds) -> None:
    """Adds the fields that the listener is configured to add; they are HTTP's."""
    head = exchange.request
    if head.is_rpc:
        return
    connection = exchange.connection
    if options.filters.on_request:
        # What the codec saw on the way in may not be true any more.
        headers = head.headers
        head.has_forwarded_for = headers.has_raw(b"x-forwarded-for")
        head.has_forwarded_proto = headers.has_raw(b"x-forwarded-proto")
        head.has_request_id = headers.has_raw(b"x-request-id")
    if head.has_timeout and not options.trusts_peer:
        # Heard, as in MOSN, but not passed on: the next proxy believes us.
        for name in (GLOBAL_TIMEOUT, TRY_TIMEOUT):
            head.headers.remove_raw(name)
    lines = b""
    if not head.raw_host and head.headers.get_raw(b"host") is None:
        # An HTTP/1.0 client may say none, an HTTP/1.1 upstream must be told one.
        lines = b"host: " + host_field(exchange.upstream_address).encode() + b"\r\n"
    if options.x_forwarded:
        if head.has_forwarded_for or head.has_forwarded_proto:
            lines = lines + _append(head, connection, options.trusted_hops)
        else:
            if not connection.forwarded_lines:
                client_lines = b"x-forwarded-proto: " + head.scheme.encode() + b"\r\n"
                if connection.remote_ip:  # a client on a unix socket has none
                    client_lines = b"x-forwarded-for: " + connection.remote_ip.encode() + b"\r\n" + client_lines
                connection.forwarded_lines = client_lines
            lines = lines + connection.forwarded_lines
    if options.x_request_id and not head.has_request_id:
        lines = lines + b"x-request-id: " + ids.next() + b"\r\n"
    if lines:
        head.headers.block = head.headers.block + lines


def change_request(exchange: Exchange, changes: RequestChanges | None) -> bool:
    """What a filter (the variable `authority`) and then the route change; False when the rewritten path is none."""
    own = exchange.own_variables
    if own is not None and "authority" in own:
        rewrite_host(exchange, own["authority"].encode("utf-8", "surrogateescape"))
    return changes is None or changes.apply(exchange)


def change_response(exchange: Exchange, headers: Headers) -> None:
    """What the route changes about the head of a reply, and the cookie that its hash policy makes."""
    route = exchange.route
    if route is not None and route.response_changes is not None:
        route.response_changes.apply(headers, exchange)
    if exchange.set_cookie and not exchange.request.is_rpc:
        headers.add_raw(b"set-cookie", exchange.set_cookie)


def forwarded_ip(head: RequestHead, hops: int) -> str:
    """The client's IP address by the word of `hops` trusted proxies, each of which appended whom it was connected to.

    That is the entry of X-Forwarded-For that is `hops` from the right: the nearest proxy wrote the last one, and what
    stands left of the client's is the client's own. Empty when there are fewer, or when it is no IP address: then somebody
    came past the proxies, and only the socket is certain.
    """
    entries = _believed(head, hops)
    return normal_ip(entries[0]) if entries else ""


def _believed(head: RequestHead, hops: int) -> list[str]:
    """The entries of X-Forwarded-For that trusted proxies wrote; none when they cannot all have done so."""
    if not head.has_forwarded_for or head.is_rpc:
        return []
    said = ",".join(head.headers.get_all("x-forwarded-for")).split(",")
    entries = [text for part in said if (text := part.strip(" \t"))][-hops:]
    return entries if len(entries) == hops and normal_ip(entries[0]) else []


def _append(head: RequestHead, connection: Connection, hops: int) -> bytes:
    chain = connection.remote_ip
    if head.has_forwarded_for:
        said = _believed(head, hops) if hops > 0 else head.headers.get_all("x-forwarded-for")
        chain = ", ".join([*said, *([chain] if chain else [])])
        head.headers.remove_raw(b"x-forwarded-for")
    lines = b"x-forwarded-for: " + chain.encode("utf-8", "surrogateescape") + b"\r\n" if chain else b""
    if not head.has_forwarded_proto:
        lines += b"x-forwarded-proto: " + head.scheme.encode() + b"\r\n"
    return lines
