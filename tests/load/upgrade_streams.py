"""Clients of long streams for upgrades under load: WebSocket, gRPC, tcp_proxy, and sessions of UDP.

Each stream is an echo. A stream that is longer than `graceful_timeout` ends with its generation: it is counted as cut, and
who started the upgrades judges whether it was due.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc
from grpc_peers import Client as GrpcClient
from tests.load.tally import Tally, describe
from tests.load.upgrade_http1 import use_no_delay
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

#: Seconds between two messages, and that one may take.
STEP: Final = 0.05
PATIENCE: Final = 20.0


async def web_socket(tally: Tally, stop: asyncio.Event, port: int, steps: int) -> None:
    """A WebSocket with so many messages; 0 for as long as possible."""
    while not stop.is_set():
        began, number = time.monotonic(), 0
        try:
            async with connect(f"ws://127.0.0.1:{port}/echo", ping_interval=None, open_timeout=PATIENCE) as sock:
                tally.connections += 1
                tally.asked += 1
                while not stop.is_set() and (number < steps or not steps):
                    number += 1
                    await sock.send(f"message {number}")
                    got = await asyncio.wait_for(sock.recv(), PATIENCE)
                    if got != f"message {number}":
                        tally.fail("wrong message", f"{got!r} for message {number}", began)
                    await asyncio.sleep(STEP)
            tally.succeed(time.monotonic(), 0)
        except ConnectionClosed as error:
            _ended(tally, not steps, began, f"{type(error).__name__}", f"{error!r}, message {number}")
        except (OSError, TimeoutError, WebSocketException) as error:
            tally.fail("websocket", f"{describe(error)}, message {number}", began)
            await asyncio.sleep(STEP)


def _ended(tally: Tally, is_long: bool, began: float, how: str, detail: str) -> None:
    if is_long:
        tally.cut(began, how)
    else:
        tally.fail(how, detail, began, 1, began)


async def tcp(tally: Tally, stop: asyncio.Event, port: int, steps: int) -> None:
    """A connection through `tcp_proxy` with so many messages; 0 for as long as possible."""
    while not stop.is_set():
        began, number, got = time.monotonic(), 0, b""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            use_no_delay(writer)
            tally.connections += 1
            tally.asked += 1
            while not stop.is_set() and (number < steps or not steps):
                number += 1
                message = b"message %d\n" % number
                if not writer.is_closing():
                    writer.write(message)
                got = await asyncio.wait_for(reader.readline(), PATIENCE)
                if not got:
                    raise EOFError("the connection ended")
                if got != message:
                    tally.fail("wrong bytes", f"{got!r} for {message!r}", began)
                await asyncio.sleep(STEP)
            writer.close()
            tally.succeed(time.monotonic(), 0)
        except (ConnectionResetError, BrokenPipeError, EOFError) as error:
            _ended(tally, not steps, began, type(error).__name__, f"{describe(error)}, message {number}, {got!r}")
        except (OSError, TimeoutError) as error:
            tally.fail("tcp", f"{describe(error)}, message {number}", began)
            await asyncio.sleep(STEP)


class Datagrams(asyncio.DatagramProtocol):
    """The client's end of a UDP session. `answers`: what has come."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.errors: list[str] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answers.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(describe(exc))


async def udp(tally: Tally, stop: asyncio.Event, port: int) -> None:
    """One session. Each answer has the port that the upstream has seen, which never changes, since the session goes on."""
    began = time.monotonic()
    transport, session = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, remote_addr=("127.0.0.1", port)
    )
    tally.connections += 1
    tally.asked += 1
    source, number = b"", 0
    while not stop.is_set():
        number += 1
        sent = time.monotonic()
        transport.sendto(b"datagram %d" % number)
        try:
            seen, _, got = (await asyncio.wait_for(session.answers.get(), 2.0)).partition(b" ")
        except TimeoutError:
            tally.fail("lost", f"datagram {number}, errors {session.errors[-3:]}", began)
            continue
        if got != b"datagram %d" % number:
            tally.fail("wrong datagram", f"{got!r} for datagram {number}", began)
        elif source and seen != source:
            tally.fail("another session", f"datagram {number}: the upstream saw port {seen!r} after {source!r}", began)
        else:
            tally.succeed(sent, 0)
        source = seen
        await asyncio.sleep(STEP)
    transport.close()


def grpc_unary(tally: Tally, stop: threading.Event, port: int) -> None:
    """Unary calls on one channel of grpcio, which makes new connections and repeats what was not processed by itself."""
    with GrpcClient(port, repeats=True) as client:
        say, number = client.unary("Say"), 0
        while not stop.is_set():
            number += 1
            began, message = time.monotonic(), b"message %d" % number
            try:
                if say(message, timeout=PATIENCE) != message:
                    tally.fail("wrong message", f"message {number}", began)
                tally.succeed(began)
            except grpc.RpcError as error:
                tally.fail(str(error.code()), f"{error.details()!r}, message {number}", began)
            stop.wait(STEP / 2)
    tally.connections = 1


def grpc_stream(tally: Tally, stop: threading.Event, port: int, steps: int) -> None:
    """Calls in which both sides stream so many messages; 0 for as long as possible."""
    with GrpcClient(port, repeats=True) as client:
        chat = client.chats("Chat")
        while not stop.is_set():
            tally.connections += 1
            tally.asked += 1
            began, number = time.monotonic(), 0
            outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            call = chat(_messages(outgoing), timeout=PATIENCE if steps else None)
            try:
                while not stop.is_set() and (number < steps or not steps):
                    number += 1
                    message = b"message %d" % number
                    outgoing.put(message)
                    if next(call) != message[::-1]:
                        tally.fail("wrong message", f"message {number}", began)
                    stop.wait(STEP)
                outgoing.put(b"")
                if (rest := list(call)) != []:
                    tally.fail("further messages", repr(rest[:3]), began)
                tally.succeed(time.monotonic(), 0)
            except grpc.RpcError as error:
                outgoing.put(b"")
                _ended(tally, not steps, began, f"{error.code()}", f"{error.details()!r}, message {number}")
            except StopIteration:
                outgoing.put(b"")
                _ended(tally, not steps, began, "an end", f"message {number}")
            with contextlib.suppress(grpc.RpcError):
                call.cancel()


def _messages(outgoing: queue.SimpleQueue[bytes]) -> Iterator[bytes]:
    while message := outgoing.get():
        yield message
