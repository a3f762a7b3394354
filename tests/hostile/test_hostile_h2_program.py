"""The hostile tables of HTTP/2 against the real program: real sockets, one hop and two, and a recording upstream."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from tests.hostile.h2_head_table import TABLE
from tests.hostile.h2_visiting import run_trials, trials_of
from tests.hostile.program import Http2Program, running
from tests.hostile.recorder import Recorder

pytestmark = pytest.mark.once


async def converse(directory: Path) -> dict[str, list[str]]:
    recorder = Recorder([])
    await recorder.start()
    trials = trials_of(TABLE)
    with running(directory, recorder.port, kind=Http2Program) as program:
        await run_trials(trials, {1: program.port(1), 2: program.port(2)}, recorder)
    await recorder.stop()
    found: dict[str, list[str]] = defaultdict(list)
    for trial in trials:
        found[str(trial.case)] += [f"[{trial.label}; {trial.hops} hop] {text}" for text in trial.faults]
    found["all"] += recorder.faults()
    return found


def test_members(tmp_path: Path) -> None:
    found = asyncio.run(converse(tmp_path))
    assert {name: faults for name, faults in found.items() if faults} == {}
