"""Changes of a route to a request (key reference section 6.5): path, host, header fields."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import HeaderChanges
from pymosn.core.chars import PATH, escape
from pymosn.core.failure import BAD_REWRITE, REPEATED_FIELD, Failure
from pymosn.core.headers import to_bytes, to_text
from pymosn.core.message import CONNECT
from pymosn.core.uri import PathPolicy, rewritten_path
from pymosn.routing.matchers import path_text
from pymosn.routing.regex import Replacement

#: The field with the original path, for the upstream.
ORIGINAL_PATH: Final = b"x-mosn-original-path"
#: The fields with the host before a rewrite, and with the number of the attempt, for the upstream.
FORWARDED_HOST: Final = b"x-forwarded-host"
ATTEMPT_COUNT: Final = b"x-envoy-attempt-count"


class PathRewrite:
    """Changes the path of a request."""

    def apply(self, path: bytes) -> bytes:
        """The new path for a path in normal form."""
        raise NotImplementedError


class PrefixRewrite(PathRewrite):
    """Replaces the matched prefix. A path without it, which a filter has set after the match, remains as in MOSN."""

    def __init__(self, prefix: bytes, replacement: str, folds: bool = False) -> None:
        """`prefix`: the one in the match; empty for a path match, which replaces the whole path.

        `folds`: ASCII letters of the prefix are equal in either case.
        """
        self._prefix: bytes = prefix.lower() if folds else prefix
        self._replacement: bytes = path_text(replacement)
        self._folds = folds

    def apply(self, path: bytes) -> bytes:
        prefix = self._prefix
        if not prefix:
            return self._replacement
        if self._folds:
            return self._replacement + path[len(prefix) :] if path.lower().startswith(prefix) else path
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
        *,
        host_from_path: RegexRewrite | None = None,
        appends_host: bool = False,
        counts_attempts: bool = False,
    ) -> None:
        """`host` takes precedence over `host_header`, the request header that names the host.

        `host_from_path`: else the host is what it makes of the path. `appends_host`: a rewritten host is appended to
        X-Forwarded-Host. `counts_attempts`: the upstream gets the number of the attempt.
        """
        self.headers = headers
        self.path = path
        self.host = host
        self.host_header = host_header.lower()
        self.host_from_path = host_from_path
        self.appends_host = appends_host
        self.counts_attempts = counts_attempts

    def apply(self, exchange: Exchange) -> Failure | None:
        """Changes header fields and host. Returns a failure if the request names several hosts."""
        head = exchange.request
        if self.headers is not None:
            self._change_headers(self.headers, exchange)
        if self.host:
            self.rewrite_host(exchange, self.host.encode())
        elif self.host_header:
            values = head.headers.get_all(self.host_header)
            if len(values) > 1:
                return REPEATED_FIELD
            if values:
                self.rewrite_host(exchange, to_bytes(values[0]))
        elif self.host_from_path is not None:
            self.rewrite_host(exchange, self.host_from_path.apply(exchange.original_path or head.raw_path))
        if self.path is not None and exchange.original_path:
            head.headers.remove_raw(ORIGINAL_PATH)
            head.headers.add_raw(ORIGINAL_PATH, exchange.original_path)
        return None

    def rewrite_host(self, exchange: Exchange, host: bytes) -> None:
        """Makes `host` the host of the request, if it is valid; the one before it goes to X-Forwarded-Host on demand."""
        head = exchange.request
        before = head.raw_host
        if not rewrite_host(exchange, host) or not self.appends_host or not before:
            return
        known = head.headers.joined(to_text(FORWARDED_HOST))
        values = [] if known is None else [to_bytes(known)]
        # Each attempt may rewrite the host.
        if values and values[0].rpartition(b",")[2].strip() in (before, exchange.original_host):
            return
        head.headers.remove_raw(FORWARDED_HOST)
        head.headers.add_raw(FORWARDED_HOST, b",".join([*values, before]))

    def count_attempt(self, exchange: Exchange) -> None:
        """Sends the number of the attempt to the upstream, if the route asks for it."""
        if self.counts_attempts:
            headers = exchange.request.headers
            headers.remove_raw(ATTEMPT_COUNT)
            headers.add_raw(ATTEMPT_COUNT, b"%d" % exchange.attempts)

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


def rewrite_host(exchange: Exchange, host: bytes) -> bool:
    """Makes `host` the host of the request, and notes the original one.

    Returns False, and does nothing, if it is invalid or the protocol has no hosts.
    """
    head = exchange.request
    before = head.raw_host
    if not head.rewrite_host(host):
        return False
    if not exchange.original_host:
        exchange.original_host = before
    return True
