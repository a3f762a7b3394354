"""Whole runs of the tables against the real program, judged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.judging import faults_of, reply_faults_of
from tests.hostile.program import running
from tests.hostile.recorder import Recorder
from tests.hostile.running import ReplyTrial, Trial, run_replies, run_requests
from tests.hostile.tables import REPLIES
from tests.hostile.tunnel_table import TABLE
from tests.hostile.tunnelling import TunnelServer, run_tunnels, tunnel_faults_of, tunnel_trials
from tests.system.pymosn_process import eventually

#: Both hops pass CONNECT on; everything else is as by default.
TUNNEL_SETTINGS = {"connect": "forward"}


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
        await run_requests(trials, program.port, recorder, connect=program.connect)
        await run_replies(replies, program.port, recorder, connect=program.connect)
        lines = sum(len(trial.visit.answers) for trial in trials) + 2 * len(replies)
        await asyncio.to_thread(eventually, lambda: program.count_lines("one", "two") >= lines)
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


async def converse_through_tunnels(directory: Path, tls: bool = False) -> dict[str, list[str]]:
    """Runs the table of tunnels: faults by the name of the case; under `all` what cannot be laid to one."""
    found: dict[str, list[str]] = defaultdict(list)
    server = TunnelServer()
    await server.start()
    with running(directory, server.port, TUNNEL_SETTINGS, TUNNEL_SETTINGS, tls=tls) as program:
        trials = tunnel_trials(TABLE)
        await run_tunnels(trials, program, server)
    server.stop()
    for trial in trials:
        found[str(trial.case)] += tunnel_faults_of(trial)
    found["all"] += server.broken
    return found
