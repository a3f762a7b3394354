"""Two connection filters: callers by SPIFFE id and rate, before any proxy, and a line protocol without card numbers."""

import re
from typing import Annotated

import msgspec

from pymosn.api import STOP, ConnectionFilter, FilteredConnection, SharedState

Rate = Annotated[float, msgspec.Meta(gt=0.0)]


class Callers(msgspec.Struct, forbid_unknown_fields=True):
    """`allow`: SPIFFE ids; one that ends with `/` allows all below it. `rate`: connections per second and address."""

    allow: list[str]
    rate: Rate = 10.0
    burst: Annotated[int, msgspec.Meta(ge=1)] = 20


class Buckets(SharedState):
    """What is left of the rate of each address in this worker."""

    #: Addresses to remember; the oldest are forgotten.
    LIMIT = 10_000

    async def start(self) -> None:
        self.allowed = frozenset(name for name in self.config.allow if not name.endswith("/"))
        self.below = tuple(name for name in self.config.allow if name.endswith("/"))
        self.refused = self.context.counter("refused")
        self.limited = self.context.counter("limited")
        self.left: dict[str, tuple[float, float]] = {}

    def takes(self, address: str) -> bool:
        """Whether one more connection of an address is within its rate. Workers share the rate."""
        now = self.context.clock.now
        share = self.context.workers
        rate, burst = self.config.rate / share, max(1.0, self.config.burst / share)
        left, since = self.left.pop(address, (burst, now))
        left = min(burst, left + (now - since) * rate)
        self.left[address] = (left - 1.0 if left >= 1.0 else left, now)
        if len(self.left) > self.LIMIT:
            del self.left[next(iter(self.left))]
        return left >= 1.0


class AllowCallers(ConnectionFilter):
    """Resets connections of callers that are not on the list, or that connect too often."""

    Config = Callers
    Shared = Buckets
    shared: Buckets

    def on_connection(self, connection: FilteredConnection) -> None:
        certificate = connection.tls.certificate if connection.tls is not None else None
        # The id of a certificate that no CA has signed is what the client wants it to be.
        name = certificate.spiffe_id if certificate is not None and certificate.is_verified else ""
        if name not in self.shared.allowed and not (self.shared.below and name.startswith(self.shared.below)):
            self.shared.refused.value += 1
            connection.abort()
        elif not self.shared.takes(connection.remote_ip):
            self.shared.limited.value += 1
            connection.abort()


#: 13 to 19 digits, also in groups.
CARD = re.compile(rb"\b\d(?:[ -]?\d){12,18}\b")


class RedactCards(ConnectionFilter):
    """Hides card numbers in the lines that a server sends. A line that is longer than LIMIT ends the connection."""

    LIMIT = 64 * 1024

    def __init__(self, shared: SharedState) -> None:
        super().__init__(shared)
        self.rest = b""

    def on_write(self, data: bytes) -> bytes:
        lines, end, self.rest = (self.rest + data).rpartition(b"\n")
        if len(self.rest) > self.LIMIT:
            self.connection.abort()
        return CARD.sub(b"[card]", lines + end)

    def on_write_eof(self) -> None:
        self.connection.write(CARD.sub(b"[card]", self.rest))


class Banner(ConnectionFilter):
    """A server of its own: greets, and answers each line."""

    def __init__(self, shared: SharedState) -> None:
        super().__init__(shared)
        self.rest = b""

    def on_connection(self, connection: FilteredConnection) -> None:
        connection.write(b"220 ready\r\n")

    def on_data(self, data: bytes) -> bool:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.strip().upper() == b"QUIT":
                self.connection.write(b"221 bye\r\n")
                self.connection.close()
                break
            self.connection.write(b"250 " + line.strip() + b"\r\n")
        return STOP
