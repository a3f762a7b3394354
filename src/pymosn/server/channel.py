"""Framed messages, along with file descriptors, over one end of an AF_UNIX stream socket pair."""

import asyncio
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

M = TypeVar("M")

#: Maximum payload in bytes; a longer one means that the peer is broken.
MAX_FRAME: Final = 64 * 1024 * 1024
#: Maximum number of descriptors in one message; the kernel accepts at most 253 (SCM_MAX_FD).
MAX_DESCRIPTORS: Final = 200
#: The reason if the peer has closed its end.
CLOSED: Final = "closed by the peer"

_READ_SIZE: Final = 256 * 1024
_DESCRIPTOR_SIZE: Final = array("i").itemsize
_ANCILLARY_SIZE: Final = socket.CMSG_LEN(MAX_DESCRIPTORS * _DESCRIPTOR_SIZE)
# Payload length, number of descriptors.
_HEADER: Final = struct.Struct("!IB")


def frame(message: object, descriptors: int = 0) -> bytes:
    """A message as bytes; `descriptors`: how many are sent with it. ValueError if it is too large or has too many."""
    try:
        payload = msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        payload = msgspec.msgpack.encode(_valid(msgspec.to_builtins(message, builtin_types=(bytes,))))
    if len(payload) > MAX_FRAME or descriptors > MAX_DESCRIPTORS:
        raise ValueError(f"message of {len(payload)} bytes and {descriptors} descriptors is too large")
    return _HEADER.pack(len(payload), descriptors) + payload


def _valid(value: Any) -> Any:
    """A value of `to_builtins` with escapes for surrogates, which are bytes that were not UTF-8.

    Messages have texts that clients choose, such as the name of a called service: none of them may end a worker.
    """
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_valid(key): _valid(item) for key, item in value.items()}
        case list() | tuple():
            return [_valid(item) for item in value]
    return value


class Channel(Generic[M]):
    """One end of a channel: sends any message, receives messages of type M.

    `on_message(message, descriptors)` owns the descriptors it gets. `on_closed(reason)` is called once, when the peer is
    gone or has sent an invalid message; not after `close`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[M],
        on_message: Callable[[M, list[int]], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._decoder = decoder
        self._on_message = on_message
        self._on_closed = on_closed
        self._incoming = bytearray()
        self._descriptors: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._open = True
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._read)

    @property
    def is_flushed(self) -> bool:
        """Whether everything sent has reached the kernel."""
        return not self._outgoing

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Sends a message; the descriptors must stay open until `is_flushed`. Dropped if the peer is gone.

        ValueError if the message is too large or has too many descriptors.
        """
        data = frame(message, len(descriptors))
        if not self._open:
            return
        self._outgoing.append((memoryview(data), descriptors))
        if len(self._outgoing) == 1:
            self._write()

    def close(self) -> None:
        """Closes this end and the descriptors that were received but not delivered."""
        if not self._open:
            return
        self._open = False
        self._outgoing.clear()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _write(self) -> None:
        """Writes as much as the kernel accepts, and the rest when it accepts more."""
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            try:
                sent = socket.send_fds(self._sock, [data], descriptors) if descriptors else self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._write)
                return
            except OSError:
                # The peer is gone, but its last messages may still be unread: `_read` detects the end.
                self._outgoing.clear()
                break
            if sent == len(data):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = (data[sent:], ())
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        # In Python 3.11, socket.recv_fds ignores its `flags`.
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            self._fail(CLOSED)  # before it has read everything
            return
        except OSError as error:
            self._fail(str(error))
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._descriptors.extend(array("i", content[: len(content) - len(content) % _DESCRIPTOR_SIZE]))
        if flags & socket.MSG_CTRUNC:
            self._fail("file descriptors were lost (too many open files?)")
        elif not data:
            self._fail(CLOSED)
        else:
            self._incoming += data
            self._decode_frames()

    def _decode_frames(self) -> None:
        start = 0
        while self._open and len(self._incoming) - start >= _HEADER.size:
            size, count = _HEADER.unpack_from(self._incoming, start)
            end = start + _HEADER.size + size
            if size > MAX_FRAME:
                self._fail(f"frame of {size} bytes is too large")
            elif len(self._incoming) < end:
                break
            elif count > len(self._descriptors):
                self._fail("a message arrived without its descriptors")
            else:
                self._deliver(bytes(self._incoming[start + _HEADER.size : end]), count)
            start = end
        del self._incoming[:start]

    def _deliver(self, payload: bytes, descriptor_count: int) -> None:
        try:
            message = self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            self._fail(f"invalid message: {error}")
            return
        self._on_message(message, [self._descriptors.popleft() for _ in range(descriptor_count)])

    def _fail(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_closed(reason)
