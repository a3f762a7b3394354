"""One health check of a host: a TCP connection, a TLS handshake over one, or over either a request of HTTP or gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from pymosn.api.http import HttpRequest
from pymosn.config.schema.cluster import GrpcProbe, HealthCheck, HttpProbe
from pymosn.control.grpc_health import fault_of, request_head, request_message
from pymosn.control.http2_client import Http2Client
from pymosn.core.addresses import UNIX, host_field, split_address
from pymosn.core.failure import UPSTREAM_NAME_MISMATCH, UPSTREAM_TLS_CLOSED, UPSTREAM_TLS_TIMEOUT, Failure
from pymosn.core.headers import HttpHeaders
from pymosn.core.uri import Uri, parse_target
from pymosn.network.tls.facts import certificate_of
from pymosn.network.tls.failures import upstream_failure
from pymosn.network.tls.sans import PeerRules
from pymosn.network.tls.settings import ClientSettings
from pymosn.network.tls.upstream import ClientContexts

#: Maximum length of a response's status line in bytes.
LONGEST_LINE: Final = 8192
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


#: Whether the host at an address passes; without TLS if that is None. The last argument, such as a PROXY protocol header, is
#: sent before everything else. OSError, TimeoutError and ValueError: it could not be reached or is not trusted, and so does
#: not pass.
Probe = Callable[[str, HealthCheck, TlsProbe | None, bytes], Awaitable[bool]]


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

    def forget(self) -> None:
        """Forgets the contexts, because the settings may have changed."""
        self._contexts.keep(set())

    async def probe(self, address: str, check: HealthCheck, tls: TlsProbe | None, preface: bytes = b"") -> bool:
        """Checks the host at `address` (`host:port` or `unix:/path`) once; see `Probe`."""
        http = http_settings(check)
        attempt = _Attempt(address, check, self._secured(tls, check), preface)
        limit = check.timeout if http is None else min(check.timeout, http.timeout) or check.timeout
        try:
            async with asyncio.timeout(limit):
                return await attempt.passes()
        except TimeoutError:
            if attempt.is_handshaking:
                raise HandshakeError(UPSTREAM_TLS_TIMEOUT) from None
            raise

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

    def __init__(self, address: str, check: HealthCheck, secured: _Secured | None, preface: bytes) -> None:
        self.is_handshaking = False
        self._address = address
        self._check = check
        self._kind = kind_of(check)
        http = self._http = http_settings(check)
        self._secured = secured
        # Another port of the host is not the one that the cluster's settings are for.
        self._preface = b"" if http is not None and http.port else preface

    async def passes(self) -> bool:
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
        reader, writer = await self._connect_plainly()
        if self._secured is None:
            return reader, writer
        try:
            await self._secure(writer, self._secured)
        except HandshakeError:
            _close(writer)
            if self._secured.settings.falls_back:
                return await self._connect_plainly()
            raise
        except BaseException:
            _close(writer)
            raise
        return reader, writer

    async def _connect_plainly(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._open()
        if self._preface:
            writer.write(self._preface)
        return reader, writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to the address, or to the `port` of a request instead, unless the address is a unix socket."""
        if self._address.startswith(UNIX):
            return await asyncio.open_unix_connection(self._address.removeprefix(UNIX), limit=LONGEST_LINE)
        host, own_port = split_address(self._address)
        port = self._http.port if self._http is not None else 0
        return await asyncio.open_connection(host, port or own_port, limit=LONGEST_LINE)

    async def _secure(self, writer: asyncio.StreamWriter, secured: _Secured) -> None:
        """Makes the handshake. Raises HandshakeError."""
        self.is_handshaking = True
        try:
            await writer.start_tls(secured.context, server_hostname=secured.server_name)
        except ssl.SSLError as error:
            raise HandshakeError(*upstream_failure(error, b"")) from None
        except OSError:
            raise HandshakeError(UPSTREAM_TLS_CLOSED) from None
        self.is_handshaking = False
        settings = secured.settings
        if settings.is_verified and settings.has_rules():
            found = certificate_of(writer.get_extra_info("ssl_object"), is_verified=True)
            if found is None or not PeerRules(settings.uris, settings.names, settings.hashes).accepts(found):
                raise HandshakeError(UPSTREAM_NAME_MISMATCH, "the certificate has none of the accepted names")

    async def _status(self, http: HttpProbe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """The status of the response; 0 if it is not HTTP."""
        target = self._target(http).target().decode()
        lines = (
            f"{http.method or 'GET'} {target} HTTP/1.1",
            f"Host: {http.domain or host_field(self._address)}",
            "User-Agent: pymosn-health-check",
            "Accept: */*",
            "Connection: close",
            *(f"{name}: {value}" for name, value in http.headers.items()),
        )
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            line = await reader.readline()
        except ssl.SSLError:
            raise
        except ValueError:
            return 0
        parts = line.split()
        return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/1.") and parts[1].isdigit() else 0

    def _target(self, http: HttpProbe) -> Uri:
        """The target of the request, with what a request line cannot have percent-encoded."""
        written = parse_target(http.path.encode()).write()
        target = parse_target(written if written.startswith(b"/") else b"/" + written)
        target.fragment = None
        return target

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Http2Client:
        return Http2Client(reader, writer, "http" if self._secured is None else "https")

    async def _status_of_http2(self, http: HttpProbe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """The status of the response to the same request over HTTP/2. Raises Http2Error."""
        head = HttpRequest(HttpHeaders())
        target = self._target(http)
        head.raw_method, head.raw_path, head.raw_query = (http.method or "GET").encode(), target.path, target.query
        head.raw_host = (http.domain or host_field(self._address)).encode()
        head.headers.add_raw(b"user-agent", b"pymosn-health-check")
        head.headers.add_raw(b"accept", b"*/*")
        for name, value in http.headers.items():
            head.headers.add_raw(name.lower().encode(), value.encode())
        answer = await self._client(reader, writer).ask(head, b"", whole=False)
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
                chunk = await reader.read(LONGEST_LINE)
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
