"""Rows D4 to D8 against the real program: upgrades and CONNECT, over one hop and two, byte for byte at both ends."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from tests.hostile.program import running
from tests.hostile.tunnel_table import TABLE, TunnelCase
from tests.hostile.tunnelling import TunnelServer, run_tunnels, tunnel_faults_of, tunnel_trials

#: Both hops pass CONNECT on; everything else is as by default.
SETTINGS = {"connect": "forward"}


async def converse(directory: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    server = TunnelServer()
    await server.start()
    with running(directory, server.port, SETTINGS, SETTINGS) as program:
        trials = tunnel_trials(TABLE)
        await run_tunnels(trials, program, server)
    server.stop()
    for trial in trials:
        found[str(trial.case)] += tunnel_faults_of(trial)
    found["all"] += server.broken
    return found


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return asyncio.run(converse(tmp_path_factory.mktemp("tunnels")))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_member(findings: dict[str, list[str]], case: TunnelCase) -> None:
    assert not findings[str(case)]


def test_nothing_else_reached_the_upstream(findings: dict[str, list[str]]) -> None:
    assert not findings["all"]


def test_the_table_covers_its_rows() -> None:
    assert {case.row for case in TABLE} == {"D4", "D5", "D6", "D7", "D8"}
    assert len({str(case) for case in TABLE}) == len(TABLE) > 300
