"""Changes of a route to a request (key reference section 6.5): path, host, header fields."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import HeaderChanges
from pymosn.core.chars import PATH
from pymosn.core.failure import BAD_REWRITE, REPEATED_FIELD, Failure
from pymosn.core.headers import to_bytes
from pymosn.core.message import RequestHead
from pymosn.core.uri import normalize_path
from pymosn.routing.matchers import escape, path_text
from pymosn.routing.regex import Replacement

#: The field with the original path, for the upstream.
ORIGINAL_PATH: Final = b"x-mosn-original-path"


class PathRewrite:
    """Changes the path of a request."""

    def apply(self, path: bytes) -> bytes:
        """The new path for a path in normal form."""
        raise NotImplementedError


class PrefixRewrite(PathRewrite):
    """Replaces the matched prefix."""

    def __init__(self, prefix: bytes, replacement: str) -> None:
        """`prefix`: the one in the match; empty for a path match, which replaces the whole path."""
        self._size = len(prefix)
        self._is_whole = not prefix
        self._replacement: bytes = path_text(replacement)

    def apply(self, path: bytes) -> bytes:
        return self._replacement if self._is_whole else self._replacement + path[self._size :]


class RegexRewrite(PathRewrite):
    """Replaces every match of an expression."""

    def __init__(self, pattern: str, substitution: str) -> None:
        """Raises PatternError."""
        self._replacement = Replacement(pattern, substitution)

    def apply(self, path: bytes) -> bytes:
        return self._replacement.apply(path)


def normal_form(path: bytes) -> bytes | None:
    """The normal form of a rewritten path: rooted, escaped, without double slashes; None if it escapes the root."""
    if not path.startswith(b"/"):
        path = b"/" + path
    return normalize_path(escape(path, PATH))


class RequestChanges:
    """The changes of a route to a request: header fields first, then the host, then the path."""

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
        """Changes the request. Returns a failure for an invalid rewritten path, and if the request names several hosts."""
        head = exchange.request
        headers = self.headers
        if headers is not None:
            headers.apply(head.headers, exchange)
        if self.host:
            rewrite_host(exchange, self.host.encode())
        elif self.host_header:
            values = head.headers.get_all(self.host_header)
            if len(values) > 1:
                return REPEATED_FIELD
            if values:
                rewrite_host(exchange, to_bytes(values[0]))
        path = self.path
        return None if path is None or _rewrite_path(exchange, head, path) else BAD_REWRITE


def _rewrite_path(exchange: Exchange, head: RequestHead, rewrite: PathRewrite) -> bool:
    old = head.raw_path
    if old == b"*" or not old:  # not every protocol has paths
        return True
    changed = rewrite.apply(old)
    if changed == old:
        return True
    new = normal_form(changed)
    if new is None:
        return False
    if new != old:
        exchange.original_path = old
        head.raw_path = new
        head.headers.remove_raw(ORIGINAL_PATH)
        head.headers.add_raw(ORIGINAL_PATH, old)
    return True


def rewrite_host(exchange: Exchange, host: bytes) -> None:
    """Makes `host` the host of the request, if it is valid and the protocol has hosts, and notes the original one."""
    head = exchange.request
    before = head.raw_host
    if head.rewrite_host(host) and not exchange.original_host:
        exchange.original_host = before
