"""The hostile tables of HTTP/2 through layers 2 to 4, to upstreams of either version of HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.hostile.cases import RequestCase
from tests.hostile.h2_cases import OK, H2Case, Pairs
from tests.hostile.h2_conversing import Message, Rig, Seen, compared
from tests.hostile.h2_head_table import TABLE
from tests.hostile.tables import REQUESTS

from pymosn.version import build

#: The interpreted build is held to two variants of each member.
IS_COMPILED = build() == "compiled"
#: The others are refused before a protocol is chosen.
PASSED_ON = [case for case in TABLE if case.outcome == OK or case.in_body]


class Rigs:
    """A rig for each protocol of upstreams; a new one after a test that has failed."""

    def __init__(self) -> None:
        self._by_protocol: dict[str, Rig] = {}

    def run(self, protocol: str, case: H2Case) -> list[str]:
        rig = self._by_protocol.pop(protocol, None) or Rig(protocol)
        variants = list(case.variants())
        if not IS_COMPILED:
            turn = 1 + TABLE.index(case) % (len(variants) - 1)
            variants = [variants[0], variants[turn]]
        faults = [f"[{label}] {text}" for label, variant in variants for text in rig.run(case, variant)]
        self._by_protocol[protocol] = rig
        return faults

    def carry(self, protocol: str, data: bytes) -> Seen:
        """What an upstream that speaks `protocol` gets of what a client of HTTP/1 sends."""
        key = f"Http1 to {protocol}"
        rig = self._by_protocol.pop(key, None) or Rig(protocol, "Http1")
        seen = rig.carry(data)
        self._by_protocol[key] = rig
        return seen

    def end(self) -> None:
        for rig in self._by_protocol.values():
            rig.end()


@pytest.fixture(scope="module")
def rigs() -> Iterator[Rigs]:
    rigs = Rigs()
    yield rigs
    rigs.end()


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_member(rigs: Rigs, case: H2Case) -> None:
    assert rigs.run("Http1", case) == []


@pytest.mark.parametrize("case", PASSED_ON, ids=str)
def test_member_that_is_passed_on_in_http2(rigs: Rigs, case: H2Case) -> None:
    assert rigs.run("Http2", case) == []


@pytest.mark.parametrize("case", [case for case in REQUESTS if not case.only_program], ids=str)
def test_requests_of_http1_are_the_same_in_http2(rigs: Rigs, case: RequestCase) -> None:
    """A host that speaks HTTP/2 gets what one that speaks HTTP/1 gets, and no more."""
    wires = list(case.wires()) if IS_COMPILED and case.status == 200 else list(case.wires())[:1]
    for label, data, served in wires:
        by_http1, by_http2 = rigs.carry("Http1", data), rigs.carry("Http2", data)
        assert by_http2.broken == by_http1.broken == [], label
        assert len(by_http2.requests) == served, label
        for request, same in zip(by_http2.requests, by_http1.requests, strict=True):
            assert (folded(request), request.body) == (folded(same), same.body), label
            # A host that speaks HTTP/1 gets no trailers of a client that does not ask for any.
            assert same.trailers in ((), request.trailers), label
            trailers = b"".join(b"%b: %b\r\n" % pair for pair in request.trailers)
            assert not any(part in trailers for part in case.lacks), label
        assert by_http2.open_parts == 0, label
        assert case.in_body or not by_http2.parts, label


def folded(request: Message) -> Pairs:
    """The fields of a request, with a host in lower case."""
    return tuple((name, value.lower() if name == b"host" else value) for name, value in compared(request.fields))


def test_the_tables_cover_their_rows() -> None:
    rows = Counter(case.row for case in TABLE)
    assert {"F2", "F3", "F4", "F5", "F6", "F7", "F12"} <= set(rows)
    names = [str(case) for case in TABLE]
    assert len(names) == len(set(names))
    assert sum(1 for case in TABLE for _ in case.variants()) > 8000
