"""Runs the tables over real sockets against a proxy, whichever it is, and writes down what became of each variant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tests.hostile.cases import BEHIND, ReplyCase, RequestCase
from tests.hostile.recorder import Record, Recorder, Request
from tests.hostile.visitor import PATIENCE, Connect, Visit, connect_plainly, visit

#: Connections at the same time.
BREADTH = 48
#: Longer inputs are never sent byte by byte.
BYTEWISE = 300


@dataclass
class Trial:
    """One variant of one member over one way, and afterwards what became of it."""

    number: int
    case: RequestCase
    label: str
    data: bytes
    served: int
    hops: int
    visit: Visit = field(default_factory=lambda: Visit(b""))
    requests: list[Request] = field(default_factory=list)
    partial: list[Record] = field(default_factory=list)

    @property
    def own_requests(self) -> bytes:
        """What reached the upstream of the member itself, without the good request before it."""
        behind = 1 if self.data.startswith(BEHIND) else 0
        return b"".join(request.raw for request in self.requests[behind:])

    @property
    def expected(self) -> tuple[int, ...]:
        before = (200,) if self.data.startswith(BEHIND) else ()
        return before + self.case.expected

    @property
    def stays_open(self) -> bool:
        """Whether the proxy leaves it to the client to end the connection."""
        return not self.case.is_refused and not self.case.closes

    @property
    def methods(self) -> list[bytes]:
        return [b"GET", self.case.method] if self.data.startswith(BEHIND) else [self.case.method]


@dataclass
class ReplyTrial:
    """One reply case over one way."""

    number: int
    place: int
    case: ReplyCase
    hops: int
    visit: Visit = field(default_factory=lambda: Visit(b""))
    next_visit: Visit = field(default_factory=lambda: Visit(b""))
    records: list[Record] = field(default_factory=list)


def pieces_of(data: bytes, number: int) -> list[bytes]:
    """How the variant `number` is sent: whole, in halves, in small pieces or byte by byte, in turn."""
    way = number % 4
    if way == 0 or len(data) < 4:
        return [data]
    if way == 1:
        return [data[: len(data) // 2], data[len(data) // 2 :]]
    size = 1 if way == 2 and len(data) <= BYTEWISE else max(7, len(data) // 40)
    return [data[at : at + size] for at in range(0, len(data), size)]


def request_trials(cases: Iterable[RequestCase], hops: Sequence[int]) -> list[Trial]:
    """Every variant of every case; the ways take turns, beginning with another one in each case."""
    trials: list[Trial] = []
    for place, case in enumerate(cases):
        for turn, (label, data, served) in enumerate(case.wires()):
            way = hops[(place + turn // 2 + turn) % len(hops)]
            trials.append(Trial(len(trials) + 1, case, label, data, served, way))
    return trials


def thinned(trials: Sequence[Trial], share: int) -> list[Trial]:
    """One of `share` variants of every case, and the first one always."""
    by_case = [list(group) for _, group in groupby(trials, lambda trial: str(trial.case))]
    return [trial for group in by_case for trial in group[::share]]


def reply_trials(cases: Sequence[ReplyCase], hops: Sequence[int], first: int) -> list[ReplyTrial]:
    """Every reply over every way; each takes two numbers from `first` on."""
    ways = [(place, case, way) for place, case in enumerate(cases) for way in hops]
    return [ReplyTrial(first + 2 * turn, place, case, way) for turn, (place, case, way) in enumerate(ways)]


async def run_requests(
    trials: Sequence[Trial],
    port: Callable[[int], int],
    recorder: Recorder,
    patience: float = PATIENCE,
    connect: Connect = connect_plainly,
) -> None:
    """Runs the trials; `port` gives the port for a number of hops.

    With less than the usual `patience` (seconds) it is not seen to that a refusing proxy closes by itself.
    """

    async def one(trial: Trial) -> None:
        case = trial.case
        pieces = pieces_of(trial.data, trial.number)
        wanted = len(trial.expected) if trial.stays_open or patience < PATIENCE else 0
        to = port(trial.hops)
        made = await visit(to, trial.number, pieces, trial.methods, wanted, case.then_eof, patience, connect)
        trial.visit = made
        trial.partial = recorder.partial(made.client)
        trial.requests = [request for _, request in recorder.by_client.get(made.client, [])]
        await ended(trial.partial, patience)

    await _all(trials, one)


async def run_replies(
    trials: Sequence[ReplyTrial],
    port: Callable[[int], int],
    recorder: Recorder,
    patience: float = PATIENCE,
    connect: Connect = connect_plainly,
) -> None:
    """Asks for each reply, and then for an ordinary one, which must be the asker's own."""

    async def one(trial: ReplyTrial) -> None:
        wire = trial.case.method + b" /reply/%d HTTP/1.1\r\nHost: a\r\n\r\n" % trial.place
        to = port(trial.hops)
        trial.visit = await visit(to, trial.number, [wire], [trial.case.method], 1, False, patience, connect)
        trial.next_visit = await visit(to, trial.number + 1, [BEHIND], [b"GET"], 1, False, patience, connect)
        trial.records = [record for record, _ in recorder.by_client.get(trial.visit.client, [])]
        if not trial.case.reusable:
            await ended(trial.records, patience)

    await _all(trials, one)


async def ended(records: Iterable[Record], patience: float) -> None:
    """Waits for the end of connections that the proxy must cut; one that it does not is found by the judge."""
    try:
        async with asyncio.timeout(patience / 2):
            for record in records:
                await record.ended.wait()
    except TimeoutError:
        pass


async def _all(trials: Sequence[object], one: Callable[..., object]) -> None:
    gate = asyncio.Semaphore(BREADTH)

    async def guarded(trial: object) -> None:
        async with gate:
            await one(trial)  # type: ignore[misc]

    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(guarded(trial))
