"""Runs the tables of HTTP/2 over real sockets, one variant of each member, and writes down what became of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from tests.hostile.h2_cases import EITHER, ENDED, GOOD, OK, REFUSED, RESET, H2Case, Variant
from tests.hostile.h2_conversing import PROTOCOL_ERROR, compared, message_of
from tests.hostile.recorder import Recorder, Request
from tests.hostile.running import ended
from tests.hostile.visitor import PATIENCE, address
from tests.kit.h2_end import End
from tests.kit.http1_text import Http1Text

BREADTH = 48


@dataclass
class H2Trial:
    """One variant over one or two hops. `status`, `code`: of the response and of the stream's reset; `goaway`: its code.

    `requests`: complete ones that the upstream got of it; `has_partial`: it got a part of one.
    """

    number: int
    case: H2Case
    label: str
    variant: Variant
    hops: int
    status: int = 0
    code: int = -1
    goaway: int = -1
    good: int = 0
    requests: list[Request] = field(default_factory=list)
    has_partial: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def client(self) -> bytes:
        return address(self.number).encode()


def trials_of(cases: list[H2Case], most_hops: int = 2) -> list[H2Trial]:
    """One variant of each member: the kinds of variants and the ways take turns."""
    trials = []
    for number, case in enumerate(cases, 1):
        variants = list(case.variants())
        label, variant = variants[number % len(variants)]
        trials.append(H2Trial(number, case, label, variant, 1 + number // len(variants) % most_hops))
    return trials


async def run_trials(trials: list[H2Trial], ports: dict[int, int], recorder: Recorder, patience: float = PATIENCE) -> None:
    """`ports`: by the number of hops. `patience`: seconds for a proxy that does not end what it should."""
    gate = asyncio.Semaphore(BREADTH)

    async def one(trial: H2Trial) -> None:
        async with gate:
            try:
                async with asyncio.timeout(patience):
                    await visit(trial, ports[trial.hops])
            except (TimeoutError, AssertionError) as error:
                trial.faults.append(f"{type(error).__name__} {error}")
            await ended(recorder.partial(trial.client), patience)
            judge(trial, recorder)

    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(one(trial))


async def visit(trial: H2Trial, port: int) -> None:
    """Sends the member and, if the connection lives on, a good request behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address(trial.number), 0))
    end = End(True, writer.write)
    writer.write(end.opening())
    stream = end.new_stream()
    data = trial.variant.frames(end.encoder, stream.number)
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), 64) if trial.variant.bytewise else [0]:
            writer.write(data[at : at + 64] if trial.variant.bytewise else data)
            await writer.drain()
        while not stream.is_done and not end.goaways and (piece := await reader.read(1 << 16)):
            end.feed(piece)
        trial.status, trial.code = (stream.status if stream.heads else 0), stream.code
        if not end.goaways:
            good = end.new_stream()
            end.send_head(good, GOOD, True)
            while not good.is_done and not end.goaways and (piece := await reader.read(1 << 16)):
                end.feed(piece)
            trial.good = good.status
    trial.goaway = end.goaways[-1][1] if end.goaways else -1
    writer.transport.abort()


def judge(trial: H2Trial, recorder: Recorder) -> None:
    """Adds what is not as the row says to the trial's faults."""
    case, faults = trial.case, trial.faults
    trial.requests = requests = [request for _, request in recorder.by_client.get(trial.client, [])]
    if trial.good:
        if trial.good != 200 or not requests or requests[-1].target != b"/good":
            faults.append(f"the good request that follows got {trial.good}")
        trial.requests = requests = requests[:-1]
    got = f"status {trial.status}, reset with {trial.code}, goaway {trial.goaway}"
    is_refused = trial.code == PROTOCOL_ERROR or 400 <= trial.status < 500
    is_ended = trial.goaway > 0
    right = {
        OK: trial.status == 200,
        RESET: trial.code == PROTOCOL_ERROR,
        REFUSED: is_refused,
        ENDED: is_ended,
        EITHER: is_refused or is_ended,
    }
    if not right.get(str(case.outcome), trial.status == case.outcome):
        faults.append(f"{got}, not {case.outcome}")
    if case.outcome not in (ENDED, EITHER) and (is_ended or trial.good != 200):
        faults.append(f"{got}: the connection did not go on")
    partial = recorder.partial(trial.client)
    trial.has_partial = bool(partial)
    if partial and not case.in_body:
        faults.append(f"an incomplete request upstream: {partial[0].tail[:200]!r}")
    if any(not record.ended.is_set() for record in partial):
        faults.append("a connection with half a request is still open")
    if case.outcome != OK:
        if requests and not case.in_body:
            faults.append(f"reached the upstream: {requests[0].raw[:300]!r}")
        return
    if len(requests) != 1:
        faults.append(f"{len(requests)} requests upstream")
        return
    message = message_of(Http1Text(True).feed(requests[0].raw))
    added = (b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id")
    found = compared(tuple(pair for pair in message.fields if pair[0] not in added))
    if found != compared(case.message()) or message.body != case.content:
        faults.append(f"said {compared(case.message())}, upstream got {found} with {message.body[:100]!r}")
