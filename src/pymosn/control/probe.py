"""One health check of a host: a TCP connection, a TLS handshake over one, or over either a request of HTTP or gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from pymosn.api.http import HttpRequest
from pymosn.api.network import ATTEMPT_DELAY, PLAIN, Peer, join_address
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.config.schema.cluster import GrpcProbe, HealthCheck, HttpProbe
from pymosn.control.grpc_health import fault_of, request_head, request_message
from pymosn.control.http2_client import Http2Client
from pymosn.core.addresses import UNIX, host_field, split_address
from pymosn.core.chars import PATH_TEXT, QUERY_TEXT
from pymosn.core.clock import Clock
from pymosn.core.failure import UPSTREAM_NAME_MISMATCH, UPSTREAM_TLS_CLOSED, UPSTREAM_TLS_TIMEOUT, Failure
from pymosn.core.headers import HttpHeaders
from pymosn.core.uri import Uri, escape_part, parse_target
from pymosn.network.happy_eyeballs import GoodAddresses, HostDial
from pymosn.network.tls.facts import certificate_of
from pymosn.network.tls.failures import upstream_failure
from pymosn.network.tls.sans import PeerRules
from pymosn.network.tls.settings import ClientSettings
from pymosn.network.tls.upstream import ClientContexts
from pymosn.protocol.http.limits import RESPONSE_LIMITS
from pymosn.protocol.http.policy import COMPATIBLE, STRICT
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http1.response import ResponseDecoder

#: Bytes that are read at once.
PIECE: Final = 8192
#: Maximum number of bytes that a check by TCP receives before the expected ones.
LONGEST_PAYLOAD: Final = 1024 * 1024
#: What a check by HTTP offers by ALPN, whatever the cluster speaks.
_HTTP_1: Final = ("http/1.1",)
_HTTP_2: Final = ("h2",)
#: What a check sends.
NOTHING: Final = ""
BY_HTTP_1: Final = "http1"
BY_HTTP_2: Final = "http2"
BY_GRPC: Final = "grpc"


class TlsProbe(NamedTuple):
    """TLS of a check: the settings of the host's cluster, and the name that the host must have."""

    settings: ClientSettings
    server_name: str


class Way(NamedTuple):
    """How connections to the hosts of a cluster are opened, for its checks as for its requests; see `Peer`.

    `preface`: sent before everything else, such as a PROXY protocol header. `is_strict`: harmless faults of responses are
    not tolerated.
    """

    preface: bytes = b""
    bind: str = ""
    mark: int = 0
    attempt_delay: float = ATTEMPT_DELAY
    is_strict: bool = True


DIRECT: Final = Way()

#: Whether the host at an address passes; without TLS if that is None. OSError, TimeoutError and ValueError: it could not be
#: reached or is not trusted, and so does not pass.
Probe = Callable[[str, HealthCheck, TlsProbe | None, Way], Awaitable[bool]]


class UnexpectedAnswer(Exception):
    """The host has answered, and is not healthy; the text is the reason."""


class HandshakeError(OSError):
    """A TLS handshake has failed; the text begins with the reason word."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure.reason}: {detail}" if detail else failure.reason)


def http_settings(check: HealthCheck) -> HttpProbe | None:
    """The HTTP settings of a check that sends a request; None for one that only connects.

    HTTP requires `http_check_config` and a `protocol` of `Http1`, `http` or `Http2` (ignoring case).
    """
    if check.protocol.lower() not in ("http", "http1", "http2") or check.check_config is None:
        return None
    return check.check_config.http_check_config


def kind_of(check: HealthCheck) -> str:
    """What a check sends: NOTHING, if it only connects, BY_HTTP_1, BY_HTTP_2 or BY_GRPC."""
    protocol = check.protocol.lower()
    if protocol == BY_GRPC:
        return BY_GRPC
    if http_settings(check) is None:
        return NOTHING
    return BY_HTTP_2 if protocol == BY_HTTP_2 else BY_HTTP_1


def grpc_settings(check: HealthCheck) -> GrpcProbe:
    """The settings of a check by gRPC; all of them are optional."""
    found = None if check.check_config is None else check.check_config.grpc_check_config
    return found or GrpcProbe()


class Prober:
    """Checks hosts. Hosts with equal settings for TLS share a context."""

    def __init__(self) -> None:
        self._contexts = ClientContexts()
        self._clock = Clock()
        self._good = GoodAddresses()

    def forget(self) -> None:
        """Forgets the contexts, because the settings may have changed."""
        self._contexts.keep(set())

    async def probe(self, address: str, check: HealthCheck, tls: TlsProbe | None, way: Way = DIRECT) -> bool:
        """Checks the host at `address` (`host:port` or `unix:/path`) once; see `Probe`."""
        http = http_settings(check)
        attempt = _Attempt(address, check, self._secured(tls, check), way, self._good, self._clock)
        limit = check.timeout if http is None else min(check.timeout, http.timeout) or check.timeout
        try:
            async with asyncio.timeout(limit):
                passed = await attempt.passes()
        except TimeoutError:
            attempt.note(False)
            if attempt.is_handshaking:
                raise HandshakeError(UPSTREAM_TLS_TIMEOUT) from None
            account = attempt.account()
            if account:
                raise TimeoutError(f"no connection within {limit:g} s: {account}") from None
            raise
        except BaseException:
            attempt.note(False)
            raise
        attempt.note(passed)
        return passed

    def _secured(self, tls: TlsProbe | None, check: HealthCheck) -> _Secured | None:
        """TLS of a check, None for plain text: a request to another port is sent by its `scheme`."""
        http, kind = http_settings(check), kind_of(check)
        if tls is None or (http is not None and http.port and http.scheme.lower() != "https"):
            return None
        settings = tls.settings
        alpn = _HTTP_1 if kind == BY_HTTP_1 else settings.tls.alpn if kind == NOTHING else _HTTP_2
        own = settings.tls._replace(key_log="", alpn=alpn)
        settings = settings._replace(tls=own)
        return _Secured(settings, self._contexts.get(settings), tls.server_name)


class _Secured(NamedTuple):
    """TLS of one check."""

    settings: ClientSettings
    context: ssl.SSLContext
    server_name: str


class _Attempt:
    """One check."""

    def __init__(
        self, address: str, check: HealthCheck, secured: _Secured | None, way: Way, good: GoodAddresses, clock: Clock
    ) -> None:
        self.is_handshaking = False
        self._way = way
        self._good = good
        self._clock = clock
        # The dial to a host with a port, and whether it has no result yet.
        self._dial: HostDial | None = None
        self._is_dialing = False
        self._address = address
        self._check = check
        self._kind = kind_of(check)
        http = self._http = http_settings(check)
        self._secured = secured
        # Another port of the host is not the one that the cluster's settings are for.
        self._preface = b"" if http is not None and http.port else way.preface

    def note(self, is_usable: bool) -> None:
        """Remembers which of several addresses is of use, or forgets it."""
        if self._dial is not None:
            if is_usable:
                self._dial.remember()
            else:
                self._dial.on_unusable()

    def account(self) -> str:
        """What has become of the host's addresses while none of them has been reached; empty afterwards."""
        return self._dial.account() if self._dial is not None and self._is_dialing else ""

    async def passes(self) -> bool:
        """Makes the check. Raises OSError, TimeoutError, ValueError and UnexpectedAnswer."""
        reader, writer = await self._connect()
        try:
            if self._kind == BY_GRPC:
                await self._call(grpc_settings(self._check), reader, writer)
            if self._http is None:
                await self._converse(reader, writer)
                return True
            ask = self._status_of_http2 if self._kind == BY_HTTP_2 else self._status
            status = await ask(self._http, reader, writer)
        except ssl.SSLError as error:  # such as an alert, because the host does not accept the client's certificate
            raise HandshakeError(*upstream_failure(error, b"")) from None
        finally:
            _close(writer)
        if not self._http.codes:
            return status == 200
        return any(codes.Start <= status <= codes.End for codes in self._http.codes)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secured = self._secured
        if secured is None:
            return await self._stream(None)
        try:
            return await self._secure(secured)
        except HandshakeError:
            if secured.settings.falls_back:
                return await self._stream(None)
            raise

    async def _stream(self, secured: _Secured | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection, after the handshake of `secured`."""
        sock = await self._open()
        options: dict[str, Any] = {"sock": sock, "limit": PIECE}
        if secured is not None:
            self.is_handshaking = True
            options.update(ssl=secured.context, server_hostname=secured.server_name)
        try:
            if self._preface:
                await asyncio.get_running_loop().sock_sendall(sock, self._preface)
            if sock.family == socket.AF_UNIX:
                return await asyncio.open_unix_connection(**options)
            return await asyncio.open_connection(**options)
        except BaseException:
            sock.close()
            raise

    async def _open(self) -> socket.socket:
        """A socket that is connected to the address, or to the `port` of a request instead, unless that is a unix socket."""
        self.is_handshaking = False
        if self._address.startswith(UNIX):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await asyncio.get_running_loop().sock_connect(sock, self._address.removeprefix(UNIX))
            except BaseException:
                sock.close()
                raise
            return sock
        host, own_port = split_address(self._address)
        port = self._http.port if self._http is not None else 0
        way = self._way
        peer = Peer(
            join_address(host, port or own_port),
            transport=PLAIN,
            server_name="",
            bind=way.bind,
            mark=way.mark,
            attempt_delay=way.attempt_delay,
        )
        self._clock.tick()
        dial = self._dial = HostDial(peer, self._good, self._clock)
        self._is_dialing = True
        sock = await dial.open(await dial.find())
        self._is_dialing = False
        return sock

    async def _secure(self, secured: _Secured) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with TLS. Raises HandshakeError, and OSError if the host is not reached."""
        try:
            reader, writer = await self._stream(secured)
        except ssl.SSLError as error:
            raise HandshakeError(*upstream_failure(error, b"")) from None
        except OSError:
            if not self.is_handshaking:
                raise
            raise HandshakeError(UPSTREAM_TLS_CLOSED) from None
        self.is_handshaking = False
        settings = secured.settings
        if settings.is_verified and settings.has_rules():
            found = certificate_of(writer.get_extra_info("ssl_object"), is_verified=True)
            if found is None or not PeerRules(settings.uris, settings.names, settings.hashes).accepts(found):
                _close(writer)
                raise HandshakeError(UPSTREAM_NAME_MISMATCH, "the certificate has none of the accepted names")
        return reader, writer

    def _head(self, http: HttpProbe, *, is_http2: bool) -> HttpRequest:
        """The request of a check."""
        head = HttpRequest(HttpHeaders())
        target = self._target(http)
        head.raw_method, head.raw_path, head.raw_query = (http.method or "GET").encode(), target.path, target.query
        head.raw_host = (http.domain or host_field(self._address)).encode()
        if not is_http2:
            head.headers.add_raw(b"host", head.raw_host)
            head.headers.add_raw(b"connection", b"close")
        head.headers.add_raw(b"user-agent", b"pymosn-health-check")
        head.headers.add_raw(b"accept", b"*/*")
        for name, value in http.headers.items():
            head.headers.add_raw(name.lower().encode(), value.encode())
        return head

    async def _status(self, http: HttpProbe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """The status of the final response. Raises UnexpectedAnswer if there is none."""
        head = self._head(http, is_http2=False)
        writer.write(b"".join(encode_request(head)))
        decoder = ResponseDecoder(RESPONSE_LIMITS, STRICT if self._way.is_strict else COMPATIBLE)
        decoder.expect(head.raw_method)
        try:
            while True:
                if decoder.decode() == NEED_MORE:
                    data = await reader.read(PIECE)
                    if not data:
                        raise UnexpectedAnswer("the connection has ended without a response")
                    decoder.feed(data)
                elif decoder.head.status >= 200:
                    return int(decoder.head.status)
        except ProtocolError as error:
            raise UnexpectedAnswer(f"not a valid response: {error.detail}") from None

    def _target(self, http: HttpProbe) -> Uri:
        """The target of the request, with what a request line cannot have percent-encoded."""
        target = parse_target(http.path.encode())
        path = target.path if target.path.startswith(b"/") else b"/" + target.path
        query = None if target.query is None else escape_part(target.query, QUERY_TEXT)
        return Uri(escape_part(path, PATH_TEXT), query)

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Http2Client:
        return Http2Client(reader, writer, "http" if self._secured is None else "https")

    async def _status_of_http2(self, http: HttpProbe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """The status of the response to the same request over HTTP/2. Raises Http2Error."""
        answer = await self._client(reader, writer).ask(self._head(http, is_http2=True), b"", whole=False)
        return 0 if answer.head is None else int(answer.head.status)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Sends and receives the bytes of a check by TCP, if it has any. Raises UnexpectedAnswer."""
        inner = self._check.check_config
        probe = None if inner is None else inner.tcp_check_config
        if probe is None or self._kind != NOTHING:
            return
        if probe.send:
            writer.write(bytes.fromhex(probe.send))
        received = b""
        for text in probe.receive:
            wanted = bytes.fromhex(text)
            while wanted not in received:
                if len(received) > LONGEST_PAYLOAD:
                    raise UnexpectedAnswer(f"{LONGEST_PAYLOAD} bytes without the expected ones")
                chunk = await reader.read(PIECE)
                if not chunk:
                    raise UnexpectedAnswer("the connection has ended without the expected bytes")
                received += chunk
            received = received.partition(wanted)[2]

    async def _call(self, grpc: GrpcProbe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asks for the health of a service. Raises UnexpectedAnswer if it is not SERVING, and Http2Error."""
        head = request_head(grpc.authority or host_field(self._address), self._check.timeout)
        answer = await self._client(reader, writer).ask(head, request_message(grpc.service_name), whole=True)
        if fault := fault_of(answer, grpc.service_name):
            raise UnexpectedAnswer(fault)


def _close(writer: asyncio.StreamWriter) -> None:
    """Closes a connection without waiting for the host."""
    with contextlib.suppress(OSError, RuntimeError):
        writer.transport.abort()
