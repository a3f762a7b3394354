"""LAYER 2 for multiplexed RPC: what a protocol of whole, numbered messages supplies. `docs/protocols.md` builds one.

A protocol is three classes and a few bytes: an `RpcSpec` (its name, its first bytes, its heartbeat), an `RpcDecoder`
(how long is a frame, and what is it), and the messages `RpcRequest` and `RpcResponse`, which keep the frame that came: a
message that nobody changes is sent on as it is, with another id. Layers 3 and 4 know nothing more of it.

Frames are written to a `FrameWriter`, which copies short ones together and keeps a long body as it is.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import IGNORE, NEED_MORE, Decoder, ProtocolError, ProtocolSpec
from pymosn.core.chars import has_lowered
from pymosn.core.failure import FRAME_TOO_LARGE
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, Headers, lower_name, to_bytes, to_text
from pymosn.core.message import RequestHead, ResponseHead

#: Bytes of the longest frame that is taken, unless the configuration says otherwise.
MAX_FRAME: Final[i64] = 16 * 1024 * 1024


def is_name(key: bytes, name: bytes) -> bool:
    """Whether `key` is `name`, which is in lower case, but for the case of ASCII letters."""
    return len(key) == len(name) and has_lowered(key, 0, name)


#: One header field: the name as it came, and the value; None where the protocol knows a null.
Field = tuple[bytes, bytes | None]


def first(fields: list[Field], name: bytes) -> bytes | None:
    """The first value of `name` (lower case) that is not null."""
    for key, value in fields:
        if value is not None and is_name(key, name):
            return value
    return None


def has_name(fields: list[Field], name: bytes) -> bool:
    """Whether a field is called `name` (lower case)."""
    return any(is_name(field[0], name) for field in fields)


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcHeaders(Headers):
    """The header fields of an RPC message, taken out of the frame when somebody asks.

    Names are looked up in any case and keep the one they came with. Values are any bytes; text is UTF-8 with surrogate
    escapes. A field whose value is null counts as absent, but is not lost when the message is encoded anew.

    Fields that are new go behind those of the frame, which need not be taken out for that: see `additions`.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Whether somebody changed a field.
        self.is_changed = False
        self._fields: list[Field] | None = None
        self._added: list[Field] | None = None

    def read(self) -> list[Field]:
        """Takes all fields out of the frame, into a list of its own. The decoder has seen that they are well formed."""
        return []

    def scan(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower case) in the frame. A protocol may do this without taking all fields out."""
        return first(self.fields(), name)

    def holds(self, name: bytes) -> bool:
        """Whether the frame has a field `name` (lower case), be it null. A protocol may tell without taking all out."""
        return has_name(self.fields(), name)

    def first_value_names(self) -> tuple[bytes, ...]:
        """Names (lower case) whose first value is what the message says, whatever other fields of that name repeat."""
        return ()

    def fields(self) -> list[Field]:
        """All fields as they are now, in order, nulls included; not to be changed by others."""
        fields = self._fields
        if fields is None:
            fields = self.read()
            self._fields = fields
            if self._added is not None:
                fields += self._added
                self._added = None
        return fields

    def additions(self) -> list[Field] | None:
        """The fields to be written behind those of the frame, which are as they came; None where they may not be."""
        return self._added

    def _put(self, name: bytes, value: bytes) -> None:
        self.is_changed = True
        if self._fields is not None:
            self._fields.append((name, value))
        elif self._added is None:
            self._added = [(name, value)]
        else:
            self._added.append((name, value))

    # ---- the str view

    def get_all(self, name: str) -> list[str]:
        raw = lower_name(name)
        if raw in self.first_value_names():
            value = self.get_raw(raw)
            return [] if value is None else [to_text(value)]
        return [to_text(value) for key, value in self.fields() if value is not None and is_name(key, raw)]

    def set(self, name: str, value: str) -> None:
        """Makes `value` the only value of `name`. HeaderError for an empty name; RPC headers may hold any other text."""
        if not name:
            raise HeaderError("a header needs a name")
        self.remove_raw(lower_name(name))
        self._put(to_bytes(name), to_bytes(value))

    def add(self, name: str, value: str) -> None:
        if not name:
            raise HeaderError("a header needs a name")
        self._put(to_bytes(name), to_bytes(value))

    def remove(self, name: str) -> bool:
        return self.remove_raw(lower_name(name))

    def __len__(self) -> int:
        return len(self.items_raw())

    # ---- the bytes view

    def has_raw(self, name: bytes) -> bool:
        return self.get_raw(name) is not None

    def get_raw(self, name: bytes) -> bytes | None:
        if self._fields is not None:
            return first(self._fields, name)
        value = self.scan(name)
        if value is None and self._added is not None:
            value = first(self._added, name)
        return value

    def add_raw(self, name: bytes, value: bytes) -> None:
        self._put(name, value)

    def remove_raw(self, name: bytes) -> bool:
        if self._fields is None and not self.holds(name) and (self._added is None or not has_name(self._added, name)):
            return False
        fields = self.fields()
        kept = [field for field in fields if not is_name(field[0], name)]
        if len(kept) == len(fields):
            return False
        self._fields = kept
        self.is_changed = True
        return True

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        return [(key.lower(), value) for key, value in self.fields() if value is not None]

    def copy(self) -> Headers:
        copied = RpcHeaders()
        copied._fields = list(self.fields())
        copied.is_changed = True
        return copied


def fields_of(headers: Headers) -> list[Field]:
    """The fields of any headers, for encoding."""
    if isinstance(headers, RpcHeaders):
        return headers.fields()
    fields: list[Field] = []
    for name, value in headers.items_raw():
        fields.append((name, value))
    return fields


def is_changed(headers: Headers) -> bool:
    """Whether headers are no longer those of the frame."""
    return not isinstance(headers, RpcHeaders) or headers.is_changed


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcRequest(RequestHead):
    """One request. It has no path and no host, so routes find it by its headers (`service`, `method`, ...)."""

    def __init__(self, headers: Headers, request_id: i64, frame: bytes, payload: bytes, is_one_way: bool) -> None:
        """`request_id`: the client's id for it. `frame`: as it came. `payload`: its body as filters see it.

        Where the payload ends the frame, `frame` may be what stands in front of it.
        """
        super().__init__(headers)
        self.request_id: i64 = request_id
        self.frame = frame
        self.payload = payload
        #: Bytes that are kept of it, about.
        self.size: i64 = len(frame) + len(payload)
        self.content_length = len(payload)
        self.is_rpc = True
        self.is_one_way = is_one_way

    def set_length(self, length: i64) -> None:
        """The frame says its length by itself."""
        self.content_length = length

    def encode(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Writes the frame with the id `request_id` and with `payload` as its body. HeaderError: nothing is written."""
        if payload is self.payload and self.frame and not is_changed(self.headers):
            self.with_request_id(request_id, out)
        else:
            self.build(request_id, payload, out)

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        """Writes the frame as it came, with another id."""
        raise NotImplementedError

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Writes the frame made anew, with the headers as they are now; it must say what the old one said.

        HeaderError for headers that cannot be sent, before anything is written.
        """
        raise NotImplementedError

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        """An answer by the proxy that the caller's library understands; the proxy encodes it with the id of the request.

        `status` is HTTP's, to be mapped. `body` and `headers`: what a filter or a route gives; both are empty for a failure.
        """
        raise NotImplementedError

    def copy(self) -> RequestHead:
        """The request itself: once it is sent nobody changes it any more, and a frame is encoded for each connection."""
        return self

    def service(self) -> str:
        """The service that is called, for variables and traces; empty when it is not known."""
        return self.headers.get("service") or ""

    def method_name(self) -> str:
        """The method that is called; empty when it is not known."""
        return self.headers.get("method") or ""

    @property
    def method(self) -> str:
        """What `method_name` says."""
        return self.method_name()

    @method.setter
    def method(self, value: str) -> None:
        raise HeaderError("the method of an RPC request cannot be changed here: its message may say it elsewhere too")


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcResponse(ResponseHead):
    """One reply. `status` is the HTTP status that corresponds to the protocol's own, for retries, metrics and filters."""

    def __init__(self, headers: Headers, status: i64, frame: bytes, payload: bytes) -> None:
        """`frame`: as it came, or what stands in front of `payload`; empty for a reply of the proxy's own."""
        super().__init__(status, b"", headers)
        self.frame = frame
        self.payload = payload
        #: The status that the frame says.
        self.frame_status: i64 = status
        self.content_length = len(payload)
        self.has_date = True  # that is HTTP's

    def set_length(self, length: i64) -> None:
        """The frame says its length by itself."""
        self.content_length = length

    def encode(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """Writes the frame with the id `request_id` and with `payload` as its body. HeaderError: nothing is written."""
        if payload is self.payload and self.frame and self.status == self.frame_status and not is_changed(self.headers):
            self.with_request_id(request_id, out)
        else:
            self.build(request_id, payload, out)

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        """Writes the frame as it came, with another id."""
        raise NotImplementedError

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        """As of a request; where `status` is not `frame_status`, a filter wants another one."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcDecoder(Decoder):
    """Cuts frames out of a stream of bytes, and bounds them; a protocol says how long a frame is and reads it.

    Frames are pulled with `decode`, which returns one of the kinds in `api.protocol` and leaves what it found in the
    attributes. It is linear in the bytes however they are cut.
    """

    def __init__(self, max_frame: i64) -> None:
        """`max_frame`: bytes of the longest frame that is taken."""
        #: Of the last frame: its id, and the message of a REQUEST, ONE_WAY or RESPONSE.
        self.request_id: i64 = 0
        self.request: RpcRequest | None = None
        self.response: RpcResponse | None = None
        #: The frame that answers a HEARTBEAT; empty where the protocol wants no answer.
        self.answer: bytes = b""
        #: Whether it reads what an upstream sends: for a protocol whose frames alone do not tell a reply from a request.
        self.is_client = False
        self._max_frame: i64 = max_frame
        self._buffer: bytes = b""
        self._at: i64 = 0
        # A frame that is not whole yet. Bytes are added to it in place, so that cutting a frame fine costs no copies.
        self._partial: bytearray | None = None
        self._wanted: i64 = 0

    # ---- what a protocol supplies

    def frame_size(self, data: bytes, start: i64, end: i64) -> i64:
        """The size of the frame that begins at `start` of `data`, as far as it is here, up to `end`; 0 while unknown.

        Raises ProtocolError for bytes that begin no frame. A size beyond the limit is refused by the caller.
        """
        raise NotImplementedError

    def read(self, data: bytes, start: i64, end: i64) -> i64:
        """What the whole frame `data[start:end]` is: sets `request_id`, and `request`, `reply` or `answer`.

        What is kept of it is cut out, since `data` may be much longer. Raises ProtocolError.
        """
        raise NotImplementedError

    # ---- what is the same for all

    def feed(self, data: bytes) -> None:
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
            if size > self._max_frame or (size <= 0 and end - start >= self._max_frame):
                raise ProtocolError(FRAME_TOO_LARGE, f"a frame of {size or '?'} bytes; {self._max_frame} are allowed")
            if size <= 0 or end - start < size:
                self._partial = bytearray(data[start:])
                self._wanted = size if size > 0 else end - start + 1
                self._buffer = b""
                self._at = 0
                return NEED_MORE
            self._at = start + size
            found: i64 = self.read(data, start, start + size)
            if found != IGNORE:
                return found

    def has_buffered(self) -> bool:
        """Whether there are bytes that no frame was made of yet."""
        return self._partial is not None or self._at < len(self._buffer)


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcSpec(ProtocolSpec):
    """An RPC protocol: its name, how its connections begin, and the frames that the proxy sends by itself."""

    def __init__(self, name: str, max_request_id: i64) -> None:
        """`max_request_id`: the highest id that fits into a frame; ids wrap around to 1 after it."""
        super().__init__(name, "", True)
        self.max_request_id: i64 = max_request_id

    def decoder(self, max_frame: i64) -> RpcDecoder:
        """A decoder for one direction of one connection."""
        raise NotImplementedError

    def heartbeat(self, request_id: i64) -> bytes:
        """A heartbeat to be sent on an idle connection; empty for a protocol without."""
        return b""

    def goaway(self, request_id: i64) -> bytes:
        """What asks a client to send no more on this connection; empty for a protocol without."""
        return b""
