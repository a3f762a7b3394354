"""Runs the members of `tunnel_table` against the real program, and holds both ends of each tunnel against the table."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from tests.hostile.cases import BEHIND
from tests.hostile.recorder import Malformed, client_of, read_request
from tests.hostile.running import BREADTH, pieces_of
from tests.hostile.tunnel_table import CLIENT_ENDS, CLIENT_RESETS, SERVER_ENDS, SERVER_RESETS, TunnelCase
from tests.hostile.visitor import Connect, address, read_answer
from tests.kit.tls_streams import Truncated

#: What the proxies add about the client: not the row's matter.
ADDED = re.compile(rb"(?i)\r\n(x-forwarded-for|x-forwarded-proto|x-request-id): [^\r\n]*")
#: What the side that did not end the tunnel still says behind the other's FIN.
LAST_WORD = b"goodbye\x00\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PATIENCE = 40.0
#: A reset overtakes bytes that wait in a socket because the next one is full; up to this many never wait, however busy the
#: machine is.
WINDOW = 32 * 1024


@dataclass
class TunnelTrial:
    """One case over one way, and what both ends saw. `client_end`, `server_end`: `eof`, `reset` or `open`.

    Over TLS the client's `eof` is a close_notify, and a FIN without it `truncated`.
    """

    number: int
    case: TunnelCase
    hops: int
    label: str
    data: bytes
    requests: list[bytes] = field(default_factory=list)
    received: bytes = b""
    tunnelled: bytes = b""
    client_end: str = "open"
    server_end: str = "open"
    fault: str = ""
    server_done: asyncio.Event = field(default_factory=asyncio.Event)
    client_has_all: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def expected_up(self) -> bytes:
        return self.case.early + self.case.up


class TunnelServer:
    """The upstream: answers the member's request as the table says and keeps all that comes behind."""

    def __init__(self) -> None:
        self.trials: dict[bytes, TunnelTrial] = {}
        self.broken: list[str] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        try:
            while piece := await reader.read(1 << 16):
                data += piece
                while data and (found := read_request(data)) is not None:
                    request, size = found
                    data = data[size:]
                    trial = self.trials[request.client]
                    trial.requests.append(ADDED.sub(b"", request.raw))
                    if request.target in (b"/good", b"/next"):
                        writer.write(OK)
                        continue
                    writer.write(trial.case.reply + (trial.case.down if trial.case.agreed else b""))
                    if trial.case.agreed:
                        await self._tunnel(trial, data, reader, writer)
                        return
        except Malformed as fault:
            self.broken.append(f"{fault}: {data[:200]!r}")
        except ConnectionError:
            pass
        finally:
            if data:
                self.broken.append(f"half a request of {client_of(data)!r}: {data[:100]!r}")
            writer.close()

    async def _tunnel(
        self, trial: TunnelTrial, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        case = trial.case
        try:
            while len(data) < len(trial.expected_up) and (piece := await reader.read(1 << 16)):
                data += piece
            if case.ends == SERVER_RESETS:
                if len(case.down) > WINDOW:
                    await trial.client_has_all.wait()
                _reset(writer)
                return
            if case.ends == SERVER_ENDS:
                writer.write_eof()
            while piece := await reader.read(1 << 16):
                data += piece
            trial.server_end = "eof"
            if case.ends == CLIENT_ENDS:
                writer.write(LAST_WORD)
                writer.write_eof()
        except ConnectionError:
            trial.server_end = "reset"
        finally:
            trial.tunnelled = data
            trial.server_done.set()
            writer.close()


def _reset(writer: Any) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def tunnel_trials(cases: Sequence[TunnelCase]) -> list[TunnelTrial]:
    """Each case over one hop and two, alone and behind a good request, the ways of sending in turn."""
    made: list[TunnelTrial] = []
    for case in cases:
        for hops in (1, 2):
            for label, before in (("alone", b""), ("behind a good request", BEHIND)):
                made.append(TunnelTrial(len(made) + 1, case, hops, label, before + case.ask + case.early))
    return made


async def run_tunnels(trials: Sequence[TunnelTrial], program: Any, server: TunnelServer) -> None:
    """Runs all of them, some at the same time."""
    gate = asyncio.Semaphore(BREADTH)

    async def guarded(trial: TunnelTrial) -> None:
        server.trials[address(trial.number).encode()] = trial
        async with gate:
            await _run(trial, program.port(trial.hops), program.connect)

    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(guarded(trial))


async def _run(trial: TunnelTrial, port: int, connect: Connect) -> None:
    reader, writer = await connect(port, address(trial.number))
    try:
        async with asyncio.timeout(PATIENCE):
            sending = asyncio.ensure_future(_send(writer, pieces_of(trial.data, trial.number)))
            await _talk(trial, reader, writer, sending)
            await sending
            if trial.case.agreed:
                await trial.server_done.wait()
    except TimeoutError:
        trial.fault = "nothing more happens"
    finally:
        writer.transport.abort()


async def _send(writer: Any, pieces: Sequence[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)


async def _talk(trial: TunnelTrial, reader: Any, writer: Any, sending: asyncio.Future[None]) -> None:
    case = trial.case
    wanted = len(case.statuses) + (1 if trial.data.startswith(BEHIND) else 0)
    said = False
    try:
        while True:
            got = trial.received
            if case.agreed and not said and case.agreed in got:
                said = True
                await sending
                writer.write(case.up)
            if said and len(got) >= got.index(case.agreed) + len(case.agreed + case.down):
                trial.client_has_all.set()
                if case.ends == CLIENT_RESETS:
                    _reset(writer)
                    trial.client_end = "own"
                    return
                if case.ends == CLIENT_ENDS and len(got) == got.index(case.agreed) + len(case.agreed + case.down):
                    writer.write_eof()
            if not case.agreed and not case.closes and len(answers_of(trial)) == wanted:
                trial.client_end = "open"
                return
            piece = await reader.read(1 << 16)
            if not piece:
                trial.client_end = "eof"
                if case.agreed and case.ends == SERVER_ENDS:
                    writer.write(LAST_WORD)
                    writer.write_eof()
                return
            trial.received += piece
    except ConnectionError as error:
        trial.client_end = "truncated" if isinstance(error, Truncated) else "reset"


def answers_of(trial: TunnelTrial) -> list[int]:
    """The statuses of the final replies that the client got; -1 for bytes that are none."""
    data = trial.received
    statuses: list[int] = []
    while data:
        try:
            found = read_answer(data, False, trial.client_end == "eof")
        except ValueError:
            return [*statuses, -1]
        if found is None:
            break
        statuses.append(found[0].status)
        data = data[found[1] :]
    return statuses


def tunnel_faults_of(trial: TunnelTrial) -> list[str]:
    """Everything that is not as the table says."""
    case = trial.case
    found: list[str] = [trial.fault] if trial.fault else []
    behind = trial.label != "alone"
    heads = ((BEHIND,) if behind else ()) + case.heads
    if case.heads and tuple(trial.requests) != heads:
        found.append(f"upstream got {[raw[:300] for raw in trial.requests]}, not {[raw[:300] for raw in heads]}")
    if not case.heads and not case.agreed and len(trial.requests) != behind:
        found.append(f"upstream got {trial.requests}")
    if not case.agreed:
        statuses = ((200,) if behind else ()) + case.statuses
        if tuple(answers_of(trial)) != statuses:
            found.append(f"replies {answers_of(trial)}, not {statuses}")
        if trial.client_end != ("eof" if case.closes else "open"):
            found.append(f"the connection ends by {trial.client_end}")
        return [f"[{trial.label}; {trial.hops} hop] {text}" for text in found]
    last_up = LAST_WORD if case.ends == SERVER_ENDS else b""
    last_down = LAST_WORD if case.ends == CLIENT_ENDS else b""
    _, agreed, down = trial.received.partition(case.agreed)
    if not agreed or down != case.down + last_down:
        found.append(f"the client got {trial.received[:300]!r} ({len(down)} bytes in the tunnel)")
    if trial.tunnelled != trial.expected_up + last_up and case.ends != CLIENT_RESETS:
        found.append(f"{len(trial.tunnelled)} bytes through the tunnel: {trial.tunnelled[:200]!r}")
    if not (trial.expected_up + last_up).startswith(trial.tunnelled):
        found.append(f"other bytes through the tunnel: {trial.tunnelled[:200]!r}")
    ends = {
        CLIENT_ENDS: ("eof", "eof"),
        SERVER_ENDS: ("eof", "eof"),
        CLIENT_RESETS: ("own", "reset"),
        SERVER_RESETS: ("reset", "open"),
    }
    if (trial.client_end, trial.server_end) != ends[case.ends]:
        found.append(f"the client's end is {trial.client_end}, the server's {trial.server_end}")
    return [f"[{trial.label}; {trial.hops} hop] {text}" for text in found]
