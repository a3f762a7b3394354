"""The shape of the hostile tables of HTTP/2 (section F of the catalogue), and the variants of each member.

A member is one request as a client says it in HTTP/2: fields, content, trailers. It must end as `outcome` says:

- OK: the upstream gets exactly what was said, in HTTP/1 or HTTP/2, and nothing else;
- RESET: the stream is reset with PROTOCOL_ERROR;
- a number: the client gets this status;
- REFUSED: any of both, with a status from 400 to 499;
- ENDED: the connection ends with a GOAWAY that has another code than NO_ERROR;
- EITHER: REFUSED or ENDED, which depends on the encoding.

Except for OK, nothing reaches the upstream; or, with `in_body`, where the head is acceptable, at most a part of the request
on a stream or connection that was then cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import hpack
from tests.hostile.cases import filled, label_of
from tests.kit import h2_frames as wire

Pairs = tuple[tuple[bytes, bytes], ...]

OK: Final = "ok"
RESET: Final = "reset"
REFUSED: Final = "refused"
ENDED: Final = "ended"
EITHER: Final = "refused or ended"

BASE: Final[Pairs] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"a.example"),
    (b":path", b"/hostile"),
)
OTHERS: Final[Pairs] = ((b"user-agent", b"t"), (b"accept", b"*/*"))
GOOD: Final[Pairs] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"a.example"),
    (b":path", b"/good"),
)


@dataclass(frozen=True)
class H2Case:
    """One member. `head`: its pseudo-header fields; `fields`: the odd ones, which take several places among others.

    `data`: the content of each DATA frame. `trailers`: None for none. `frames`: other bytes that follow the head instead, in
    which the stream's number is 1. `open`: the stream is not ended. `said`: what the upstream gets, if not what is
    derived from the member: `:method`, `:path`, `host` and the other fields. `in_order`: the places of fields matter.
    """

    row: str
    name: str
    outcome: str | int = RESET
    head: Pairs = BASE
    fields: Pairs = ()
    data: tuple[bytes, ...] = ()
    trailers: Pairs | None = None
    frames: bytes | None = None
    open: bool = False
    said: Pairs | None = None
    in_body: bool = False
    in_order: bool = False

    def __str__(self) -> str:
        return f"{self.row} {self.name}"

    @property
    def content(self) -> bytes:
        return b"".join(self.data)

    def message(self) -> Pairs:
        """What the upstream gets if the member is acceptable: crumbs of cookies are joined."""
        if self.said is not None:
            return self.said
        known = dict(self.head)
        fields = [*OTHERS, *self.fields]
        host = known.get(b":authority") or next(value for name, value in fields if name == b"host")
        start = [(b":method", known[b":method"]), (b":path", known[b":path"]), (b"host", host)]
        rest = [pair for pair in fields if pair[0] not in (b"cookie", b"host")]
        crumbs = [value for name, value in fields if name == b"cookie"]
        return (*start, *rest, *([(b"cookie", b"; ".join(crumbs))] if crumbs else []))

    def heads(self) -> Iterator[tuple[str, Pairs]]:
        """The fields of each variant, with its label."""
        yield "fields last", (*self.head, *OTHERS, *self.fields)
        if self.fields and not self.in_order:
            yield "fields first", (*self.head, *self.fields, *OTHERS)
            yield "fields between", (*self.head, OTHERS[0], *self.fields, OTHERS[1])

    def variants(self) -> Iterator[tuple[str, Variant]]:
        """The variants: places of the fields, ways to encode them, cuts of the header block, and the end of the stream."""
        for place, (label, fields) in enumerate(self.heads()):
            yield label, Variant(self, fields)
            if place == 0:
                yield f"{label}, huffman", Variant(self, fields, huffman=True)
                yield f"{label}, literals", Variant(self, fields, indexed=False)
                yield f"{label}, cut", Variant(self, fields, parts=12)
                yield f"{label}, byte by byte", Variant(self, fields, bytewise=True)
                if self.frames is None and self.trailers is None:
                    yield f"{label}, empty end", Variant(self, fields, empty_end=True)


@dataclass(frozen=True)
class Variant:
    """How a member is sent. `huffman`, `indexed`: of its strings. `parts`: frames of a header block, if it is small.

    `empty_end`: an empty DATA frame ends the stream. `bytewise`: it is delivered byte by byte.
    """

    case: H2Case
    fields: Pairs
    huffman: bool = False
    indexed: bool = True
    parts: int = 1
    bytewise: bool = False
    empty_end: bool = False

    def frames(self, encoder: hpack.Encoder, stream: int) -> bytes:
        """Its frames, on a stream; `encoder`: of its connection."""
        case = self.case
        if self.indexed:
            block = bytes(encoder.encode([*self.fields], huffman=self.huffman))
        else:
            block = wire.literals(self.fields)
        if case.frames is not None:
            behind = case.frames.replace(STREAM, stream.to_bytes(4, "big"))
            return wire.headers(stream, block, False, self._most(block)) + behind
        has_more = bool(case.data) or case.trailers is not None or self.empty_end or case.open
        out = [wire.headers(stream, block, not has_more, self._most(block))]
        for place, piece in enumerate(case.data):
            is_last = place == len(case.data) - 1 and case.trailers is None and not self.empty_end and not case.open
            out.append(wire.data(stream, piece, is_last))
        if case.trailers is not None:
            block = wire.literals(case.trailers)
            out.append(wire.headers(stream, block, not case.open, self._most(block)))
        elif self.empty_end:
            out.append(wire.data(stream, b"", True))
        return b"".join(out)

    def _most(self, block: bytes) -> int:
        """Bytes of a header block in each frame."""
        return -(-len(block) // self.parts) if self.parts > 1 and block else 16384


#: Stands for the number of the stream in `frames`.
STREAM: Final = b"\x7f\xfe\xfd\xfc"


def family(row: str, name: str, members: Iterable[bytes], **rest: object) -> list[H2Case]:
    """One case for each of `members`, which takes the place of `{}` in every bytes argument of `rest`."""
    cases = []
    for member in dict.fromkeys(members):
        own = {key: filled(value, member) for key, value in rest.items()}
        cases.append(H2Case(row, f"{name} {label_of(member)}", **own))  # type: ignore[arg-type]
    return cases


def head(**changes: bytes | None) -> Pairs:
    """The pseudo-header fields of BASE with others; None leaves one out."""
    out = [(name, changes.get(name[1:].decode(), value)) for name, value in BASE]
    return tuple((name, value) for name, value in out if value is not None)
