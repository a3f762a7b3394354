"""The shape of the hostile tables, and the variants that each member stands for.

A `RequestCase` is what a client sends and what must come of it; `wires()` gives its variants: the odd field first,
between and last, its name in other cases, alone on its connection or behind a good request. Each variant is to be sent
whole, cut, and byte by byte.

The tables know nothing of the codec: `test_hostile_codec` runs them there, `test_hostile_program` against the real
program over real sockets, where a variant `(label, data, served)` is sent, and

- `served` replies of the upstream's come, each 200, and then, when `status` is not 200, one reply with `status`, whose
  reason word in the access log is `reason` (if given), and the end of the connection, not a reset;
- the upstream, a raw socket that records, holds exactly the `served` requests, complete; of a refused request nothing,
  or, where `in_body` is set, at most an incomplete request on a connection that was then cut;
- for a member with status 200 each of `sees` is in the record and none of `lacks`.

A `ReplyCase` is what an upstream answers to one request: with `refused`, the client gets 502, or, behind a head that
was already sent on, a connection that is cut; without it `body` and the end. `reusable` says whether the upstream
connection may serve another request. `then_eof`: the upstream closes behind the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GOOD_HOST = b"Host: a.example"
BEHIND = b"GET /good HTTP/1.1\r\nHost: a.example\r\n\r\n"
#: What a smuggled request would be: it must never reach the upstream as a request of its own.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


def label_of(member: bytes) -> str:
    """A member of a family in the name of its case."""
    return repr(ascii(member[:24])[2:-1] + (f"... {len(member)} bytes" if len(member) > 24 else ""))


def filled(value: object, member: bytes) -> object:
    """The value with `member` in place of `{}` in bytes."""
    if isinstance(value, bytes):
        return value.replace(b"{}", member)
    if isinstance(value, tuple):
        return tuple(filled(part, member) for part in value)
    return value


@dataclass(frozen=True)
class RequestCase:
    """`row`: of the hostile catalogue. `fields`: the odd field lines. With `raw`, that is all that is sent.

    An empty `reason` with a refusal: several rules are broken, and which is met first depends on the variant. `answers`:
    the statuses of its replies, where they are not `status` alone; `requests` is then how many reach the upstream.
    `closes`: the proxy ends the connection though nothing was refused; `keeps`: it leaves that to the client though the last
    status is not 200; `may_stop`: it may end it behind any of the replies. `then_eof`: the client says no more, and the
    connection's end is what is wrong. `only_program`: the codec alone cannot tell. `alone`: never behind a good request.
    """

    row: str
    name: str
    line: bytes = b"POST /hostile HTTP/1.1"
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    host: bytes | None = GOOD_HOST
    raw: bytes | None = None
    status: int = 400
    reason: str = ""
    in_body: bool = False
    requests: int = 1
    sees: tuple[bytes, ...] = ()
    lacks: tuple[bytes, ...] = (b"smuggled",)
    answers: tuple[int, ...] = ()
    then_eof: bool = False
    closes: bool = False
    keeps: bool = False
    may_stop: bool = False
    only_program: bool = False
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.row} {self.name}"

    @property
    def expected(self) -> tuple[int, ...]:
        """The statuses of all replies to the member itself."""
        if self.answers:
            return self.answers
        return (200,) * self.requests if self.status == 200 else (self.status,)

    @property
    def is_refused(self) -> bool:
        """Whether its last reply is the proxy's word on a request that it does not take."""
        return self.expected[-1] >= 400 and not (self.closes or self.keeps or self.may_stop)

    @property
    def method(self) -> bytes:
        """Of the member's own request."""
        return (self.line if self.raw is None else self.raw).partition(b" ")[0]

    def wires(self) -> Iterator[tuple[str, bytes, int]]:
        """Label, bytes to send, and how many requests the upstream must get."""
        served = self.requests if self.status == 200 or self.answers else 0
        for label, data in self._placed():
            yield label, data, served
            if not self.alone:
                yield f"{label}, behind a good request", BEHIND + data, served + 1

    def _placed(self) -> Iterator[tuple[str, bytes]]:
        if self.raw is not None:
            yield "raw", self.raw
            return
        host = () if self.host is None else (self.host,)
        others = (b"User-Agent: t", b"Accept: */*")
        yield "fields last", self._build((*host, *others, *self.fields))
        if not self.fields:
            return
        yield "fields first", self._build((*self.fields, *host, *others))
        yield "fields between", self._build((others[0], *self.fields, others[1], *host))
        yield "fields apart", self._build((*self.fields[:1], *host, *self.fields[1:], *others))
        for fold in (bytes.lower, bytes.upper):
            folded = tuple(_fold_name(line, fold) for line in self.fields)
            if folded != self.fields:
                yield f"names in {fold.__name__} case", self._build((*host, *folded, *others))

    def _build(self, fields: tuple[bytes, ...]) -> bytes:
        return b"\r\n".join((self.line, *fields, b"", b"")) + self.body


def _fold_name(line: bytes, fold) -> bytes:  # type: ignore[no-untyped-def]
    name, colon, value = line.partition(b":")
    return fold(name) + colon + value


@dataclass(frozen=True)
class ReplyCase:
    """`wire`: all that the upstream sends to the request with `method`."""

    row: str
    name: str
    wire: bytes
    method: bytes = b"GET"
    then_eof: bool = False
    refused: bool = True
    complete: bool = True
    reusable: bool = False
    body: bytes = b""
    lacks: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.row} {self.name}"
