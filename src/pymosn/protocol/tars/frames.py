"""The packets of TARS: a length, then fields, which depend on the direction and on the version.

A request, or a response of the TUP versions 2 and 3: 1 version, 2 packet type, 3 message type, 4 id, 5 servant,
6 function, 7 buffer, 8 timeout, 9 context, 10 status. Any other response: 1 version, 2 packet type, 3 id, 4 message type,
5 result, 6 buffer, 7 status, 8 description, 9 context. The maps are optional.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, RpcRequest, RpcResponse, fields_of, is_changed
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HeaderError, Headers, lower_name
from pymosn.protocol.failure_text import failure_text
from pymosn.protocol.tars.jce import write_bytes, write_integer, write_pairs, write_text

#: Header fields that are part of the packet header; all others are entries of its context.
_OUTSIDE: Final = (b"service", b"method")

#: The packet type of a call without a response.
ONE_WAY: Final[i64] = 1

# Results in responses.
SUCCESS: Final[i64] = 0
UNKNOWN: Final = -99
#: Others as HTTP statuses: decode error, no function, no servant, queue timeout, timeout, connect error, overload.
_TO_HTTP: Final[dict[int, int]] = {-1: 400, -3: 404, -4: 404, -6: 504, -7: 504, -8: 502, -9: 503}
_FROM_HTTP: Final[dict[int, int]] = {400: -1, 413: -1, 404: -4, 408: -7, 504: -7, 502: -8, 429: -9, 503: -9}


def is_tup(version: i64) -> bool:
    """Whether responses of this version have the form of requests."""
    return version in (2, 3)


def http_status(result: i64) -> i64:
    """The HTTP status for the result of a response."""
    return 200 if result == SUCCESS else _TO_HTTP.get(int(result), 500)


def tars_result(status: i64) -> i64:
    """The result for an HTTP status."""
    return SUCCESS if 200 <= status < 300 else _FROM_HTTP.get(int(status), UNKNOWN)


class Packet:
    """The decoded fields of a packet, and the offsets of those that may be rewritten (from the head of the tag)."""

    def __init__(self) -> None:
        self.version: i64 = 0
        self.packet_type: i64 = 0
        self.message_type: i64 = 0
        self.request_id: i64 = 0
        self.id_tag: i64 = 0
        self.id_start: i64 = 0
        self.id_end: i64 = 0
        self.servant: bytes = b""
        self.function: bytes = b""
        self.result: i64 = 0
        self.timeout: i64 = 0
        self.buffer_tag: i64 = 0
        self.buffer_start: i64 = 0
        self.buffer_end: i64 = 0
        self.buffer: bytes = b""
        self.context: list[tuple[bytes, bytes]] = []
        # The context has tag 9 in every packet; if absent, both are the offset where it would be added.
        self.context_start: i64 = 0
        self.context_end: i64 = 0


class TarsHeaders(RpcHeaders):
    """`service` (the servant) and `method` (the function) of a request, then the entries of the context."""

    def __init__(self, packet: Packet, is_request: bool) -> None:
        super().__init__()
        self.packet = packet
        self._is_request = is_request

    def scan(self, name: bytes) -> bytes | None:
        if self._is_request:
            if name == b"service":
                return self.packet.servant
            if name == b"method":
                return self.packet.function
        return super().scan(name)

    def read(self) -> list[Field]:
        fields: list[Field] = []
        if self._is_request:
            fields.append((b"service", self.packet.servant))
            fields.append((b"method", self.packet.function))
        for key, value in self.packet.context:
            fields.append((key, value))
        return fields

    def first_value_names(self) -> tuple[bytes, ...]:
        return _OUTSIDE if self._is_request else ()

    def remove_raw(self, name: bytes) -> bool:
        return False if self._is_request and name in _OUTSIDE else super().remove_raw(name)

    def check_change(self, name: str) -> None:
        if self._is_request and lower_name(name) in _OUTSIDE:
            raise HeaderError(f"header {name} is part of the packet header and cannot be changed")


def context_of(headers: Headers, is_request: bool) -> list[tuple[bytes, bytes]]:
    """The entries of the context: all fields except the first `service` and `method` of a request."""
    outside: list[bytes] = list(_OUTSIDE) if is_request else []
    pairs: list[tuple[bytes, bytes]] = []
    for name, value in fields_of(headers):
        if name in outside:
            outside.remove(name)
        elif value is not None:
            pairs.append((name, value))
    return pairs


def with_length(parts: list[bytes]) -> bytes:
    """A packet consisting of `parts`, with its length."""
    body = b"".join(parts)
    return int(len(body) + 4).to_bytes(4, "big") + body


def renumbered(packet: Packet, raw: bytes, request_id: i64) -> bytes:
    """The packet `raw` with another request id."""
    id_field = write_integer(packet.id_tag, request_id)
    return with_length([raw[4 : packet.id_start], id_field, raw[packet.id_end :]])


def rebuilt(packet: Packet, raw: bytes, request_id: i64, buffer: bytes, headers: Headers, is_request: bool) -> bytes:
    """The packet `raw` with another request id and buffer, and with `headers` as its context if they were changed."""
    context = raw[packet.context_start : packet.context_end]
    if is_changed(headers):
        pairs = context_of(headers, is_request)
        if pairs != packet.context:
            context = write_pairs(9, pairs)
    # Lengths have several encodings: an unchanged buffer keeps its own.
    is_same = buffer == packet.buffer
    return with_length(
        [
            raw[4 : packet.id_start],
            write_integer(packet.id_tag, request_id),
            raw[packet.id_end : packet.buffer_start],
            raw[packet.buffer_start : packet.buffer_end] if is_same else write_bytes(packet.buffer_tag, buffer),
            raw[packet.buffer_end : packet.context_start],
            context,
            raw[packet.context_end :],
        ]
    )


class TarsRequest(RpcRequest):
    """A call. The payload is the buffer with the arguments."""

    def __init__(self, packet: Packet, raw: bytes) -> None:
        super().__init__(TarsHeaders(packet, True), packet.request_id, raw, packet.buffer, packet.packet_type == ONE_WAY)
        self.packet = packet
        if packet.timeout > 0:
            self.has_timeout = True
            self.timeout = packet.timeout / 1000

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write(renumbered(self.packet, self.frame, request_id))

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        out.write(rebuilt(self.packet, self.frame, request_id, payload, self.headers, True))

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        """A result with its description; the TUP versions carry both in the status map, as TARS' own servers do.

        `body` is the text of a failure, or the buffer of a successful response. `headers` become the context.
        """
        return TarsResponse(TarsHeaders(Packet(), False), status, b"", body, self.packet, context_of(headers, False))


class TarsResponse(RpcResponse):
    """A response. The payload is the buffer with the result. `packet`: its own, or the request's for a local reply."""

    def __init__(
        self,
        headers: TarsHeaders,
        status: i64,
        raw: bytes,
        payload: bytes,
        packet: Packet,
        context: list[tuple[bytes, bytes]],
    ) -> None:
        super().__init__(headers, status, raw, payload)
        self.packet = packet
        self._context = context

    def with_request_id(self, request_id: i64, out: FrameWriter) -> None:
        out.write(renumbered(self.packet, self.frame, request_id))

    def build(self, request_id: i64, payload: bytes, out: FrameWriter) -> None:
        if not self.frame or self.status != self.frame_status:
            out.write(self._local(request_id, payload))
        else:
            out.write(rebuilt(self.packet, self.frame, request_id, payload, self.headers, False))

    def _local(self, request_id: i64, payload: bytes) -> bytes:
        packet = self.packet
        result: i64 = tars_result(self.status)
        buffer = payload
        text = b""
        if result != SUCCESS:
            buffer = b""
            text = payload if payload and not self.frame else failure_text(self.status)
        parts = [write_integer(1, packet.version), write_integer(2, packet.packet_type)]
        if is_tup(packet.version):
            status = [(b"STATUS_RESULT_CODE", b"%d" % result), (b"STATUS_RESULT_DESC", text)] if result != SUCCESS else []
            parts += [write_integer(3, packet.message_type), write_integer(4, request_id)]
            parts += [write_text(5, packet.servant), write_text(6, packet.function), write_bytes(7, buffer)]
            parts += [write_integer(8, packet.timeout), write_pairs(9, self._context), write_pairs(10, status)]
            return with_length(parts)
        parts += [write_integer(3, request_id), write_integer(4, packet.message_type), write_integer(5, result)]
        parts += [write_bytes(6, buffer), write_pairs(7, [])]
        if text:
            parts.append(write_text(8, text))
        if self._context:
            parts.append(write_pairs(9, self._context))
        return with_length(parts)
