"""Caches cacheable responses in memory, up to a limit."""

import re
import time
from collections import OrderedDict
from typing import Annotated

import msgspec

from pymosn.api import Exchange, Headers, Reply, StreamFilter

#: Fields of the connection, of the proxy, or of a single response.
NOT_KEPT = frozenset(
    ("age", "connection", "content-length", "date", "keep-alive", "trailer", "transfer-encoding", "upgrade")
)
#: Maximum cached variants of one target, which depend on request fields.
MOST_VARIANTS = 16
_MAX_AGE = re.compile(r"(?:^|[,\s])(s-maxage|max-age)=(\d+)")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`total`, `largest`: maximum bytes of all bodies, and of one. `longest`: maximum seconds in the cache."""

    total: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024
    largest: Annotated[int, msgspec.Meta(ge=1)] = 1024 * 1024
    longest: float = 3600.0


class Entry:
    """A cached response. `vary`: the request fields that it depends on, with their values."""

    def __init__(self, vary: list[tuple[str, str]], status: int, headers: list[tuple[str, str]], until: float) -> None:
        self.vary = vary
        self.status = status
        self.headers = headers
        self.body = b""
        self.made = time.monotonic()
        self.until = until


class Filling:
    """A response that is forwarded and collected at the same time."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.chunks: list[bytes] = []
        self.size = 0


class ResponseCache(StreamFilter):
    """Answers GET requests from memory as long as Cache-Control allows; other responses are streamed through."""

    Config = Settings
    changes_length = False

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        #: The least recently used first; each key has one entry for each set of varying request fields.
        self.entries: OrderedDict[tuple[str, str, str, str], list[Entry]] = OrderedDict()
        self.size = 0

    def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        received = exchange.received_headers  # whatever other filters or the route change: the client judges the response
        cache_control = (received.get("cache-control") or "").lower()
        if request.method != "GET" or "authorization" in received or "no-store" in cache_control or "range" in received:
            return None
        key = (request.scheme, request.host, request.path, request.query)
        exchange.state["cache_key"] = key
        if "no-cache" in cache_control:
            return None
        now = time.monotonic()
        for entry in self.entries.get(key, []):
            if entry.until > now and all(values(received, name) == value for name, value in entry.vary):
                self.entries.move_to_end(key)
                del exchange.state["cache_key"]
                return Reply(entry.status, entry.body, [*entry.headers, ("age", str(int(now - entry.made)))])
        return None

    def on_response(self, exchange: Exchange) -> None:
        response = exchange.response_head
        seconds = min(lifetime(response.headers), self.config.longest)
        names = [name.strip().lower() for field in response.headers.get_all("vary") for name in field.split(",")]
        known = response.content_length
        if (
            "cache_key" not in exchange.state
            or response.status != 200
            or seconds <= 0
            or "*" in names
            or "set-cookie" in response.headers
            or known > self.config.largest
        ):
            exchange.skip_body(self)
            return
        vary = [(name, values(exchange.received_headers, name)) for name in names if name]
        headers = [pair for pair in response.headers.items() if pair[0] not in NOT_KEPT]
        exchange.state["filling"] = Filling(Entry(vary, int(response.status), headers, time.monotonic() + seconds))

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        filling = exchange.state.get("filling")
        if not isinstance(filling, Filling):
            return
        filling.size += len(data)
        filling.chunks.append(data)
        if filling.size > self.config.largest:
            del exchange.state["filling"]
        elif last:
            filling.entry.body = b"".join(filling.chunks)
            key = exchange.state["cache_key"]
            assert isinstance(key, tuple)
            self._keep(key, filling.entry)

    def _keep(self, key: tuple[str, str, str, str], entry: Entry) -> None:
        now = time.monotonic()
        before = self.entries.pop(key, [])
        others = [old for old in before if old.until > now and old.vary != entry.vary]
        self.entries[key] = [*others[1 - MOST_VARIANTS :], entry]
        self.size += weight(self.entries[key]) - weight(before)
        while self.size > self.config.total:
            _, oldest = self.entries.popitem(last=False)
            self.size -= weight(oldest)


def weight(entries: list[Entry]) -> int:
    """Approximate bytes of memory that entries take."""
    return sum(len(entry.body) + 1024 for entry in entries)


def lifetime(headers: Headers) -> float:
    """Seconds for which a shared cache may keep a response (RFC 9111 section 5.2.2); 0 if it must not."""
    directives = ", ".join(headers.get_all("cache-control")).lower()
    if any(word in directives for word in ("no-store", "private", "no-cache")):
        return 0.0
    found = dict(_MAX_AGE.findall(directives))
    age = headers.get("age") or "0"
    seconds = float(found.get("s-maxage") or found.get("max-age") or 0)
    return seconds - (float(age) if age.isascii() and age.isdigit() else 0.0)


def values(headers: Headers, name: str) -> str:
    """All values of a field, joined."""
    return ", ".join(headers.get_all(name))
