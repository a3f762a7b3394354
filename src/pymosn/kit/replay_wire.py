"""The connections of a replay: each sends recorded requests one after the other, in HTTP/1, HTTP/2 or an RPC protocol."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from pymosn.api.http import HttpRequest
from pymosn.api.protocol import IGNORE, NEED_MORE, RESPONSE, ProtocolError
from pymosn.api.rpc import RpcRequest, RpcSpec
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import UNKNOWN_LENGTH
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http1.encoder import encode_chunk, encode_request, encode_trailers
from pymosn.protocol.http1.response import ResponseDecoder
from pymosn.protocol.http2.frames import FRAME_HEADER
from pymosn.proxy.tap_frames import without_secrets
from pymosn.proxy.taps import shown_fields
from pymosn.recording import Body, Outcome, Recorded
from pymosn.recording.record import Fields, raw_value
from pymosn.stream.registry import protocols
from pymosn.testing.http2 import Http2End, Pairs, headers_of

#: Bytes of a response's body, and of a frame, that are read.
LONGEST_BODY: Final = 64 * 1024 * 1024
_LIMITS: Final = HttpLimits(head=1 << 20, fields=10_000, body=LONGEST_BODY)
_READ: Final = 256 * 1024
#: Fields that HTTP/2 has in another way, or not at all (RFC 9113 section 8.2.2).
_NOT_IN_HTTP2: Final = frozenset(
    (
        *(b"te", b"host", b"connection", b"transfer-encoding", b"content-length", b"expect"),
        *(b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"),
    )
)


class ReplayError(Exception):
    """A request cannot be sent, or its response cannot be read; the text is the reason."""


class Target:
    """Where a replay goes. `http`: the version to speak, `Http1` or `Http2`; empty: as recorded."""

    def __init__(
        self,
        host: str,
        port: int,
        http: str = "",
        headers: Fields | None = None,
        tls: Callable[[str], ssl.SSLContext] | None = None,
        server_name: str = "",
    ) -> None:
        """`headers`: fields that replace those of the recorded requests.

        `tls`: makes the context of connections that offer this protocol (ALPN); `server_name`: if it is not `host`.
        """
        self.host = host
        self.port = port
        self.http = http
        self.headers = headers or []
        self._tls = tls
        self._server_name = server_name or host
        self.scheme = b"http" if tls is None else b"https"

    async def connect(self, alpn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection. `alpn`: the protocol that is spoken on it; empty for one that has no name."""
        if self._tls is None:
            return await asyncio.open_connection(self.host, self.port, limit=_READ)
        context = self._tls(alpn)
        reader, writer = await asyncio.open_connection(
            self.host, self.port, limit=_READ, ssl=context, server_hostname=self._server_name
        )
        if alpn == "h2" and writer.get_extra_info("ssl_object").selected_alpn_protocol() != alpn:
            writer.close()
            raise ReplayError("the server does not speak HTTP/2: use --http 1")
        return reader, writer


class Wire:
    """One connection, opened when it is needed; a failure closes it."""

    #: The name of the protocol in TLS (RFC 7301); empty if it has none.
    ALPN = ""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, recorded: Recorded) -> Outcome:
        """Sends a recorded request and returns the response. Raises ReplayError."""
        is_new = self._writer is None
        try:
            return await self._try(recorded)
        except (OSError, EOFError, ProtocolError) as error:
            self.close()
            # A server may close an idle connection at any time: then the request goes to another one, once.
            if is_new or not isinstance(error, (ConnectionError, EOFError)):
                raise ReplayError(_reason(error)) from None
        try:
            return await self._try(recorded)
        except (OSError, EOFError, ProtocolError) as error:
            self.close()
            raise ReplayError(_reason(error)) from None

    async def _try(self, recorded: Recorded) -> Outcome:
        if self._writer is None:
            self._reader, self._writer = await self._target.connect(self.ALPN)
            self._begin()
        return await self._ask(recorded)

    def _begin(self) -> None:
        """The connection has been opened."""

    async def _ask(self, recorded: Recorded) -> Outcome:
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _read(self) -> bytes:
        assert self._reader is not None
        data = await self._reader.read(_READ)
        if not data:
            raise EOFError("the connection was closed")
        return data

    async def _write(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    def _fields(self, recorded: Recorded) -> list[tuple[bytes, bytes]]:
        """The fields to send, with those that replace others."""
        own = {field[0].lower() for field in self._target.headers}
        kept = [field for field in recorded.request.headers if field[0].lower() not in own]
        return [(field[0].encode(), raw_value(field)) for field in [*kept, *self._target.headers]]


class Http1Wire(Wire):
    """A connection of HTTP/1."""

    ALPN = "http/1.1"

    def _begin(self) -> None:
        self._decoder = ResponseDecoder(_LIMITS)

    async def _ask(self, recorded: Recorded) -> Outcome:
        request = recorded.request
        fields = self._fields(recorded)
        body = b"" if request.body is None else request.body.data
        head = HttpRequest(HttpHeaders())
        path, question, query = request.raw_target().partition(b"?")
        head.raw_method, head.raw_path = request.method.encode(), path
        head.raw_query = query if question else None
        if not any(name.lower() == b"host" for name, _ in fields):
            head.headers.add_raw(b"host", request.raw_host())
        for name, value in fields:
            if name.lower() not in (b"content-length", b"transfer-encoding", b"connection", b"expect", b"te"):
                head.headers.add_raw(name, value)
        head.accepts_trailers = request.accepts_trailers
        if request.trailers is not None:
            head.content_length = UNKNOWN_LENGTH
        elif body or request.method in ("POST", "PUT", "PATCH"):
            head.headers.add_raw(b"content-length", b"%d" % len(body))
        self._decoder.expect(head.raw_method)
        parts = encode_request(head)
        if request.trailers is not None:
            parts += encode_chunk(body, False)
            parts.append(encode_trailers(HttpHeaders(_block(request.trailers))))
        else:
            parts.append(body)
        await self._write(b"".join(parts))
        return await self._response()

    async def _response(self) -> Outcome:
        decoder = self._decoder
        chunks: list[bytes] = []
        is_open, is_begun = True, False
        while True:
            while decoder.decode() == NEED_MORE:
                try:
                    decoder.feed(await self._read())
                except EOFError:
                    if not decoder.finish():
                        if decoder.head.status < 200 or not is_begun:
                            raise
                        return self._broken(chunks)
                    is_open = False
                    break
            is_begun = True
            if decoder.head.status >= 200 or not is_open:
                chunks.append(decoder.data)
                if decoder.end or not is_open:
                    break
        head = decoder.head
        if not is_open or not decoder.keep_alive:
            self.close()
        trailers = decoder.trailers
        data = b"".join(chunks)
        return Outcome(
            status=int(head.status),
            headers=shown_fields(head.headers),
            trailers=None if trailers is None else shown_fields(trailers),
            body=Body(size=len(data), data=data, complete=True),
        )

    def _broken(self, chunks: list[bytes]) -> Outcome:
        """A response that was broken off after its head."""
        data = b"".join(chunks)
        head = self._decoder.head
        self.close()
        return Outcome(
            status=int(head.status),
            headers=shown_fields(head.headers),
            body=Body(size=len(data), data=data, complete=False),
            reset="the connection was closed",
        )


class Http2Wire(Wire):
    """A connection of HTTP/2, for one request: so its stream begins with full windows."""

    ALPN = "h2"

    async def _ask(self, recorded: Recorded) -> Outcome:
        writer = self._writer
        assert writer is not None
        end = Http2End(True, writer.write)
        heads: list[Pairs] = []
        chunks: list[bytes] = []
        size = 0
        done, whole = asyncio.Event(), asyncio.Event()

        def on_last(is_last: bool) -> None:
            if is_last:
                whole.set()
                done.set()

        def on_head(fields: Pairs, is_last: bool) -> None:
            if dict(fields).get(b":status", b"200")[:1] != b"1":
                heads.append(fields)
            on_last(is_last)

        def on_data(data: bytes, is_last: bool) -> None:
            nonlocal size
            size += len(data)
            if size > LONGEST_BODY:
                done.set()
                return
            chunks.append(data)
            on_last(is_last)

        end.on_head, end.on_data, end.on_reset = on_head, on_data, done.set
        reading = asyncio.ensure_future(self._feed(end, done))
        try:
            await self._send(end, recorded)
            await done.wait()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self.close()
        # A response may be whole before the request is, which is then reset without an error (RFC 9113 8.1).
        is_whole = whole.is_set()
        if not heads:
            raise EOFError("the stream was reset" if end.is_reset else "the connection was closed")
        fields = dict(heads[0])
        data = b"".join(chunks)
        return Outcome(
            status=int(fields.get(b":status", b"0")),
            headers=shown_fields(headers_of([pair for pair in heads[0] if not pair[0].startswith(b":")])),
            trailers=shown_fields(headers_of(heads[1])) if len(heads) > 1 else None,
            body=Body(size=len(data), data=data, complete=is_whole),
            reset="" if is_whole else "reset",
        )

    async def _feed(self, end: Http2End, done: asyncio.Event) -> None:
        try:
            while not done.is_set():
                end.feed(await self._read())
        except (OSError, EOFError, ProtocolError):
            end.stop()
            done.set()

    async def _send(self, end: Http2End, recorded: Recorded) -> None:
        request = recorded.request
        fields = self._fields(recorded)
        authority = next((value for name, value in fields if name.lower() == b"host"), request.raw_host())
        head = [
            (b":method", request.method.encode()),
            (b":scheme", self._target.scheme),
            (b":authority", authority),
            (b":path", request.raw_target()),
        ]
        head += [(name.lower(), value) for name, value in fields if name.lower() not in _NOT_IN_HTTP2]
        if request.accepts_trailers:
            head.append((b"te", b"trailers"))
        body = b"" if request.body is None else request.body.data
        has_end = not body and request.trailers is None
        await self._write(end.opening() + end.head(head, has_end))
        while body and not end.is_reset:
            frame = await end.data(body, request.trailers is None)
            await self._write(frame)
            body = body[len(frame) - FRAME_HEADER :]
        if request.trailers is not None and not end.is_reset:
            await self._write(end.head([(field[0].encode(), raw_value(field)) for field in request.trailers], True))


class RpcWire(Wire):
    """A connection of an RPC protocol."""

    def __init__(self, target: Target, spec: RpcSpec) -> None:
        super().__init__(target)
        self._spec = spec

    def _begin(self) -> None:
        self._decoder = self._spec.decoder(LONGEST_BODY)
        self._decoder.is_client = True

    async def _ask(self, recorded: Recorded) -> Outcome:
        frame = recorded.request.frame
        assert frame is not None
        await self._write(self._with_headers(frame))
        if recorded.request.one_way:
            return Outcome(status=recorded.response.status)
        decoder = self._decoder
        while (kind := decoder.decode()) != RESPONSE:
            if kind == NEED_MORE:
                decoder.feed(await self._read())
            elif kind != IGNORE and decoder.answer:
                await self._write(decoder.answer)
        response = decoder.response
        assert response is not None
        out = FrameWriter()
        response.with_request_id(decoder.request_id, out)
        return rpc_outcome(self._spec, b"".join(out.take()))

    def _with_headers(self, frame: bytes) -> bytes:
        """The frame with the fields that replace others."""
        if not self._target.headers:
            return frame
        decoder = self._spec.decoder(len(frame) + 1)
        decoder.feed(frame)
        decoder.decode()
        request = decoder.request
        assert isinstance(request, RpcRequest)
        for field in self._target.headers:
            request.headers.set(field[0], field[1])
        out = FrameWriter()
        request.encode(request.request_id, request.payload, out)
        return b"".join(out.take())


def rpc_outcome(spec: RpcSpec, frame: bytes) -> Outcome:
    """A response as it is compared: its status, fields and payload, without secrets."""
    shown = without_secrets(spec, frame, True)
    if not shown.frame:
        raise ReplayError(shown.note or "the response cannot be read")
    decoder = spec.decoder(len(shown.frame) + 1)
    decoder.is_client = True
    decoder.feed(shown.frame)
    decoder.decode()
    assert decoder.response is not None
    payload = decoder.response.payload
    return Outcome(status=int(shown.status), headers=shown.fields, body=Body(size=len(payload), data=payload, complete=True))


def spec_of(protocol: str) -> RpcSpec | None:
    """The RPC protocol of that name; None if there is none."""
    found = protocols().get(protocol)
    return found.spec if found is not None and isinstance(found.spec, RpcSpec) else None


def wire_for(recorded: Recorded, target: Target) -> Wire:
    """A connection for requests such as this one. Raises ReplayError for a protocol that is not known."""
    if recorded.rpc:
        spec = spec_of(recorded.protocol)
        if spec is None:
            raise ReplayError(f"the protocol {recorded.protocol!r} is not known")
        return RpcWire(target, spec)
    return Http2Wire(target) if (target.http or recorded.protocol) == "Http2" else Http1Wire(target)


def _reason(error: BaseException) -> str:
    if isinstance(error, ProtocolError):
        return f"the response is not valid: {error.detail}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _block(fields: Fields) -> bytes:
    return b"".join(b"%b: %b\r\n" % (field[0].encode(), raw_value(field)) for field in fields)
