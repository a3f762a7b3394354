"""LAYER 2 for multiplexed RPC: what a protocol of whole messages with request ids supplies. `docs/protocols.md` builds one.

A protocol is an `RpcSpec` (its name, first bytes and heartbeat), an `RpcDecoder` (the length and the meaning of a frame),
and the messages `RpcRequest` and `RpcResponse`, which keep the received frame: an unmodified message is forwarded with
another id and otherwise unchanged. Layers 3 and 4 know nothing more about it. `RpcHeaders` are decoded on demand.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import (
    IGNORE,
    LARGE_REQUEST,
    LARGE_RESPONSE,
    NEED_MORE,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    UNSKIPPABLE,
    Decoder,
    ProtocolError,
    ProtocolSpec,
)
from pymosn.core.failure import FLAG_TOO_LARGE, FRAME_TOO_LARGE, UNREADABLE_HEADERS, Failure, is_lost
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, Headers
from pymosn.core.message import UNLIMITED, RequestHead, ResponseHead
from pymosn.core.rpc_headers import Field, RpcHeaders, fields_of, is_changed, is_name

#: Told to the client of a request whose headers would have to be judged; in the style of `protocol.failure_text`.
_UNREADABLE: Final = b"400|headers or attachments cannot be read, are ambiguous, or cannot be changed"

#: Default limit in bytes for a frame.
MAX_FRAME: Final[i64] = 16 * 1024 * 1024
#: A frame that exceeds the limit by more than this is not skipped: its length is hardly one, and the connection is closed.
MAX_SKIPPED: Final[i64] = 256 * 1024 * 1024
#: Bytes of a frame above the limit in which `read_head` must find everything.
MAX_HEAD: Final[i64] = 128 * 1024

__all__ = [
    "MAX_FRAME",
    "MAX_SKIPPED",
    "Field",
    "RpcDecoder",
    "RpcHeaders",
    "RpcRequest",
    "RpcResponse",
    "RpcSpec",
    "fields_of",
    "is_changed",
    "is_name",
]


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcRequest(RequestHead):
    """One request. It has no path and no host, so routes find it by its headers (`service`, `method`, ...)."""

    def __init__(self, headers: Headers, request_id: i64, frame: bytes, payload: bytes, is_one_way: bool) -> None:
        """`request_id`: the client's. `payload`: the body as filters see it. `frame`: the received bytes; may lack a payload
        at its end."""
        super().__init__(headers)
        self.request_id: i64 = request_id
        self.frame = frame
        self.payload = payload
        #: Approximate size in memory, in bytes.
        self.size: i64 = len(frame) + len(payload)
        self.content_length = len(payload)
        self.is_one_way = is_one_way

    def encode(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Writes the frame with the id `request_id` and with `payload` as its body. HeaderError: nothing is written."""
        if payload is self.payload and self.frame and not is_changed(self.headers):
            self.with_request_id(request_id, out)
        else:
            self.build(request_id, payload, out)

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        """Writes the received frame with another id."""
        raise NotImplementedError

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Re-encodes the frame with the current headers and everything else of the original. HeaderError as for `encode`."""
        raise NotImplementedError

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        """A response by the proxy that the caller's library understands; the proxy encodes it with the id of the request.

        `status` is HTTP's, to be mapped. `body` and `headers` come from a filter or a route; both are empty for a failure.
        """
        raise NotImplementedError

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> RpcResponse:
        """The local reply about a failure; `body` is the `failure_body`. Some protocols have own statuses for them."""
        return self.local_reply(failure.status, headers, body)

    def copy(self) -> RequestHead:
        """Returns self: a sent request is never modified, and each connection encodes its own frame."""
        return self

    def service(self) -> str:
        return self.headers.get("service") or ""

    def method_name(self) -> str:
        return self.headers.get("method") or ""

    def rpc_method(self) -> str:
        return self.method_name()

    def set_method(self, value: str) -> None:
        raise HeaderError("the method of an RPC request is read-only: the payload may repeat it")

    def held_body(self) -> bytes:
        return self.payload

    def kept_body_limit(self) -> i64:
        """No limit: the frame is in memory anyway."""
        return UNLIMITED

    def failure_body(self, failure: Failure) -> bytes:
        """The reason, where the usual text for the status would be wrong: a host that broke off was there."""
        if failure is UNREADABLE_HEADERS:
            return _UNREADABLE
        if is_lost(failure) or failure.flag & FLAG_TOO_LARGE:
            return b"%d|%s" % (failure.status, failure.reason.encode())
        return b""

    def reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        return head.payload if isinstance(head, RpcResponse) else body


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcResponse(ResponseHead):
    """One response. `status` is the HTTP status that corresponds to the protocol's own, for retries, metrics and filters."""

    def __init__(self, headers: Headers, status: i64, frame: bytes, payload: bytes) -> None:
        """`frame`: the received bytes, or what precedes `payload` in them; empty for a local reply."""
        super().__init__(status, headers)
        if isinstance(headers, RpcHeaders):
            headers.is_response = True
        self.frame = frame
        self.payload = payload
        #: The status in the frame.
        self.frame_status: i64 = status
        self.content_length = len(payload)

    def encode(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Writes the frame with the id `request_id` and with `payload` as its body. HeaderError: nothing is written."""
        if payload is self.payload and self.frame and self.status == self.frame_status and not is_changed(self.headers):
            self.with_request_id(request_id, out)
        else:
            self.build(request_id, payload, out)

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        """Writes the received frame with another id."""
        raise NotImplementedError

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """As for a request; if `status` differs from `frame_status`, a filter has changed it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcDecoder(Decoder):
    """Cuts frames out of a stream of bytes, in linear time however these are split, and limits their size.

    A protocol supplies `frame_size` and `read`. `decode` returns one of the kinds in `api.protocol`. If a protocol also
    supplies `read_head`, frames above the limit are skipped and reported as LARGE_REQUEST or LARGE_RESPONSE.
    """

    def __init__(self, max_frame: i64) -> None:
        #: The id of the last frame, and its message if it is a REQUEST, ONE_WAY or RESPONSE.
        self.request_id: i64 = 0
        self.request: RpcRequest | None = None
        self.response: RpcResponse | None = None
        #: The response to a HEARTBEAT; empty where the protocol has none.
        self.answer: bytes = b""
        #: Whether it decodes bytes of an upstream: for a protocol whose frames do not distinguish responses from requests.
        self.is_client = False
        self._max_frame: i64 = max_frame
        self._buffer: bytes = b""
        self._at: i64 = 0
        # An incomplete frame. Bytes are appended to it, so that a finely split frame costs no copies.
        self._partial: bytearray | None = None
        self._wanted: i64 = 0
        # How many bytes of a frame above the limit are still to come.
        self._skipped: i64 = 0

    # ---- supplied by a protocol

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        """The size of the frame that begins at `start` of `data`, whose bytes so far end at `end`; 0 while unknown.

        Raises ProtocolError for bytes that cannot begin a frame. The caller refuses a size beyond the limit.
        """
        raise NotImplementedError

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        """Reads the complete frame `data[start:end]`: sets `request_id`, and `request`, `response` or `answer`.

        Copies whatever it keeps, since `data` may be much longer. Raises ProtocolError.
        """
        raise NotImplementedError

    def read_head(self, data: bytes, start: i64, end: i64) -> i64:
        """Reads the beginning of a frame above the limit, which starts at `start` and of which the bytes before `end` came.

        Returns the kind of the frame, or NEED_MORE. Sets `request_id`, and `request` without a payload, whose local reply
        the caller receives. UNSKIPPABLE: the protocol cannot do this, so the connection is closed. Raises ProtocolError.
        """
        return UNSKIPPABLE

    # ---- common to all

    def feed(self, data: bytes) -> None:
        if self._skipped > 0:
            skipped: i64 = min(self._skipped, len(data))
            self._skipped -= skipped
            if skipped == len(data):
                return
            data = data[skipped:]
        partial = self._partial
        if partial is not None:
            partial += data
            if len(partial) >= self._wanted:
                self._buffer = bytes(partial)
                self._at = 0
                self._partial = None
        elif self._at == len(self._buffer):
            self._buffer = data
            self._at = 0
        else:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0

    def decode(self) -> i64:
        while True:
            if self._partial is not None:
                return NEED_MORE
            data = self._buffer
            start: i64 = self._at
            end: i64 = len(data)
            if start == end:
                return NEED_MORE
            size: i64 = self.frame_size(data, start, end)
            found: i64 = IGNORE
            if size > self._max_frame or (size <= 0 and end - start >= self._max_frame):
                found = self._read_large(data, start, end, size)
            elif size <= 0 or end - start < size:
                self._await(size if size > 0 else end - start + 1)
                found = NEED_MORE
            else:
                self._at = start + size
                found = self.read(data, start, start + size)
            if found != IGNORE:
                return found

    def _await(self, wanted: i64) -> None:
        """Decodes nothing until that many undecoded bytes are there."""
        self._partial = bytearray(self._buffer[self._at :])
        self._wanted = wanted
        self._buffer = b""
        self._at = 0

    def _read_large(self, data: bytes, start: i64, end: i64, size: i64) -> i64:
        """Begins to skip a frame above the limit, once it is known what it is. `size`: 0 if unknown."""
        came: i64 = end - start
        found: i64 = UNSKIPPABLE
        if 0 < size <= self._max_frame + MAX_SKIPPED:
            found = self.read_head(data, start, end if came < size else start + size)
        if found == NEED_MORE and came < min(size, MAX_HEAD):
            self._await(min(2 * came, size))
            return NEED_MORE
        if found in (UNSKIPPABLE, NEED_MORE):
            raise ProtocolError(FRAME_TOO_LARGE, f"frame of {size or '?'} bytes exceeds the limit of {self._max_frame}")
        if came < size:
            self._skipped = size - came
            self._at = end
        else:
            self._at = start + size
        if found in (REQUEST, ONE_WAY):
            return LARGE_REQUEST
        return LARGE_RESPONSE if found == RESPONSE else IGNORE

    def is_skipping(self) -> bool:
        """Whether the next bytes belong to a frame above the limit, which has been reported."""
        return self._skipped > 0

    def has_buffered(self) -> bool:
        """Whether there are bytes that have not been decoded."""
        return self._partial is not None or self._at < len(self._buffer)

    def buffered_size(self) -> i64:
        """How many bytes have not been decoded."""
        partial = self._partial
        return len(partial) if partial is not None else len(self._buffer) - self._at

    def peek(self) -> bytes:
        """The bytes that have not been decoded, which remain."""
        partial = self._partial
        return bytes(partial) if partial is not None else self._buffer[self._at :]


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcSpec(ProtocolSpec):
    """An RPC protocol: its name, how its connections begin, and the frames that the proxy originates."""

    def __init__(self, name: str, max_request_id: i64) -> None:
        """`max_request_id`: the highest id that fits into a frame; ids wrap around to 1 after it."""
        super().__init__(name, "", True)
        self.max_request_id: i64 = max_request_id

    def decoder(self, max_frame: i64) -> RpcDecoder:
        """A decoder for one direction of one connection."""
        raise NotImplementedError

    def heartbeat(self, request_id: i64) -> bytes:
        """A heartbeat for an idle connection; empty for a protocol without heartbeats."""
        return b""

    def goaway(self, request_id: i64) -> bytes:
        """Asks a client to send no further requests; empty for a protocol without such a frame."""
        return b""
