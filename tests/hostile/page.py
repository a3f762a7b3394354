"""Writes docs/hostile.md: what pymosn, nginx, HAProxy and Envoy do with the members of the tables. `make hostile-page`.

Every proxy gets the same bytes in the same rig, over one hop, with the settings of the benchmark (`bench/peers`): two
variants of each member, alone and after a valid request. Members that need a route or a limit of pymosn are left out.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from bench.cases import HTTP1, HTTP2
from bench.machine import choose_cores, free_port
from bench.peers import Peer, Plan, make_peer
from bench.processes import Processes
from bench.void import Unavailable
from tests.hostile import h2_page
from tests.hostile.conversing import converse, converse_through_tunnels
from tests.hostile.judging import faults_of, reply_faults_of
from tests.hostile.limit_table import GROUPS
from tests.hostile.program import Http2Program, Program, running
from tests.hostile.recorder import Recorder, client_of
from tests.hostile.running import ReplyTrial, Trial, reply_trials, request_trials, run_replies, run_requests
from tests.hostile.tables import REPLIES, REQUESTS
from tests.hostile.tunnel_table import TABLE as TUNNELS
from tests.hostile.tunnelling import tunnel_trials
from tests.hostile.verdicts import AGREES, ODD, PASSES, PATIENCE, REFUSES, Column, table

PAGE = Path(__file__).parents[2] / "docs" / "hostile.md"
PEERS = ("nginx", "haproxy", "envoy")
#: Variants of each member: alone, and after a valid request.
VARIANTS = 2
#: Targets that only pymosn's configuration in the rig has.
OWN_ROUTES = (b"/denied", b"/direct", b"/down", b"/nobody", b"/evil")

ROWS = {
    "A1": "length and chunked both",
    "A2": "two lengths",
    "A3": "length that is not a plain number",
    "A4": "transfer coding other than chunked",
    "A5": "obfuscated framing field",
    "A6": "two transfer codings",
    "A7": "transfer coding in HTTP/1.0",
    "A8": "body with GET, HEAD, OPTIONS",
    "A9": "answered locally, bodies over a limit",
    "A10": "POST without a length",
    "A11": "client ends before its length",
    "A12": "good and bad pipelined",
    "B1": "chunk size",
    "B2": "line ends in chunks",
    "B3": "chunk extensions",
    "B4": "data longer or shorter than its size",
    "B5": "extra bytes around the last chunk",
    "B6": "client ends before the last chunk",
    "B7": "trailers",
    "B8": "very many small chunks",
    "C1": "line ends",
    "C2": "folded lines",
    "C3": "invalid field lines",
    "C4": "control characters",
    "C5": "host",
    "C6": "absolute target",
    "C7": "asterisk, authority, CONNECT",
    "C8": "method and request line",
    "C9": "version",
    "C10": "characters of the target",
    "C11": "normal form of the path",
    "C12": "sizes",
    "C13": "empty lines before a request",
    "C14": "underscores",
    "C15": "untrusted client headers",
    "C16": "fields named by Connection",
    "C17": "hop-by-hop fields",
    "D1": "final response before the body",
    "D2": "Expect and pipelining",
    "D3": "expectations",
    "D4": "upgrade refused, bytes after it",
    "D5": "invalid upgrades",
    "D6": "unrequested 101",
    "D7": "tunnels: every byte, every end",
    "D8": "CONNECT",
    "E1": "framing of responses",
    "E2": "body where none is allowed",
    "E3": "bytes after a response",
    "E4": "incomplete response",
    "E5": "early response",
    "E6": "interim responses",
    "E7": "head of a response",
    "G1": "silence in heads and bodies",
    "G4": "requests of a connection, incomplete heads, overload",
    "G5": "hosts that cannot be reached",
    "G6": "input that might break a log line",
    "G7": "regular expressions of routes",
}


def verdict(trial: Trial, recorder: Recorder) -> str:
    """What a proxy did with a variant, by what the client and the upstream saw. Statuses of refusals may differ."""
    case, visit = trial.case, trial.visit
    got = any(client_of(record.tail) == visit.client for record in recorder.records if record.broken)
    passed = len(trial.requests) > trial.served or got or (bool(trial.partial) and not case.in_body)
    refused = not visit.answers or visit.answers[-1].status >= 400
    if case.is_refused:
        if passed:
            return PASSES
        is_cut = visit.end != "open" and len(visit.answers) < len(trial.expected)
        return AGREES if refused or is_cut else ODD
    logged = [(answer.status, "-") for answer in visit.answers]
    if not faults_of(trial, logged, True) and not got:
        return AGREES
    if refused:
        return REFUSES
    return PASSES if trial.requests or got else ODD


def reply_verdict(trial: ReplyTrial) -> str:
    """The same for a response."""
    case, visit = trial.case, trial.visit
    statuses = [answer.status for answer in visit.answers]
    logged = [(statuses[0] if statuses else 0, "bad_response")]
    failed = case.refused or not case.complete
    whole = bool(statuses) and statuses[0] < 500
    if failed:
        return PASSES if whole else AGREES
    if not reply_faults_of(trial, logged):
        return AGREES
    return PASSES if whole else REFUSES


def trials_of_page() -> tuple[list[Trial], list[ReplyTrial]]:
    cases = [case for case in REQUESTS if not any(path in case.line for path in OWN_ROUTES) and case.answers != (401,)]
    seen: Counter[str] = Counter()
    trials = []
    for trial in request_trials(cases, (1,)):
        seen[str(trial.case)] += 1
        if seen[str(trial.case)] <= VARIANTS:
            trials.append(trial)
    return trials, reply_trials(REPLIES, (1,), max(trial.number for trial in trials) + 1)


async def measure(title: str, port: int, recorder: Recorder) -> Column:
    """Runs all trials against the proxy at `port`."""
    trials, replies = trials_of_page()
    await run_requests(trials, lambda hops: port, recorder, PATIENCE)
    await run_replies(replies, lambda hops: port, recorder, PATIENCE)
    column = Column(title)
    for trial in trials:
        column.verdicts[trial.case.row][verdict(trial, recorder)] += 1
    for reply in replies:
        column.verdicts[reply.case.row][reply_verdict(reply)] += 1
    return column


def add_own(column: Column) -> None:
    """The members that need settings of pymosn's own."""
    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(converse_through_tunnels(Path(name)))
    for trial in tunnel_trials(TUNNELS):
        column.verdicts[trial.case.row][ODD if found[str(trial.case)] else AGREES] += 1
    for group in GROUPS:
        trials = request_trials(group.cases, (1, 2))
        with tempfile.TemporaryDirectory() as name:
            faults = asyncio.run(converse(Path(name), trials, [], **group.settings)).by_case
        for made in trials:
            column.verdicts[made.case.row][ODD if faults[str(made.case)] else AGREES] += 1


Measure = Callable[[str, int, Recorder], Awaitable[Column]]


async def measure_pymosn(measure: Measure, kind: type[Program]) -> Column:
    recorder = Recorder(REPLIES)
    await recorder.start()
    with tempfile.TemporaryDirectory() as name, running(Path(name), recorder.port, kind=kind) as program:
        column = await measure("pymosn", program.port(1), recorder)
    await recorder.stop()
    return column


async def measure_peer(peer: Peer, measure: Measure, front: str) -> Column:
    recorder = Recorder(REPLIES)
    await recorder.start()
    with tempfile.TemporaryDirectory() as name, Processes(Path(name)) as processes:
        plan = Plan(free_port(), recorder.port, 0, Path(name) / peer.name, front=front)
        peer.start(plan, processes, choose_cores().proxy)
        column = await measure(peer.version(), plan.port, recorder)
    await recorder.stop()
    return column


def measure_h2() -> list[Column]:
    """The columns of HTTP/2."""
    columns = [asyncio.run(measure_pymosn(h2_page.measure, Http2Program))]
    return columns + measure_peers(h2_page.measure, HTTP2)


def measure_peers(measure: Measure, front: str) -> list[Column]:
    """The columns of the peers; one that is missing is named and left out."""
    columns = []
    for name in PEERS:
        try:
            columns.append(asyncio.run(measure_peer(make_peer(name, sys.executable, None), measure, front)))
        except (Unavailable, OSError) as fault:
            print(f"continuing without {name}: {fault}")
    return columns


def render(columns: Iterable[Column]) -> str:
    """The page."""
    columns = list(columns)
    own = Counter([case.row for case in TUNNELS] + [case.row for group in GROUPS for case in group.cases])
    members = Counter([case.row for case in REQUESTS] + [case.row for case in REPLIES]) + own
    return HEAD + "\n" + table(ROWS, members, columns)


HEAD = """# Hostile traffic

Generated by `make hostile-page` from the tables in `tests/hostile/`; do not edit.

A row is a group of test messages, its members. Each was sent to each proxy in the same rig: over one hop, alone and
after a valid request, with an upstream that records every byte. A bare number counts the variants for which the proxy
behaves as pymosn's row requires: for an invalid message, that none of it reaches the other side and the sender is rejected
or disconnected (with any status); for a valid one, that it is forwarded in the right form. `passes`: a message that pymosn
rejects or changes reached the other side. `refuses`: a message that pymosn accepts was rejected. `odd`: neither, within
three seconds.

A difference is not necessarily a fault: RFC 9110 and 9112 leave room, and each proxy ran with the settings of the
benchmark (`bench/peers/`), with defaults for everything else. The rows are what pymosn guarantees; `test_hostile_program.py`
checks it, with status, reason word and the connection's end, on each build, and `test_hostile_tls.py` over TLS. Rows that
need a route or a limit of pymosn (A9, G5, G7, parts of C11) are tested there and not compared here.

Members that need settings (D4 to D8: an upgrade or CONNECT that is allowed; limits in A9, C12, C15, G1 and G4) were sent
to pymosn only, over one hop and two. Their variants are in its column; `-` means that a row has no others. G2, G3, G8, G9
and G10 are sequences of events: `make slow`, `make soak`, `tests/system/test_limits.py`, `test_health.py`.
"""


def main() -> int:
    """Writes the page. Returns the exit code: 1 if a peer is missing."""
    columns = [asyncio.run(measure_pymosn(measure, Program))]
    add_own(columns[0])
    columns += measure_peers(measure, HTTP1)
    of_h2 = measure_h2()
    PAGE.write_text(render(columns) + h2_page.render(of_h2))
    print(f"written to {PAGE.relative_to(PAGE.parents[1])}")
    return 0 if len(columns) == len(of_h2) == 1 + len(PEERS) else 1


if __name__ == "__main__":
    sys.exit(main())
