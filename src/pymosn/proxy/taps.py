"""Taps: copies of the exchanges that match some conditions, while an operator asks for them.

Without a tap a worker compares one attribute for each new exchange. With one, an exchange that may match is wrapped where
the stream layer and the exchange meet (`tapping.py`), so that what the client sent and what it got is copied, whatever its
protocol. Conditions on the request are tested when its head arrives, those on the outcome at the end.

What is copied is bounded: bytes per body, bytes of all exchanges in progress, exchanges per second. What exceeds a bound is
counted, never waited for. Secrets are removed by `core/redaction.py` before a record leaves this layer.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.rpc import RpcRequest
from pymosn.core.address_ranges import End, parse_network
from pymosn.core.addresses import HIGHEST_PORT
from pymosn.core.clock import Clock
from pymosn.core.headers import Headers, to_text
from pymosn.core.message import RequestHead
from pymosn.core.redaction import hidden, redacted_text
from pymosn.core.secrets import is_credential
from pymosn.proxy.stories import FAULTY_CALLS

#: Bytes that all exchanges in progress may hold in copies, and the most exchanges that are copied at a time.
HELD_BYTES: Final[i64] = 16 * 1024 * 1024
HELD_EXCHANGES: Final[i64] = 4096
#: Bytes of a frame of an RPC protocol, besides the body, that are copied.
FRAME_HEAD: Final[i64] = 64 * 1024

#: Takes a record of an exchange that matches.
Take = Callable[[Mapping[str, object]], None]


class TapRule:
    """The conditions of a tap. Empty and 0 mean any. All that are given must hold."""

    def __init__(
        self,
        *,
        listener: str = "",
        protocol: str = "",
        method: str = "",
        path: str = "",
        host: str = "",
        route: str = "",
        cluster: str = "",
        headers: list[tuple[str, str]] | None = None,
        statuses: list[str] | None = None,
        reason: str = "",
        slower: float = 0.0,
        client: str = "",
        sample: float = 1.0,
        bodies: i64 = 0,
        rate: float = 1000.0,
        byte_rate: float = 8.0 * 1024 * 1024,
    ) -> None:
        """`path`: how paths, or services of RPC, begin. `headers`: names and values; an empty value means any.

        `statuses`: such as `404`, `5xx`; `failed` for whatever failed. `slower`: seconds. `client`: an IP address, or a
        network such as `10.0.0.0/8`. `sample`: the share of the exchanges. `bodies`: bytes of each body to copy. `rate`,
        `byte_rate`: records and their bytes per second.
        """
        self.listener = listener
        self.protocol = protocol
        self.method = method
        self.raw_path = path.encode("utf-8", "surrogateescape")
        self.path = path
        self.raw_host = host.lower().encode("utf-8", "surrogateescape")
        self.route = route
        self.cluster = cluster
        self.headers: list[tuple[str, str]] = headers or []
        self.statuses: list[str] = statuses or []
        self.reason = reason
        self.slower = slower
        self.sample = sample
        self._clients = None if not client else End([parse_network(client)], [(0, HIGHEST_PORT)])
        self.bodies: i64 = bodies
        self.rate = rate
        self.byte_rate = byte_rate

    def may_match(self, listener: str, protocol: str, remote_ip: str, request: RequestHead) -> bool:
        """Whether an exchange may match, as far as its request shows. May raise whatever its headers raise."""
        if (self.listener and self.listener != listener) or (self.protocol and self.protocol != protocol):
            return False
        if self._clients is not None and not self._clients.matches(remote_ip, 0):
            return False
        if self.raw_host and request.raw_host != self.raw_host and _without_port(request.raw_host) != self.raw_host:
            return False
        if self.method and request.method_name() != self.method:
            return False
        if self.raw_path and not self._has_path(request):
            return False
        for name, value in self.headers:
            found = request.route_value(name)
            if found is None or (value and found != value):
                return False
        return self.sample >= 1.0 or random.random() < self.sample

    def _has_path(self, request: RequestHead) -> bool:
        if isinstance(request, RpcRequest):
            return request.service().startswith(self.path)
        return request.raw_path.startswith(self.raw_path)

    def matches(self, exchange: Exchange) -> bool:
        """Whether a finished exchange matches, whose request does."""
        failure = exchange.failure
        if self.reason and (failure is None or failure.reason != self.reason):
            return False
        if self.slower > 0.0 and exchange.finished - exchange.started < self.slower:
            return False
        if self.cluster and exchange.cluster_name != self.cluster:
            return False
        if self.route:
            route = exchange.route
            if route is None or (route.name != self.route and route.label != self.route):
                return False
        return not self.statuses or self._has_status(exchange)

    def _has_status(self, exchange: Exchange) -> bool:
        response = exchange.response
        status: i64 = 0 if response is None else response.status
        for wanted in self.statuses:
            if wanted == "failed":
                if exchange.failure is not None or status >= 500:
                    return True
                if exchange.request.has_call_status and exchange.call_status in FAULTY_CALLS:
                    return True
            elif wanted.endswith("xx"):
                if status // 100 == int(wanted[:1]):
                    return True
            elif status == int(wanted):
                return True
        return False


class Tap:
    """One tap of a worker."""

    def __init__(self, number: i64, rule: TapRule, clock: Clock, take: Take) -> None:
        self.number = number
        self.rule = rule
        #: Matching exchanges of which nothing is recorded, because of a bound.
        self.dropped: i64 = 0
        self.matched: i64 = 0
        #: Whether it still takes records.
        self.is_open = True
        self._clock = clock
        self._take = take
        self._credit = rule.rate
        self._bytes = rule.byte_rate
        self._credited = clock.now

    def admits(self, size: i64) -> bool:
        """Whether another record of about `size` bytes is within the rates. Counts it, or that it was dropped."""
        now = self._clock.now
        passed = max(0.0, now - self._credited)
        self._credited = now
        rule = self.rule
        self._credit = min(rule.rate, self._credit + passed * rule.rate)
        self._bytes = min(rule.byte_rate, self._bytes + passed * rule.byte_rate)
        if self._credit < 1.0 or self._bytes <= 0.0:
            self.dropped += 1
            return False
        self._credit -= 1.0
        self._bytes -= float(size)
        return True

    def take(self, record: Mapping[str, object]) -> None:
        """Hands over a record."""
        self._take(record)


class Taps:
    """The taps of one worker, and what their copies hold together."""

    def __init__(self) -> None:
        self.taps: list[Tap] = []
        self.held: i64 = 0
        self.exchanges: i64 = 0
        #: Makes the number of the next record.
        self.last: i64 = 0

    def has_room(self) -> bool:
        """Whether another exchange may be copied."""
        return self.exchanges < HELD_EXCHANGES and self.held < HELD_BYTES

    def candidates(self, listener: str, protocol: str, remote_ip: str, request: RequestHead) -> list[Tap]:
        """The taps whose conditions a request meets; one whose headers cannot be judged meets none on headers."""
        found: list[Tap] = []
        for tap in self.taps:
            try:
                if tap.is_open and tap.rule.may_match(listener, protocol, remote_ip, request):
                    found.append(tap)
            except BaseException:  # of headers that cannot be read, and of heads of installed protocols
                continue
        return found


def shown_fields(headers: Headers) -> list[list[str]]:
    """Header fields as pairs without secrets. A value that is not UTF-8 is empty, and Base64 in a third item."""
    found: list[list[str]] = []
    for name, value in headers.items_raw():
        found.append(shown_field(to_text(name), value))
    return found


def shown_field(name: str, value: bytes) -> list[str]:
    """One field, see `shown_fields`."""
    name = name.encode("utf-8", "replace").decode()
    try:
        text = value.decode()
    except UnicodeDecodeError:
        # What has a secret is shown as text: Base64 would show it too.
        text = value.decode("latin-1")
        if not is_credential(name) and redacted_text(text) == text:
            return [name, "", base64.b64encode(value).decode()]
    return [name, str(hidden(text)) if is_credential(name) else redacted_text(text)]


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host
