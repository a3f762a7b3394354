"""RPC frames that carry a text, in every protocol that is built, as peers write and read them; and peers that speak them.

Nothing here knows pymosn's codecs. A content is what `carried` makes, and is found in a frame by its marks. A service is
named like its protocol, so that routes can match it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable
from typing import ClassVar

from bench.machine import free_port
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo

#: Sizes of the parts in which something is sent; None sends it whole.
Chop = Callable[[], int] | None


#: Around each content; no id and no checksum will look like them.
FIRST, LAST = b"<{[(", b")]}>"


def carried(text: str) -> bytes:
    """A content."""
    return FIRST + text.encode() + LAST


class Wire:
    """One protocol."""

    name: ClassVar[str] = ""

    def request(self, request_id: int, content: bytes, one_way: bool = False) -> bytes:
        """A call with that id."""
        raise NotImplementedError

    def reply(self, request_id: int, content: bytes) -> bytes:
        """The good reply to it."""
        raise NotImplementedError

    def heartbeat(self, request_id: int) -> bytes:
        """A heartbeat that asks for an answer; empty where the protocol has none."""
        return b""

    def size(self, data: bytes) -> int:
        """How long the frame at the start of `data` is; 0 while that is not known."""
        raise NotImplementedError

    def request_id(self, frame: bytes) -> int:
        """The id in a frame."""
        raise NotImplementedError

    def is_heartbeat(self, frame: bytes) -> bool:
        """Whether a frame is a heartbeat, or the answer to one."""
        return False

    def is_goaway(self, frame: bytes) -> bool:
        """Whether a frame asks for another connection to be used for new calls."""
        return False

    def wants_reply(self, frame: bytes) -> bool:
        """Whether a frame is a call that is to be answered."""
        raise NotImplementedError

    def is_good(self, frame: bytes) -> bool:
        """Whether a frame is a reply without an error."""
        raise NotImplementedError

    def content(self, frame: bytes) -> bytes:
        """The content of a frame; empty if it has none."""
        first, last = frame.find(FIRST), frame.rfind(LAST)
        return frame[first : last + len(LAST)] if first >= 0 else b""

    def cut(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The whole frames at the start of `data`, and what is left."""
        frames = []
        while 0 < (size := self.size(data)) <= len(data):
            frames.append(data[:size])
            data = data[size:]
        return frames, data


class Bolt(Wire):
    """SOFA Bolt 1, and 2 with checksums."""

    def __init__(self, v2: bool) -> None:
        self.v2 = v2
        self.name = "boltv2" if v2 else "bolt"  # type: ignore[misc]

    def request(self, request_id: int, content: bytes, one_way: bool = False) -> bytes:
        kind = 2 if one_way else 1
        headers: dict[str, str | None] = {"service": self.name}
        return bolt.request(request_id, content, headers, 30_000, kind, v2=self.v2, crc=self.v2)

    def reply(self, request_id: int, content: bytes) -> bytes:
        return bolt.response(request_id, content, v2=self.v2, crc=self.v2)

    def heartbeat(self, request_id: int) -> bytes:
        return bolt.heartbeat(request_id, self.v2)

    def size(self, data: bytes) -> int:
        shift = int(data[:1] == b"\x02")
        if len(data) < 3:
            return 0
        head = (22 if data[1 + shift] else 20) + 2 * shift
        if len(data) < head:
            return 0
        checksum = 4 if shift and data[1] == 2 and data[11] & 1 else 0
        return head + int(sum(struct.unpack_from(">HHI", data, head - 8))) + checksum

    def _parsed(self, frame: bytes) -> bolt.Parsed:
        [parsed] = bolt.frames(frame)
        return parsed

    def request_id(self, frame: bytes) -> int:
        return self._parsed(frame).request_id

    def is_heartbeat(self, frame: bytes) -> bool:
        return self._parsed(frame).command == 0

    def is_goaway(self, frame: bytes) -> bool:
        return self._parsed(frame).command == 100

    def wants_reply(self, frame: bytes) -> bool:
        return self._parsed(frame).kind == 1

    def is_good(self, frame: bytes) -> bool:
        parsed = self._parsed(frame)
        return parsed.kind == 0 and parsed.status == 0


class Dubbo(Wire):
    """Dubbo with hessian 2."""

    name = "dubbo"

    def request(self, request_id: int, content: bytes, one_way: bool = False) -> bytes:
        return dubbo.call(request_id, self.name, "echo", None, (content,), {"a": "b"}, one_way)

    def reply(self, request_id: int, content: bytes) -> bytes:
        return dubbo.result(request_id, content)

    def heartbeat(self, request_id: int) -> bytes:
        return dubbo.heartbeat(request_id)

    def size(self, data: bytes) -> int:
        return 16 + int(struct.unpack_from(">I", data, 12)[0]) if len(data) >= 16 else 0

    def request_id(self, frame: bytes) -> int:
        return int(struct.unpack_from(">q", frame, 4)[0])

    def is_heartbeat(self, frame: bytes) -> bool:
        return frame[2] & 0x20 != 0

    def is_goaway(self, frame: bytes) -> bool:
        return frame[2] & 0xA0 == 0xA0 and frame.endswith(b"R")

    def wants_reply(self, frame: bytes) -> bool:
        return frame[2] & 0xC0 == 0xC0

    def is_good(self, frame: bytes) -> bool:
        return not frame[2] & 0x80 and frame[3] == 20


class Thrift(Wire):
    """Thrift in Dubbo's framing."""

    name = "dubbo-thrift"

    def _frame(self, kind: int, request_id: int, content: bytes) -> bytes:
        name, service = b"echo", self.name.encode()
        message = struct.pack(">HBBI", 0x8001, 0, kind, len(name)) + name + struct.pack(">i", 1)
        message += b"\x0b\x00\x00" + struct.pack(">I", len(content)) + content + b"\x00"
        header = 9 + 4 + len(service) + 8
        size = header + len(message)
        front = struct.pack(">IHIHBI", size, 0xDABC, size, header, 1, len(service))
        return front + service + struct.pack(">q", request_id) + message

    def request(self, request_id: int, content: bytes, one_way: bool = False) -> bytes:
        return self._frame(4 if one_way else 1, request_id, content)

    def reply(self, request_id: int, content: bytes) -> bytes:
        return self._frame(2, request_id, content)

    def size(self, data: bytes) -> int:
        return 4 + int(struct.unpack_from(">I", data)[0]) if len(data) >= 4 else 0

    def _message(self, frame: bytes) -> int:
        return 4 + int(struct.unpack_from(">H", frame, 10)[0])

    def request_id(self, frame: bytes) -> int:
        return int(struct.unpack_from(">q", frame, self._message(frame) - 8)[0])

    def _kind(self, frame: bytes) -> int:
        return frame[self._message(frame) + 3]

    def wants_reply(self, frame: bytes) -> bool:
        return self._kind(frame) == 1

    def is_good(self, frame: bytes) -> bool:
        return self._kind(frame) == 2


class Tars(Wire):
    """TARS."""

    name = "tars"

    def _packet(self, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 4 + len(body)) + body

    def _buffer(self, tag: int, content: bytes) -> bytes:
        return bytes((tag << 4 | 13, 0, 2)) + struct.pack(">i", len(content)) + content

    def request(self, request_id: int, content: bytes, one_way: bool = False) -> bytes:
        kind = b"\x20\x01" if one_way else b"\x2c"
        names = bytes((0x56, len(self.name))) + self.name.encode() + b"\x66\x04echo"
        rest = self._buffer(7, content) + b"\x82" + struct.pack(">i", 30_000) + b"\x98\x0c\xa8\x0c"
        return self._packet(b"\x10\x01", kind, b"\x3c\x42", struct.pack(">i", request_id), names, rest)

    def reply(self, request_id: int, content: bytes) -> bytes:
        front = b"\x10\x01\x2c\x32" + struct.pack(">i", request_id) + b"\x4c\x5c"
        return self._packet(front, self._buffer(6, content), b"\x78\x0c")

    def size(self, data: bytes) -> int:
        return int(struct.unpack_from(">I", data)[0]) if len(data) >= 4 else 0

    def _integers(self, frame: bytes) -> dict[int, int]:
        """The integers in front, by tag."""
        found, at = {}, 4
        while frame[at] & 15 in (0, 1, 2, 12):
            tag, kind = frame[at] >> 4, frame[at] & 15
            width = {0: 1, 1: 2, 2: 4, 12: 0}[kind]
            found[tag] = int.from_bytes(frame[at + 1 : at + 1 + width], "big", signed=True)
            at += 1 + width
        return found

    def request_id(self, frame: bytes) -> int:
        found = self._integers(frame)
        return found[4] if 4 in found and b"\x66\x04echo" in frame else found[3]

    def wants_reply(self, frame: bytes) -> bool:
        return b"\x66\x04echo" in frame and self._integers(frame)[2] == 0

    def is_good(self, frame: bytes) -> bool:
        return b"\x66\x04echo" not in frame and self._integers(frame)[5] == 0


WIRES: dict[str, Wire] = {wire.name: wire for wire in (Bolt(False), Bolt(True), Dubbo(), Thrift(), Tars())}


def chopper(dice: random.Random) -> Callable[[], int]:
    """Sizes of parts, many of them small."""
    return lambda: dice.choice((1, 1, 2, 3, 5, 16, 60, 200, 1000))


async def send(writer: asyncio.StreamWriter, data: bytes, chop: Chop) -> None:
    """Sends `data` in parts, each of which may arrive alone."""
    while data:
        size = len(data) if chop is None else chop()
        writer.write(data[:size])
        data = data[size:]
        await asyncio.sleep(0)
    await writer.drain()


class Provider:
    """Answers every call with its own content, those that came together in reverse order."""

    def __init__(self, wire: Wire, chop: Chop = None, delay: float = 0.0) -> None:
        """`delay`: seconds between calls and their answers."""
        self.wire = wire
        self._delay = delay
        self.port = 0
        #: Calls that came, and how many of them wait for `answers`.
        self.calls = 0
        self.pending = 0
        self.one_ways: list[bytes] = []
        #: Cleared, calls are read and not answered.
        self.answers = asyncio.Event()
        self.answers.set()
        self._chop = chop
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Provider:
        """Listens, on the port that it had before if there was one; nothing else is given it meanwhile."""
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _set_no_delay(writer)
        self._writers.add(writer)
        rest = b""
        # CancelledError: the loop ends; asyncio would print the trace of each connection. RuntimeError: uvloop's for a write
        # to a connection that has ended meanwhile.
        with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError):
            while data := await reader.read(65536):
                frames, rest = self.wire.cut(rest + data)
                self.pending += len(frames)
                await self.answers.wait()
                await asyncio.sleep(self._delay)
                self.pending -= len(frames)
                out = [self._answer(frame) for frame in reversed(frames)]
                await send(writer, b"".join(out), self._chop)
        self._writers.discard(writer)
        writer.close()

    def _answer(self, frame: bytes) -> bytes:
        if self.wire.is_heartbeat(frame):
            return b""  # any byte is enough of an answer, and none is due while no call is pending
        content = self.wire.content(frame)
        self.calls += 1
        if not self.wire.wants_reply(frame):
            self.one_ways.append(content)
            return b""
        return self.wire.reply(self.wire.request_id(frame), content)

    def die(self) -> None:
        """Ends at once, with a reset of every connection, as a process does that is killed."""
        self.stop()
        for writer in list(self._writers):
            writer.transport.abort()

    def stop(self) -> None:
        """Takes no further connection."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def __aenter__(self) -> Provider:
        return await self.start()

    async def __aexit__(self, *error: object) -> None:
        self.answers.set()
        self.die()


class Consumer:
    """Calls with many calls at work on one connection. A reply that is not that of its call is an error at once."""

    def __init__(self, wire: Wire, port: int, dice: random.Random, chop: Chop = None) -> None:
        self.wire = wire
        self.ok = 0
        self.failed = 0
        self._port = port
        self._dice = dice
        self._chop = chop

    async def call(self, count: int, in_flight: int, progress: Callable[[], None] | None = None) -> None:
        """Makes `count` calls and waits for all their replies. `progress` is called after each."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        _set_no_delay(writer)
        waiting: dict[int, bytes] = {}
        last = self._dice.randrange(1 << 30)
        sent, rest = 0, b""
        try:
            while sent < count or waiting:
                batch = []
                while sent < count and len(waiting) < in_flight:
                    last, sent = last + 1, sent + 1
                    content = carried(f"{id(self)} {sent} {'.' * self._dice.randrange(300)}")
                    waiting[last] = content
                    batch.append(self.wire.request(last, content))
                sending = asyncio.ensure_future(send(writer, b"".join(batch), self._chop))
                data = await asyncio.wait_for(reader.read(65536), 30)
                assert data, "the proxy closed the connection"
                await sending
                frames, rest = self.wire.cut(rest + data)
                for frame in frames:
                    self._take(frame, waiting)
                    if progress is not None:
                        progress()
        finally:
            writer.close()

    def _take(self, frame: bytes, waiting: dict[int, bytes]) -> None:
        expected = waiting.pop(self.wire.request_id(frame))  # KeyError: a reply that was not asked for, or the second one
        if self.wire.is_good(frame):
            assert self.wire.content(frame) == expected, "the reply of another call"
            self.ok += 1
        else:
            self.failed += 1


def _set_no_delay(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
