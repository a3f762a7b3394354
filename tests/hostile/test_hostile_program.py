"""The hostile tables against the real program: real sockets, one hop and two, an upstream that records every byte."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.hostile import lenient_table, limit_table
from tests.hostile.cases import ReplyCase, RequestCase
from tests.hostile.judging import faults_of, reply_faults_of
from tests.hostile.program import running
from tests.hostile.recorder import Recorder
from tests.hostile.running import ReplyTrial, Trial, reply_trials, request_trials, run_replies, run_requests
from tests.hostile.tables import REPLIES, REQUESTS
from tests.system.pymosn_process import eventually

HOPS = (1, 2)


@dataclass
class Findings:
    """Faults by the name of the case, and those that cannot be laid to one."""

    by_case: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    common: list[str] = field(default_factory=list)
    trials: int = 0


async def converse(directory: Path, trials: list[Trial], replies: list[ReplyTrial], **settings: Any) -> Findings:
    """Runs the trials against a program of their own, with the `settings` of `running`, and judges them."""
    findings = Findings(trials=len(trials) + len(replies))
    recorder = Recorder(REPLIES)
    await recorder.start()
    with running(directory, recorder.port, **settings) as program:
        await run_requests(trials, program.port, recorder)
        await run_replies(replies, program.port, recorder)
        lines = sum(len(trial.visit.answers) for trial in trials) + 2 * len(replies)
        await asyncio.to_thread(eventually, lambda: program.count_lines("one", "two") >= lines, 5.0)
        logs = {1: program.logs("one"), 2: program.logs("two")}
        inner = program.logs("inner")
    await recorder.stop()
    for trial in trials:
        findings.by_case[str(trial.case)] += faults_of(trial, logs[trial.hops].get(trial.visit.client.decode(), []))
    for reply in replies:
        logged = logs[reply.hops].get(reply.visit.client.decode(), [])
        findings.by_case[str(reply.case)] += reply_faults_of(reply, logged)
    findings.common += recorder.faults()
    # The end of a client is told on as the end of the next one.
    refused = [line for lines_ in inner.values() for line in lines_ if 400 <= line[0] < 500 and line[1] != "-"]
    told = [line for line in refused if line[1] not in ("client_gone", "truncated_body")]
    findings.common += [f"the second hop refused what the first let through: {line}" for line in told]
    return findings


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    trials = request_trials(REQUESTS, HOPS)
    replies = reply_trials(REPLIES, HOPS, len(trials) + 1)
    return asyncio.run(converse(tmp_path_factory.mktemp("hostile"), trials, replies))


@pytest.fixture(scope="module")
def lenient_findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    trials = request_trials(lenient_table.TABLE, HOPS)
    made = converse(
        tmp_path_factory.mktemp("lenient"), trials, [], http1=lenient_table.SETTINGS, inner=lenient_table.SETTINGS
    )
    return asyncio.run(made)


@pytest.fixture(scope="module")
def limit_findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """By the name of the group: each has a program of its own."""
    found: dict[str, Findings] = {}
    for group in limit_table.GROUPS:
        trials = request_trials(group.cases, HOPS)
        found[group.name] = asyncio.run(converse(tmp_path_factory.mktemp("limits"), trials, [], **group.settings))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [*REQUESTS, *REPLIES], ids=str)
def test_member(findings: Findings, case: RequestCase | ReplyCase) -> None:
    assert not findings.by_case[str(case)]


def test_nothing_else_went_wrong(findings: Findings) -> None:
    assert not findings.common
    assert findings.trials > 10000


@pytest.mark.parametrize("case", lenient_table.TABLE, ids=str)
def test_member_of_the_compatible_profile(lenient_findings: Findings, case: RequestCase) -> None:
    assert not lenient_findings.by_case[str(case)]


def test_nothing_else_went_wrong_in_the_compatible_profile(lenient_findings: Findings) -> None:
    assert not lenient_findings.common


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("group", "case"), [(group.name, case) for group in limit_table.GROUPS for case in group.cases], ids=str
)
def test_member_at_a_limit(limit_findings: dict[str, Findings], group: str, case: RequestCase) -> None:
    assert not limit_findings[group].by_case[str(case)]


def test_nothing_else_went_wrong_at_the_limits(limit_findings: dict[str, Findings]) -> None:
    assert not [found.common for found in limit_findings.values() if found.common]
