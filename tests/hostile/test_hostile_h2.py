"""The hostile tables of HTTP/2 through layers 2 to 4, to upstreams of either version of HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.hostile.h2_cases import OK, H2Case
from tests.hostile.h2_conversing import Rig
from tests.hostile.h2_head_table import TABLE

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


def test_the_tables_cover_their_rows() -> None:
    rows = Counter(case.row for case in TABLE)
    assert {"F2", "F3", "F4", "F5", "F6", "F7", "F12"} <= set(rows)
    names = [str(case) for case in TABLE]
    assert len(names) == len(set(names))
    assert sum(1 for case in TABLE for _ in case.variants()) > 8000
