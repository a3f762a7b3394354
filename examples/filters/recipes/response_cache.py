"""Replies that say they may be are kept in memory, as far as there is room, and given again."""

import re
import time
from collections import OrderedDict
from typing import Annotated

import msgspec

from pymosn.api import Exchange, Headers, Reply, StreamFilter

#: Fields of the connection, of the proxy, or of this very reply.
NOT_KEPT = frozenset(
    ("age", "connection", "content-length", "date", "keep-alive", "trailer", "transfer-encoding", "upgrade")
)
#: Replies that are kept for one target, which vary by fields of the request.
MOST_VARIANTS = 16
_MAX_AGE = re.compile(r"(?:^|[,\s])(s-maxage|max-age)=(\d+)")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`total` and `largest` are bytes of bodies: of all of them, and of one. `longest`: seconds that any is kept."""

    total: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024
    largest: Annotated[int, msgspec.Meta(ge=1)] = 1024 * 1024
    longest: float = 3600.0


class Entry:
    """A reply that is kept. `wanted`: the request fields that it varies by, with their values."""

    def __init__(self, wanted: list[tuple[str, str]], status: int, headers: list[tuple[str, str]], until: float) -> None:
        self.wanted = wanted
        self.status = status
        self.headers = headers
        self.body = b""
        self.made = time.monotonic()
        self.until = until


class Filling:
    """A reply on its way through: its pieces go on at once, and are kept beside."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pieces: list[bytes] = []
        self.size = 0


class ResponseCache(StreamFilter):
    """Answers GET requests from memory as long as Cache-Control allows; whatever is not known streams through."""

    Config = Settings
    changes_length = False

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        #: The least recently used first; each key has one entry for each set of fields that replies vary by.
        self.entries: OrderedDict[tuple[str, str, str], list[Entry]] = OrderedDict()
        self.size = 0

    def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        asks = (request.headers.get("cache-control") or "").lower()
        if request.method != "GET" or "authorization" in request.headers or "no-store" in asks or "range" in request.headers:
            return None
        key = (request.host, request.path, request.query)
        exchange.state["cache_key"] = key
        if "no-cache" in asks:
            return None
        now = time.monotonic()
        for entry in self.entries.get(key, []):
            if entry.until > now and all(values(request.headers, name) == value for name, value in entry.wanted):
                self.entries.move_to_end(key)
                del exchange.state["cache_key"]
                return Reply(entry.status, entry.body, [*entry.headers, ("age", str(int(now - entry.made)))])
        return None

    def on_response(self, exchange: Exchange) -> None:
        response = exchange.response_head
        seconds = min(lifetime(response.headers), self.config.longest)
        vary = [name.strip().lower() for field in response.headers.get_all("vary") for name in field.split(",")]
        known = response.content_length
        if (
            "cache_key" not in exchange.state
            or response.status != 200
            or seconds <= 0
            or "*" in vary
            or "set-cookie" in response.headers
            or known > self.config.largest
        ):
            exchange.skip_body(self)
            return
        wanted = [(name, values(exchange.request.headers, name)) for name in vary if name]
        headers = [pair for pair in response.headers.items() if pair[0] not in NOT_KEPT]
        exchange.state["filling"] = Filling(Entry(wanted, int(response.status), headers, time.monotonic() + seconds))

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        filling = exchange.state.get("filling")
        if not isinstance(filling, Filling):
            return
        filling.size += len(data)
        filling.pieces.append(data)
        if filling.size > self.config.largest:
            del exchange.state["filling"]
        elif last:
            filling.entry.body = b"".join(filling.pieces)
            key = exchange.state["cache_key"]
            assert isinstance(key, tuple)
            self._keep(key, filling.entry)

    def _keep(self, key: tuple[str, str, str], entry: Entry) -> None:
        now = time.monotonic()
        before = self.entries.pop(key, [])
        others = [old for old in before if old.until > now and old.wanted != entry.wanted]
        self.entries[key] = [*others[1 - MOST_VARIANTS :], entry]
        self.size += weight(self.entries[key]) - weight(before)
        while self.size > self.config.total:
            _, oldest = self.entries.popitem(last=False)
            self.size -= weight(oldest)


def weight(entries: list[Entry]) -> int:
    """Bytes that entries take, roughly: their bodies, and something for each."""
    return sum(len(entry.body) + 1024 for entry in entries)


def lifetime(headers: Headers) -> float:
    """Seconds for which a shared cache may keep a reply (RFC 9111 section 5.2.2); 0 for not at all."""
    says = ", ".join(headers.get_all("cache-control")).lower()
    if any(word in says for word in ("no-store", "private", "no-cache")):
        return 0.0
    found = dict(_MAX_AGE.findall(says))
    age = headers.get("age") or "0"
    seconds = float(found.get("s-maxage") or found.get("max-age") or 0)
    return seconds - (float(age) if age.isascii() and age.isdigit() else 0.0)


def values(headers: Headers, name: str) -> str:
    """All values of a field as one."""
    return ", ".join(headers.get_all(name))
