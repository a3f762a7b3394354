"""The hostile tables against the real program: real sockets, one hop and two, an upstream that records every byte."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.hostile.cases import ReplyCase, RequestCase
from tests.hostile.judging import faults_of, reply_faults_of
from tests.hostile.program import Program, running
from tests.hostile.recorder import Recorder
from tests.hostile.running import ReplyTrial, Trial, request_trials, run_replies, run_requests
from tests.hostile.tables import REPLIES, REQUESTS
from tests.system.pymosn_process import eventually

HOPS = (1, 2)


@dataclass
class Findings:
    """Faults by the name of the case, and those that cannot be laid to one."""

    by_case: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    common: list[str] = field(default_factory=list)
    trials: int = 0


async def converse(program: Program, recorder: Recorder, trials: list[Trial], replies: list[ReplyTrial]) -> None:
    def port(hops: int) -> int:
        return program.one_hop if hops == 1 else program.two_hops

    await run_requests(trials, port, recorder)
    await run_replies(replies, port, recorder)


async def _run(directory: Path, trials: list[Trial], replies: list[ReplyTrial], findings: Findings) -> None:
    recorder = Recorder(REPLIES)
    await recorder.start()
    with running(directory, recorder.port) as program:
        await converse(program, recorder, trials, replies)
        lines = sum(len(trial.visit.answers) for trial in trials) + 2 * len(replies)

        def written() -> int:
            return sum(len(found) for name in ("one", "two") for found in program.logs(name).values())

        await asyncio.to_thread(eventually, lambda: written() >= lines, 5.0)
        logs = {1: program.logs("one"), 2: program.logs("two")}
        inner = program.logs("inner")
    await recorder.stop()
    for trial in trials:
        logged = logs[trial.hops].get(trial.visit.client.decode(), [])
        findings.by_case[str(trial.case)] += faults_of(trial, logged)
    for reply in replies:
        logged = logs[reply.hops].get(reply.visit.client.decode(), [])
        findings.by_case[str(reply.case)] += reply_faults_of(reply, logged)
    findings.common += recorder.faults()
    refused = [line for lines_ in inner.values() for line in lines_ if 400 <= line[0] < 500 and line[1] != "-"]
    refused = [line for line in refused if line[1] not in ("client_gone", "truncated_body")]
    findings.common += [f"the second hop refused what the first let through: {line}" for line in refused]
    findings.trials = len(trials) + len(replies)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    made = Findings()
    trials = request_trials(REQUESTS, HOPS)
    number = len(trials) + 1
    replies = []
    for place, case in enumerate(REPLIES):
        for hops in HOPS:
            replies.append(ReplyTrial(number, place, case, hops))
            number += 2
    asyncio.run(_run(tmp_path_factory.mktemp("hostile"), trials, replies, made))
    return made


@pytest.mark.parametrize("case", [*REQUESTS, *REPLIES], ids=str)
def test_member(findings: Findings, case: RequestCase | ReplyCase) -> None:
    assert not findings.by_case[str(case)]


def test_nothing_else_went_wrong(findings: Findings) -> None:
    assert not findings.common
    assert findings.trials > 5000
