import asyncio
import os
import socket
import struct
from collections.abc import Callable

import msgspec
import pytest

from pymosn.api.tracing import SpanRecord, TraceRecord
from pymosn.core.counters import Metrics
from pymosn.server import channel
from pymosn.server.channel import MAX_FRAME, Channel
from pymosn.server.messages import (
    COMMANDS,
    REPORTS,
    Drain,
    Exchanges,
    Message,
    Sockets,
    Stats,
    Stop,
    SwitchLog,
    Traces,
)


class Ends:
    """A channel under test, the bare socket of its peer, and what the channel reported."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.messages: list[Message] = []
        self.descriptors: list[int] = []
        self.closed: list[str] = []
        self._changed = asyncio.Event()
        self.channel = Channel(asyncio.get_running_loop(), ours, COMMANDS, self._on_message, self._on_closed)

    def _on_message(self, message: Message, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors
        self._changed.set()

    def _on_closed(self, reason: str) -> None:
        self.closed.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        self.channel.close()
        self.peer.close()


def frame(message: object, descriptors: int = 0) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return struct.pack("!IB", len(payload), descriptors) + payload


def test_a_message_arrives_whole_however_it_is_cut() -> None:
    async def scenario() -> None:
        ends = Ends()
        for byte in frame(Drain(3)) + frame(Stop()):
            ends.peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await ends.until(lambda: len(ends.messages) == 2)
        assert ends.messages == [Drain(3), Stop()]
        ends.close()

    asyncio.run(scenario())


def test_descriptors_come_with_the_message_that_carried_them() -> None:
    async def scenario() -> None:
        ends = Ends()
        sender_loop = asyncio.get_running_loop()
        sender = Channel(sender_loop, ends.peer, COMMANDS, lambda message, descriptors: None, lambda reason: None)
        reader, writer = os.pipe()
        sender.send(Drain(0))
        sender.send(Sockets(["a", "b"]), [reader, writer])
        sender.send(Stop())
        await ends.until(lambda: len(ends.messages) == 3)
        assert ends.messages == [Drain(0), Sockets(["a", "b"]), Stop()]
        received_reader, received_writer = ends.descriptors
        assert {received_reader, received_writer}.isdisjoint({reader, writer})
        assert not os.get_inheritable(received_reader)
        os.write(received_writer, b"through")
        assert os.read(reader, 100) == b"through"
        for descriptor in (reader, writer, received_reader, received_writer):
            os.close(descriptor)
        sender.close()
        ends.close()

    asyncio.run(scenario())


def test_a_frame_larger_than_the_socket_buffer_is_sent_in_parts() -> None:
    async def scenario() -> None:
        ends = Ends()
        sender = Channel(asyncio.get_running_loop(), ends.peer, COMMANDS, lambda m, d: None, lambda reason: None)
        reader, writer = os.pipe()
        big = Sockets(["x" * 5_000_000, "last"])
        sender.send(big, [reader])
        sender.send(Stop())
        assert not sender.is_flushed
        await ends.until(lambda: len(ends.messages) == 2)
        assert ends.messages == [big, Stop()]
        assert len(ends.descriptors) == 1
        assert sender.is_flushed
        for descriptor in (reader, writer, *ends.descriptors):
            os.close(descriptor)
        sender.close()
        ends.close()

    asyncio.run(scenario())


def test_messages_sent_before_the_peer_closed_arrive_before_the_end() -> None:
    async def scenario() -> None:
        ends = Ends()
        ends.peer.send(frame(SwitchLog("a.log", False)))
        ends.peer.close()
        ends.channel.send(Stop())  # finds no peer, and must not hide unread messages
        await ends.until(lambda: bool(ends.closed))
        assert ends.messages == [SwitchLog("a.log", False)]
        assert ends.closed == ["closed by the peer"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("!IB", MAX_FRAME + 1, 0), f"frame of {MAX_FRAME + 1} bytes is too large"),
        (frame({"type": "Nonsense"}), "invalid message"),
        (frame(Stop(), descriptors=2), "a message arrived without its descriptors"),
    ],
)
def test_a_broken_peer_closes_the_channel(data: bytes, reason: str) -> None:
    async def scenario() -> None:
        ends = Ends()
        ends.peer.send(data)
        await ends.until(lambda: bool(ends.closed))
        assert ends.closed[0].startswith(reason)
        assert ends.messages == []
        ends.close()

    asyncio.run(scenario())


def test_a_message_that_is_too_large_is_refused_before_anything_is_sent() -> None:
    async def scenario() -> None:
        ends = Ends()
        with pytest.raises(ValueError, match="too large"):
            ends.channel.send(Sockets(["x" * MAX_FRAME]))
        assert ends.channel.is_flushed
        ends.close()

    asyncio.run(scenario())


def test_texts_that_are_not_unicode_are_sent_with_escapes() -> None:
    odd, shown = "s\udcff", "s\\udcff"

    def received(message: Message) -> Message:
        return REPORTS.decode(channel.frame(message)[5:])

    assert received(Exchanges(1, [{"method": odd, odd: (1, odd)}], [])) == Exchanges(
        1, [{"method": shown, shown: [1, shown]}], []
    )
    span = SpanRecord("1" * 16, "", "server", "GET", 1.5, 0.5, odd, {"a": odd, "b": 1, "c": True})
    expected = SpanRecord("1" * 16, "", "server", "GET", 1.5, 0.5, shown, {"a": shown, "b": 1, "c": True})
    assert received(Traces([TraceRecord("t", odd, {}, [span])])) == Traces([TraceRecord("t", shown, {}, [expected])])
    metrics = Metrics()
    group = metrics.group("dubbo", ("service", odd))
    group.counter("calls_total").value += 1
    found = received(Stats(1, [group.data()]))
    assert isinstance(found, Stats)
    assert [tuple(label) for label in found.groups[0]["labels"]] == [("service", shown)]
    assert found.groups[0]["counters"] == {"calls_total": 1}
