"""Rows D4 to D8 against the real program: upgrades and CONNECT, over one hop and two, byte for byte at both ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.hostile.conversing import converse_through_tunnels
from tests.hostile.tunnel_table import TABLE, TunnelCase


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return asyncio.run(converse_through_tunnels(tmp_path_factory.mktemp("tunnels")))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_member(findings: dict[str, list[str]], case: TunnelCase) -> None:
    assert not findings[str(case)]


def test_nothing_else_reached_the_upstream(findings: dict[str, list[str]]) -> None:
    assert not findings["all"]


def test_the_table_covers_its_rows() -> None:
    assert {case.row for case in TABLE} == {"D4", "D5", "D6", "D7", "D8"}
    assert len({str(case) for case in TABLE}) == len(TABLE) > 300
