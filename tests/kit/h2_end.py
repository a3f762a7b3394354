"""One end of an HTTP/2 connection for tests, without I/O: a client or an upstream of the proxy.

It reads what the proxy sends and holds it against RFC 9113: whatever the proxy must not do raises an AssertionError. Header
blocks go through the `hpack` library. What it sends itself is whatever the test says; only `send_data` observes windows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import hpack
from tests.kit import h2_frames as wire
from tests.kit.h2_frames import Fields, Frame

from pymosn.protocol.http2 import frames as known

Pairs = list[tuple[bytes, bytes]]

_CONNECTION_FIELDS = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"host")
_FRAME_SIZE = 16384


class Stream:
    """One stream, as this end sees it."""

    def __init__(self, number: int, send_window: int, own_window: int) -> None:
        self.number = number
        #: The heads that came, the final one last: pseudo-header fields included, in order.
        self.heads: list[Pairs] = []
        self.data = b""
        self.trailers: Pairs | None = None
        #: Whether the proxy has sent END_STREAM, on a DATA frame, and whether this end has.
        self.has_end = False
        self.ends_with_data = False
        self.is_ended = False
        #: The code with which the proxy reset it; -1: it has not.
        self.code = -1
        #: Whether this end has reset it.
        self.is_reset = False
        #: What this end may send, and what it has allowed the proxy.
        self.send_window = send_window
        self.own_window = own_window
        #: Data that waits for the proxy's window; `waits_to_end`: END_STREAM follows it.
        self.waiting = b""
        self.waits_to_end = False
        self.after: bytes = b""

    @property
    def fields(self) -> dict[bytes, bytes]:
        """The fields of the last head; of several with one name the last."""
        return dict(self.heads[-1])

    @property
    def status(self) -> int:
        """The status of the final response; 0: there is none."""
        found = int(self.fields[b":status"]) if self.heads else 0
        return found if found >= 200 else 0

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes from the proxy."""
        return self.has_end or self.code >= 0 or self.is_reset


class End:
    """A client, or a server for `is_client=False`. `write`: is called with what it sends of its own accord."""

    def __init__(
        self, is_client: bool, write: Callable[[bytes], None], settings: tuple[tuple[int, int], ...] = (), window: int = 0
    ) -> None:
        """`settings`: of the first SETTINGS frame. `window`: bytes that it adds to the connection's window at once."""
        self.is_client = is_client
        self.write = write
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.streams: dict[int, Stream] = {}
        #: All frames that came, in order.
        self.frames: list[Frame] = []
        #: The proxy's settings.
        self.settings: dict[int, int] = {}
        self.acks = 0
        #: The GOAWAY frames that came: last stream and code.
        self.goaways: list[tuple[int, int]] = []
        #: The debug data of the last one.
        self.debug = b""
        self.pongs: list[bytes] = []
        #: Whether it allows the proxy to send as much as has come, as soon as it has come; otherwise `grant` does.
        self.grants = True
        #: Whether it acknowledges SETTINGS and PING.
        self.answers = True
        self.own_settings = dict(settings)
        self.send_window = int(known.DEFAULT_WINDOW)
        self.own_window = int(known.DEFAULT_WINDOW) + window
        self.next_id = 1
        #: Is called with each stream that has changed.
        self.on_change: Callable[[Stream], None] = lambda stream: None
        self._rest = b""
        self._block: tuple[Frame, list[bytes]] | None = None
        self._first = (b"" if not is_client else known.PREFACE) + wire.settings(*settings)
        if window:
            self._first += wire.window_update(0, window)
        self._preface = b"" if is_client else known.PREFACE
        self._highest = 0

    # ---- sending

    def opening(self) -> bytes:
        """What this end sends first."""
        return self._first

    def block(self, fields: Fields) -> bytes:
        """A header block by the connection's encoder."""
        return bytes(self.encoder.encode(list(fields)))

    def new_stream(self) -> Stream:
        """The client's next stream; nothing is sent."""
        stream = self._made(self.next_id)
        self.next_id += 2
        return stream

    def send_request(self, fields: Fields, body: bytes, end: bool) -> Stream:
        """Sends the client's next request; `end`: it is complete."""
        stream = self.new_stream()
        self.send_head(stream, fields, end and not body)
        if body:
            self.send_data(stream, body, end)
        return stream

    def note(self, data: bytes) -> None:
        """Frames that the test has written itself were sent: knows the streams that they open."""
        for frame in wire.split(data)[0]:
            if self.is_client and frame.kind == known.HEADERS and frame.stream not in self.streams:
                self._made(frame.stream)
                self.next_id = max(self.next_id, frame.stream + 2)

    def _made(self, number: int) -> Stream:
        own = self.own_settings.get(int(known.INITIAL_WINDOW_SIZE), int(known.DEFAULT_WINDOW))
        window = self.settings.get(int(known.INITIAL_WINDOW_SIZE), int(known.DEFAULT_WINDOW))
        stream = self.streams[number] = Stream(number, window, own)
        return stream

    def send_head(self, stream: Stream, fields: Fields, end: bool) -> None:
        """Sends a head, informational or final, or trailers."""
        stream.is_ended = stream.is_ended or end
        self.write(wire.headers(stream.number, self.block(fields), end))

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        """Sends data as the windows allow, and the rest as soon as they do."""
        stream.waiting += data
        stream.waits_to_end = end
        self.flush(stream)

    def send_trailers(self, stream: Stream, fields: Fields) -> None:
        """Sends trailers behind all data."""
        if stream.waiting:
            stream.after = wire.headers(stream.number, self.block(fields), True)
        else:
            self.send_head(stream, fields, True)

    def flush(self, stream: Stream) -> None:
        """Sends what the windows allow."""
        while not stream.is_reset and stream.code < 0:
            size = min(len(stream.waiting), self.send_window, stream.send_window, _FRAME_SIZE)
            if size <= 0 and not (stream.waits_to_end and not stream.waiting and not stream.is_ended):
                break
            piece, stream.waiting = stream.waiting[:size], stream.waiting[size:]
            self.send_window -= size
            stream.send_window -= size
            stream.is_ended = stream.waits_to_end and not stream.waiting
            self.write(wire.data(stream.number, piece, stream.is_ended))
            if not stream.waiting:
                break
        if stream.after and not stream.waiting:
            after, stream.after = stream.after, b""
            stream.is_ended = True
            self.write(after)

    def reset(self, stream: Stream, code: int = int(known.CANCEL)) -> None:
        """Resets a stream."""
        stream.is_reset = True
        self.write(wire.rst_stream(stream.number, code))

    def grant(self, stream: Stream | None, size: int) -> None:
        """Allows the proxy more bytes on a stream, or for None on the connection."""
        if stream is None:
            self.own_window += size
        else:
            stream.own_window += size
        self.write(wire.window_update(0 if stream is None else stream.number, size))

    # ---- what the proxy sends

    def feed(self, data: bytes) -> None:
        """Reads what has come. Raises AssertionError for what RFC 9113 forbids the proxy."""
        data = self._rest + data
        if self._preface:
            size = min(len(data), len(self._preface))
            assert data[:size] == self._preface[:size], f"not the preface of HTTP/2: {data[:80]!r}"
            self._preface, data = self._preface[size:], data[size:]
        found, self._rest = wire.split(data)
        for frame in found:
            assert self.frames or frame.kind == known.SETTINGS, f"the first frame is {frame}"
            assert len(frame.payload) <= _FRAME_SIZE, f"{len(frame.payload)} bytes in a frame"
            self.frames.append(frame)
            self._take(frame)

    def kinds(self) -> list[int]:
        """The types of the frames that came."""
        return [frame.kind for frame in self.frames]

    def _take(self, frame: Frame) -> None:
        if self._block is not None:
            self._go_on(frame)
        elif frame.kind == known.HEADERS:
            self._block = (frame, [_unpadded(frame)])
            self._end_block(frame)
        elif frame.kind == known.DATA:
            self._take_data(frame)
        elif frame.kind == known.RST_STREAM:
            stream = self.streams[frame.stream]
            assert stream.code < 0, f"a second {frame}"
            stream.code = int.from_bytes(frame.payload, "big")
            self.on_change(stream)
        elif frame.kind == known.SETTINGS:
            self._take_settings(frame)
        elif frame.kind == known.PING:
            assert len(frame.payload) == 8
            if frame.has(int(known.ACK)):
                self.pongs.append(frame.payload)
            elif self.answers:
                self.write(wire.ping(frame.payload, True))
        elif frame.kind == known.GOAWAY:
            last, code = struct.unpack(">II", frame.payload[:8])
            assert not self.goaways or last <= self.goaways[-1][0], "a GOAWAY names a later stream than the one before"
            self.goaways.append((last, code))
            self.debug = frame.payload[8:]
        elif frame.kind == known.WINDOW_UPDATE:
            self._take_window(frame)
        else:
            assert frame.kind == known.PRIORITY, f"a proxy does not send {frame}"

    def _go_on(self, frame: Frame) -> None:
        assert self._block is not None
        first, pieces = self._block
        assert (frame.kind, frame.stream) == (known.CONTINUATION, first.stream), f"{frame} within a header block"
        pieces.append(frame.payload)
        self._end_block(frame)

    def _end_block(self, frame: Frame) -> None:
        if not frame.has(int(known.END_HEADERS)):
            return
        assert self._block is not None
        first, pieces = self._block
        self._block = None
        fields = [(bytes(name), bytes(value)) for name, value in self.decoder.decode(b"".join(pieces), raw=True)]
        stream = self._stream_of(first)
        if stream.heads and not self.is_informational(stream):
            assert first.has(int(known.END_STREAM)), f"{first}: trailers that end nothing"
            assert not any(name.startswith(b":") for name, _ in fields), fields
            stream.trailers = fields
        else:
            self._check_head(fields)
            stream.heads.append(fields)
        stream.has_end = first.has(int(known.END_STREAM))
        self._check_length(stream)
        self.on_change(stream)

    def is_informational(self, stream: Stream) -> bool:
        """Whether the last head was a 1xx."""
        return self.is_client and stream.heads[-1][0][1].startswith(b"1")

    def _stream_of(self, frame: Frame) -> Stream:
        stream = self.streams.get(frame.stream)
        if stream is None:
            assert not self.is_client, f"{frame}: the client has not opened this stream"
            assert frame.stream % 2 == 1, f"{frame}: not a stream of a client"
            assert frame.stream > self._highest, f"{frame}: not a new stream"
            self._highest = frame.stream
            stream = self._made(frame.stream)
            most = self.own_settings.get(int(known.MAX_CONCURRENT_STREAMS))
            busy = [one for one in self.streams.values() if not (one.is_done and (one.is_ended or one.is_reset))]
            assert most is None or len(busy) <= most or not self.acks, f"{len(busy)} streams at once, not {most}"
        assert not stream.has_end, f"{frame} behind the end of its stream"
        assert stream.code < 0, f"{frame} behind the reset of its stream"
        return stream

    def _check_head(self, fields: Pairs) -> None:
        names = [name for name, _ in fields]
        pseudo = [name for name in names if name.startswith(b":")]
        assert names[: len(pseudo)] == pseudo, f"pseudo-header fields are not first: {fields}"
        assert len(set(pseudo)) == len(pseudo), f"a pseudo-header field comes twice: {fields}"
        wanted = {b":status"} if self.is_client else {b":method", b":scheme", b":path"}
        if dict(fields).get(b":method") == b"CONNECT" and b":protocol" not in pseudo:
            wanted = {b":method", b":authority"}
        assert wanted <= set(pseudo) <= wanted | {b":authority", b":protocol"}, f"pseudo-header fields: {fields}"
        for name, value in fields:
            assert name == name.lower(), f"not in lower case: {name!r}"
            assert name not in _CONNECTION_FIELDS, f"HTTP/2 does not have {name!r}"
            assert name != b"te" or value == b"trailers", f"te: {value!r}"
            assert not any(byte in value for byte in b"\r\n\0"), f"{name!r}: {value!r}"
            assert value.strip(b" \t") == value, f"{name!r}: {value!r}"

    def _check_length(self, stream: Stream) -> None:
        """The content is as long as announced, if it is complete and there may be any."""
        said = stream.fields.get(b"content-length")
        if stream.has_end and said is not None and (stream.data or not self.is_client):
            assert int(said) == len(stream.data), f"{len(stream.data)} bytes with content-length {said!r}"

    def _take_data(self, frame: Frame) -> None:
        stream = self._stream_of(frame)
        assert stream.heads, f"{frame} before a head"
        size = len(frame.payload)
        self.own_window -= size
        stream.own_window -= size
        assert self.own_window >= 0, "more than the connection's window"
        assert stream.own_window >= 0 or size == 0, "more than the stream's window"
        stream.data += _unpadded(frame)
        stream.has_end = stream.ends_with_data = frame.has(int(known.END_STREAM))
        self._check_length(stream)
        if self.grants and size:
            self.grant(None, size)
            if not stream.has_end:
                self.grant(stream, size)
        self.on_change(stream)

    def _take_settings(self, frame: Frame) -> None:
        if frame.has(int(known.ACK)):
            assert frame.payload == b""
            self.acks += 1
            return
        before = self.settings.get(int(known.INITIAL_WINDOW_SIZE), int(known.DEFAULT_WINDOW))
        for key, value in struct.iter_unpack(">HI", frame.payload):
            self.settings[key] = value
        difference = self.settings.get(int(known.INITIAL_WINDOW_SIZE), int(known.DEFAULT_WINDOW)) - before
        self.encoder.header_table_size = self.settings.get(int(known.HEADER_TABLE_SIZE), int(known.DEFAULT_TABLE_SIZE))
        if self.answers:
            self.write(wire.settings_ack())
        for stream in list(self.streams.values()):
            stream.send_window += difference
            self.flush(stream)

    def _take_window(self, frame: Frame) -> None:
        size = int.from_bytes(frame.payload, "big")
        assert 0 < size < 1 << 31, f"{frame}: not a window update"
        if frame.stream:
            stream = self.streams[frame.stream]
            stream.send_window += size
            assert stream.send_window < 1 << 31
            self.flush(stream)
            return
        self.send_window += size
        assert self.send_window < 1 << 31
        for stream in list(self.streams.values()):
            self.flush(stream)


def _unpadded(frame: Frame) -> bytes:
    payload = frame.payload
    if frame.kind == known.HEADERS and frame.has(int(known.HAS_PRIORITY)):
        assert not frame.has(int(known.PADDED))
        return payload[5:]
    if frame.has(int(known.PADDED)):
        return payload[1 : len(payload) - payload[0]]
    return payload
