"""Changes of a route to a request (key reference section 6.5): path, host, header fields."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import HeaderChanges
from pymosn.core.chars import PATH, escape
from pymosn.core.failure import BAD_REWRITE, REPEATED_FIELD, Failure
from pymosn.core.headers import to_bytes
from pymosn.core.message import CONNECT
from pymosn.core.uri import PathPolicy, rewritten_path
from pymosn.routing.matchers import path_text
from pymosn.routing.regex import Replacement

#: The field with the original path, for the upstream.
ORIGINAL_PATH: Final = b"x-mosn-original-path"


class PathRewrite:
    """Changes the path of a request."""

    def apply(self, path: bytes) -> bytes:
        """The new path for a path in normal form."""
        raise NotImplementedError


class PrefixRewrite(PathRewrite):
    """Replaces the matched prefix. A path without it, which a filter has set after the match, remains as in MOSN."""

    def __init__(self, prefix: bytes, replacement: str) -> None:
        """`prefix`: the one in the match; empty for a path match, which replaces the whole path."""
        self._prefix = prefix
        self._replacement: bytes = path_text(replacement)

    def apply(self, path: bytes) -> bytes:
        prefix = self._prefix
        if not prefix:
            return self._replacement
        return self._replacement + path[len(prefix) :] if path.startswith(prefix) else path


class RegexRewrite(PathRewrite):
    """Replaces every match of an expression."""

    def __init__(self, pattern: str, substitution: str) -> None:
        """Raises PatternError."""
        self._replacement = Replacement(pattern, substitution)

    def apply(self, path: bytes) -> bytes:
        return self._replacement.apply(path)


class RequestChanges:
    """The changes of a route to a request.

    The path is rewritten before filters see the host (`rewrite_path`), the rest when the host is known: `apply`.
    """

    def __init__(
        self,
        headers: HeaderChanges | None = None,
        path: PathRewrite | None = None,
        host: str = "",
        host_header: str = "",
    ) -> None:
        """`host` takes precedence over `host_header`, the request header that names the host."""
        self.headers = headers
        self.path = path
        self.host = host
        self.host_header = host_header.lower()

    def apply(self, exchange: Exchange) -> Failure | None:
        """Changes header fields and host. Returns a failure if the request names several hosts."""
        head = exchange.request
        if self.headers is not None:
            self._change_headers(self.headers, exchange)
        if self.host:
            rewrite_host(exchange, self.host.encode())
        elif self.host_header:
            values = head.headers.get_all(self.host_header)
            if len(values) > 1:
                return REPEATED_FIELD
            if values:
                rewrite_host(exchange, to_bytes(values[0]))
        if self.path is not None and exchange.original_path:
            head.headers.remove_raw(ORIGINAL_PATH)
            head.headers.add_raw(ORIGINAL_PATH, exchange.original_path)
        return None

    def _change_headers(self, changes: HeaderChanges, exchange: Exchange) -> None:
        """Values with variables get the path from before the rewrite, as in MOSN."""
        head = exchange.request
        path = head.raw_path
        if exchange.original_path:
            head.raw_path = exchange.original_path
        try:
            changes.apply(head.headers, exchange)
        finally:
            head.raw_path = path


def rewrite_path(exchange: Exchange, changes: RequestChanges | None, policy: PathPolicy) -> Failure | None:
    """Applies the rewrite of a route, if it has one, and notes the original path; once per request.

    Returns a failure for a path that must be refused: see `rewritten_path`. `policy`: the listener's.
    """
    head = exchange.request
    before = head.raw_path
    # Not every protocol has paths; `*` is that of OPTIONS, and the path of a CONNECT is not sent.
    if changes is None or changes.path is None or before in (b"", b"*") or head.raw_method == CONNECT:
        return None
    changed = changes.path.apply(before)
    if changed == before:
        return None
    rooted = changed if changed.startswith(b"/") else b"/" + changed
    path = rewritten_path(escape(rooted, PATH), before, policy)
    if path is None:
        return BAD_REWRITE
    if path != before:
        exchange.original_path = before
        head.raw_path = path
    return None


def rewrite_host(exchange: Exchange, host: bytes) -> None:
    """Makes `host` the host of the request, if it is valid and the protocol has hosts, and notes the original one."""
    head = exchange.request
    before = head.raw_host
    if head.rewrite_host(host) and not exchange.original_host:
        exchange.original_host = before
