"""The upstream of the rig: a raw socket server that keeps every byte, and reads requests with a parser of its own.

Its parser knows only what a well-behaved proxy sends. Whatever else comes makes the record `broken`, which is a finding.
Each client of the rig has an address of its own in 127.0.0.0/8: X-Forwarded-For tells whose request it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from dataclasses import dataclass, field

from tests.hostile.cases import ReplyCase

CLIENT = re.compile(rb"127\.(?!0\.0\.1\b)[0-9.]+")
FORWARDED_FOR = re.compile(rb"(?im)^x-forwarded-for:(.*)$")

#: A head that is to be answered before the body has come.
EARLY = re.compile(rb"[A-Z]+ /early/([0-9]+) .*?\r\n\r\n", re.DOTALL)


@dataclass
class Request:
    """One complete request: all its bytes, and what the recorder read from them. `body`: without its chunks."""

    raw: bytes
    body: bytes
    method: bytes
    target: bytes
    client: bytes


@dataclass
class Record:
    """One connection. `tail`: the bytes behind the last complete request. `ended`: the proxy closed or reset it."""

    data: bytearray = field(default_factory=bytearray)
    requests: list[Request] = field(default_factory=list)
    tail: bytes = b""
    broken: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Malformed(ValueError):
    """Bytes that no proxy should send."""


def client_of(head: bytes) -> bytes:
    """The address of the rig's client in a request head; empty when there is none."""
    said = b",".join(FORWARDED_FOR.findall(head))
    found = CLIENT.findall(said)
    return found[-1] if found else b""


def read_request(data: bytes) -> tuple[Request, int] | None:
    """The request at the start of `data` and its size; None when it is not complete. Raises Malformed."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 2]
    line, *fields = head[:-2].split(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not words[0] or not words[1]:
        raise Malformed(f"request line {line!r}")
    codings, lengths = _framing(fields)
    if len(codings) + len(lengths) > 1:
        raise Malformed("framed twice")
    size = end + 4
    body = b""
    if codings:
        if codings != [b"chunked"]:
            raise Malformed(f"coding {codings}")
        pieces: list[bytes] = []
        whole = _read_chunks(data, size, pieces)
        if whole < 0:
            return None
        size = whole
        body = b"".join(pieces)
    elif lengths:
        size += int(lengths[0])
        if len(data) < size:
            return None
        body = data[end + 4 : size]
    return Request(data[:size], body, words[0], words[1], client_of(head)), size


def _framing(fields: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    codings: list[bytes] = []
    lengths: list[bytes] = []
    for text in fields:
        found = re.fullmatch(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", text)
        if found is None:
            raise Malformed(f"field line {text!r}")
        name = found[1].lower()
        if name == b"transfer-encoding":
            codings.append(found[2])
        elif name == b"content-length":
            lengths.append(found[2])
            if not re.fullmatch(rb"[0-9]{1,18}", found[2]):
                raise Malformed(f"length {found[2]!r}")
    return codings, lengths


def _read_chunks(data: bytes, start: int, pieces: list[bytes]) -> int:
    """The offset behind a chunked body, or -1 when it is not complete; its data is added to `pieces`."""
    at = start
    while True:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return -1
        if not re.fullmatch(rb"[0-9a-f]{1,15}", data[at:stop]):
            raise Malformed(f"chunk size {bytes(data[at : stop + 2])!r}")
        size = int(data[at:stop], 16)
        at = stop + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return -1
        pieces.append(data[at : at + size])
        at += size + 2
        if data[at - 2 : at] != b"\r\n":
            raise Malformed("no CRLF behind a chunk")
    while True:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return -1
        if stop == at:
            return stop + 2
        at = stop + 2


class Recorder:
    """The server. It answers with the client's address.

    `/reply/N` is answered with the bytes of the N-th reply case; `/early/S` with status S as soon as the head is there.
    """

    def __init__(self, replies: list[ReplyCase]) -> None:
        self.replies = replies
        self.records: list[Record] = []
        self.by_client: dict[bytes, list[tuple[Record, Request]]] = defaultdict(list)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        record = Record()
        self.records.append(record)
        self._writers.add(writer)
        try:
            await self._talk(record, reader, writer)
        except Malformed as fault:
            record.broken = str(fault)
        except ConnectionError:
            pass
        finally:
            record.ended.set()
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(self, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = 0
        is_answered = False
        while piece := await reader.read(1 << 16):
            record.data += piece
            while at < len(record.data):
                record.tail = bytes(record.data[at:])
                found = read_request(record.tail)
                if found is None:
                    break
                request, size = found
                at += size
                record.requests.append(request)
                self.by_client[request.client].append((record, request))
                if not is_answered:
                    self._answer(request, writer)
                is_answered = False
            record.tail = bytes(record.data[at:])
            early = None if is_answered else EARLY.match(record.tail)
            if early is not None:
                is_answered = True
                client = client_of(record.tail)
                writer.write(b"HTTP/1.1 %b Early\r\nContent-Length: %d\r\n\r\n%b" % (early[1], len(client), client))

    def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        found = re.fullmatch(rb"/reply/([0-9]+)", request.target)
        if found is None:
            body = b"" if request.method == b"HEAD" else request.client
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.client) + body)
            return
        case = self.replies[int(found[1])]
        writer.write(case.wire)
        if case.then_eof:
            writer.write_eof()

    def partial(self, client: bytes) -> list[Record]:
        """The connections on which an incomplete request of `client` is."""
        return [record for record in self.records if record.tail and client_of(record.tail) == client]

    def faults(self) -> list[str]:
        """What the proxies sent that is no request, or a request of nobody."""
        broken = [record.broken for record in self.records if record.broken]
        return broken + [f"of nobody: {request.raw[:200]!r}" for _, request in self.by_client.get(b"", [])]
