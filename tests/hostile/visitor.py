"""A client of the rig: sends bytes from an address of its own and writes down what comes back."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kit import certificates
from tests.kit.tls_streams import Truncated, open_tls

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")
LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]+)[ \t]*\r$")
CHUNKED = re.compile(rb"(?im)^transfer-encoding:[ \t]*chunked[ \t]*\r$")
#: Seconds after which a conversation is given up.
PATIENCE = 40.0


@dataclass
class Answer:
    """One complete final reply."""

    status: int
    body: bytes
    head: bytes = field(default=b"", repr=False)


@dataclass
class Visit:
    """What became of one connection. `left`: bytes behind the last complete reply.

    `end`: `eof`, `reset`, `open`, or `garbled` when what came is no reply. Over TLS `eof` is the proxy's close_notify, and
    a FIN without it is `truncated`.
    """

    client: bytes
    answers: list[Answer] = field(default_factory=list)
    left: bytes = b""
    end: str = "open"


def address(number: int) -> str:
    """The `number`-th client's own address; from 1 on."""
    return f"127.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def read_answer(data: bytes, is_head: bool, at_end: bool) -> tuple[Answer, int] | None:
    """The final reply at the start of `data` and the size of all up to its end; None when it is not complete."""
    at = 0
    while True:
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return None
        head = data[at : end + 2]
        found = STATUS.match(head)
        if found is None:
            raise ValueError(f"not a reply: {head[:80]!r}")
        status = int(found[1])
        at = end + 4
        if status >= 200:
            break
    if is_head or status in (204, 304):
        return Answer(status, b"", head), at
    length = LENGTH.search(head)
    if length is not None:
        size = int(length[1])
        return (Answer(status, data[at : at + size], head), at + size) if len(data) >= at + size else None
    if CHUNKED.search(head):
        return _read_chunks(data, at, status, head)
    return (Answer(status, data[at:], head), len(data)) if at_end else None


def _read_chunks(data: bytes, at: int, status: int, head: bytes) -> tuple[Answer, int] | None:
    body = b""
    while True:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return None
        size = int(data[at:stop], 16)
        at = stop + 2
        if size == 0:
            stop = data.find(b"\r\n\r\n", at - 2)
            return (Answer(status, body, head), stop + 4) if stop >= 0 else None
        if len(data) < at + size + 2:
            return None
        body += data[at : at + size]
        at += size + 2


#: Connects to a port of this machine from a local address: a reader and a writer.
Connect = Callable[[int, str], Awaitable[tuple[Any, Any]]]


async def connect_plainly(port: int, local: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Without TLS."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0), limit=1 << 20)


@functools.cache
def _context() -> ssl.SSLContext:
    return certificates.client_context()


async def connect_securely(port: int, local: str) -> tuple[Any, Any]:
    """With TLS."""
    return await open_tls("127.0.0.1", port, _context(), "server.test", (local, 0))


async def visit(
    port: int,
    number: int,
    pieces: Sequence[bytes],
    methods: Sequence[bytes],
    wanted: int,
    half_close: bool = False,
    patience: float = PATIENCE,
    connect: Connect = connect_plainly,
) -> Visit:
    """Sends `pieces`, reads `wanted` final replies, then closes this side and reads to the end.

    With `wanted` 0 the other side must close. `half_close`: this side closes at once. `methods`: of the requests, in
    order, for those that answer a HEAD.
    """
    made = Visit(address(number).encode())
    reader, writer = await connect(port, address(number))
    sending = asyncio.ensure_future(_send(writer, pieces, half_close))
    try:
        async with asyncio.timeout(patience):
            await _receive(made, reader, writer, methods, wanted, half_close)
    except TimeoutError:  # an OSError too
        made.end = "open"
    except OSError:
        made.end = "reset"
    except ValueError as fault:
        made.end = f"garbled ({fault})"
    finally:
        sending.cancel()
        writer.transport.abort()
    return made


async def _send(writer: Any, pieces: Sequence[bytes], half_close: bool) -> None:
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)
        if half_close:
            writer.write_eof()
    except (ConnectionError, OSError):
        pass  # refused while we were still sending: what matters is what we are told


async def _receive(
    made: Visit,
    reader: Any,
    writer: Any,
    methods: Sequence[bytes],
    wanted: int,
    closed: bool,
) -> None:
    data = b""
    while True:
        try:
            piece = await reader.read(1 << 16)
        except ConnectionError as error:
            made.end = "truncated" if isinstance(error, Truncated) else "reset"
            piece = b""
        else:
            made.end = "open" if piece else "eof"
        data += piece
        while data:
            place = len(made.answers)
            is_head = place < len(methods) and methods[place] == b"HEAD"
            found = read_answer(data, is_head, made.end == "eof")
            if found is None:
                break
            made.answers.append(found[0])
            data = data[found[1] :]
        made.left = data
        if not piece:
            return
        if wanted and len(made.answers) >= wanted and not closed:
            closed = True
            writer.write_eof()
