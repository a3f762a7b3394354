"""TLS between a connection and the event loop's transport.

`TlsTransport` is the protocol of the event loop's transport (`raw`), and the transport of a connection, which notices
nothing: it writes and receives plain bytes. OpenSSL works on memory BIOs.

    HANDSHAKING -> OPEN -> ENDED (the peer's close_notify) or BROKEN (what comes after is not read)

**The two BIOs are shared** by all connections of the process, because each keeps the memory of the largest burst. Both
are empty between calls: whatever OpenSSL has written is taken out at once, and it keeps a partial record in its own
buffer, which it frees afterwards. So a connection has no memory of its own besides OpenSSL's state.

**Reading.** All of what the event loop has read is decrypted, and delivered in one piece. So no plaintext is ever held back
here: a pause stops the event loop, which is all that it takes. Bytes are given to OpenSSL in pieces of whole records, whose
headers are read here (RFC 8446 section 5.1). So it is known when everything is read, without the exception that OpenSSL
answers with, and how many records contained no data: KeyUpdates cost much, and a peer that sends only such is cut off.

**The end.** The peer's close_notify is the end of its data; a FIN without it is not, since anybody on the way can send one:
the connection is aborted (TLS_TRUNCATED). After our close_notify the peer may continue to send (RFC 8446 section 6.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, Final, cast

from mypy_extensions import i16, i32, i64, mypyc_attr

from pymosn.api.network import Connection, Peer
from pymosn.core.failure import (
    TLS_BROKEN,
    TLS_CLOSED_IN_HANDSHAKE,
    TLS_TRUNCATED,
    UPSTREAM_TLS_ALERT,
    UPSTREAM_TLS_CLOSED,
    Failure,
)
from pymosn.network.tls.failures import client_failure, is_alert, upstream_failure
from pymosn.network.tls.openssl import HostSession, openssl

#: Bytes of plaintext in a record, at most.
RECORD: Final[i64] = 16 * 1024
#: Records that OpenSSL gets in one piece, and bytes: a piece ends at the first record that reaches one of the two.
PIECE_RECORDS: Final[i64] = 64
PIECE_BYTES: Final[i64] = 128 * 1024
#: Records without data that a connection may have received: as many, and one more for this many with data.
SPURIOUS_LIMIT: Final[i64] = 64
SPURIOUS_SHARE: Final[i64] = 1024
#: Sealed bytes after which they are taken from OpenSSL.
SEALED_LIMIT: Final[i64] = 64 * 1024
#: Bytes of a handshake that are read, at most; a chain of certificates has some thousands.
HANDSHAKE_LIMIT: Final[i64] = 256 * 1024

_HANDSHAKE_RECORD: Final[i64] = 22

_HANDSHAKING: Final[i16] = 0
_OPEN: Final[i16] = 1
_ENDED: Final[i16] = 2
_BROKEN: Final[i16] = 3

# Scratch space: empty between calls.
_INCOMING: Final = ssl.MemoryBIO()
_OUTGOING: Final = ssl.MemoryBIO()
_feed: Final[Any] = _INCOMING.write
_drain: Final[Any] = _OUTGOING.read


@mypyc_attr(allow_interpreted_subclasses=True)
class TransportUser(Connection):
    """A connection as its transport sees it."""

    def data_received(self, data: bytes) -> None:
        """Bytes were read."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The peer will send no more."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The send buffer is full."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class HandshakeReceiver:
    """Receives the result of a handshake: exactly one call, none if the connection is closed meanwhile from this side."""

    def on_secured(self, transport: TlsTransport) -> None:
        """The handshake is complete. The first data is delivered after this call."""
        raise NotImplementedError

    def on_insecure(self, failure: Failure, detail: str) -> None:
        """The handshake has failed. An alert for the peer may still be in the send buffer: the receiver closes."""
        raise NotImplementedError


class TlsTransport:
    """TLS of one connection. The module's docstring describes it."""

    def __init__(
        self,
        user: TransportUser,
        receiver: HandshakeReceiver,
        context: ssl.SSLContext,
        *,
        is_server: bool,
        server_name: str = "",
        session: HostSession | None = None,
        preface: bytes = b"",
    ) -> None:
        """`server_name`: sent to a host unless it is an IP address, and verified if `context` checks names.

        `session`: of an earlier connection, to be resumed if that had the same context. `preface`: sent before the
        handshake. Raises ValueError for an invalid name.
        """
        self._state: i16 = _HANDSHAKING
        self._is_server = is_server
        self._has_sent_end = False
        self._is_lost = False
        #: Bytes given to the event loop's transport.
        self.bytes_sent: i64 = 0
        # Of the record that OpenSSL has begun to read.
        self._left: i32 = 0
        self._spurious: i32 = 0
        self._records: i64 = 0
        # Bytes of the handshake that were read.
        self._shaken: i64 = 0
        # The beginning of a record's header.
        self._header = b""
        #: Where the sessions for later connections to this host are kept; None on the server's side.
        self.sessions_to: Peer | None = None
        # Why it is BROKEN.
        self._failure: Failure = TLS_BROKEN
        #: Whether the connection is open: that to a host opens after the handshake.
        self.is_connected = is_server
        self._user = user
        self._receiver: HandshakeReceiver | None = receiver
        self._preface = preface
        self._raw: Any = None
        engine: Any = context.wrap_bio(_INCOMING, _OUTGOING, server_side=is_server, server_hostname=server_name or None)
        # The C object: its wrapper in `ssl` would only add a call. It has all facts about the connection.
        self.engine: Any = engine._sslobj
        if session is not None:
            session.offer(self.engine)
        self._open: Any = self.engine.read
        self._seal: Any = self.engine.write

    # ---- the handshake

    def start(self, raw: asyncio.Transport, data: bytes) -> None:
        """Begins the handshake on `raw`, whose protocol this becomes. `data`: what was read already."""
        raw.set_protocol(cast(asyncio.BaseProtocol, self))
        self.connection_made(raw)
        if data:
            self.data_received(data)

    def connection_made(self, raw: asyncio.Transport) -> None:
        self._raw = raw
        if self._preface:
            self._send(self._preface)
            self._preface = b""
        if not self._is_server:
            self._shake(b"")

    def _shake(self, data: bytes) -> None:
        """Continues the handshake."""
        self._shaken += len(data)
        if data:
            _feed(data)
        try:
            self.engine.do_handshake()
        except ssl.SSLWantReadError:
            self._send_sealed()
            if self._shaken > HANDSHAKE_LIMIT:
                self._break_handshake(self._closed(), "the handshake is too long")
            return
        except ssl.SSLError as error:
            _INCOMING.read()
            self._send_sealed()
            failure, detail = client_failure(error, data) if self._is_server else upstream_failure(error, data)
            self._break_handshake(failure, detail)
            return
        self._send_sealed()
        rest = _INCOMING.read()
        self._state = _OPEN
        receiver = self._receiver
        self._receiver = None
        if receiver is not None:
            receiver.on_secured(self)
        if rest:
            self.data_received(rest)

    def _closed(self) -> Failure:
        return TLS_CLOSED_IN_HANDSHAKE if self._is_server else UPSTREAM_TLS_CLOSED

    def _break_handshake(self, failure: Failure, detail: str) -> None:
        self._state = _BROKEN
        receiver = self._receiver
        self._receiver = None
        if receiver is not None:
            receiver.on_insecure(failure, detail)

    @property
    def has_begun(self) -> bool:
        """Whether there is a socket."""
        return self._raw is not None

    def disconnect(self) -> None:
        """Closes the socket of a connection that has not been opened, after what is to be sent."""
        if self._raw is not None:
            self.close()
        self._state = _BROKEN
        self._receiver = None

    @property
    def is_secured(self) -> bool:
        """Whether the handshake was completed."""
        return self._state == _OPEN or self._state == _ENDED

    # ---- called by the event loop

    def data_received(self, data: bytes) -> None:
        if self._state == _HANDSHAKING:
            self._shake(data)
            return
        if not self._user.is_closed:  # while it lingers only the end matters
            self.receive(data)

    def receive(self, data: bytes) -> None:
        """Decrypts and delivers `data`, even if the connection is closed."""
        if self._state != _OPEN:
            return
        if self._header:
            data = self._header + data
            self._header = b""
        size: i64 = len(data)
        if self._left == 0 and size >= 5 and size == 5 + (i64(data[3]) << 8 | i64(data[4])) and data[0] != _HANDSHAKE_RECORD:
            plain = self._open_records(data, 1, False, size)
        else:
            plain = self._open_all(data, size)
        if plain:
            self._user.data_received(plain)
        if self._state == _ENDED:
            self._user.eof_received()
        elif self._state == _BROKEN:
            self._user.close(self._failure)

    def _open_all(self, data: bytes, size: i64) -> bytes:
        """Decrypts `data`, which may begin and end within a record."""
        parts: list[bytes] = []
        position: i64 = 0
        while position < size and self._state == _OPEN:
            start = position
            records: i64 = 0
            is_partial = False
            if self._left > 0:
                step: i64 = min(i64(self._left), size - position)
                self._left -= i32(step)
                position += step
                if self._left > 0:
                    is_partial = True
                else:
                    records = 1
            while position < size and records < PIECE_RECORDS and position - start < PIECE_BYTES:
                if size - position < 5:
                    self._header = data[position:]
                    size = position
                    break
                length: i64 = 5 + (i64(data[position + 3]) << 8 | i64(data[position + 4]))
                if data[position] == _HANDSHAKE_RECORD:
                    self._break()  # a renegotiation
                    break
                if length > size - position:
                    self._left = i32(length - (size - position))
                    position = size
                    is_partial = True
                    break
                position += length
                records += 1
            if position > start:
                piece: object = data if start == 0 and position == len(data) else memoryview(data)[start:position]
                plain = self._open_records(piece, records, is_partial, RECORD)
                if plain:
                    parts.append(plain)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _open_records(self, piece: object, records: i64, is_partial: bool, room: i64) -> bytes:
        """Decrypts a piece of whole records, the last one perhaps partial. `room`: bytes of the longest record."""
        first: bytes = b""
        parts: list[bytes] | None = None
        found: i64 = 0
        _feed(piece)
        try:
            while found < records or is_partial:
                plain: bytes = self._open(int(room))
                if not plain:
                    self._state = _ENDED
                    break
                found += 1
                if parts is not None:
                    parts.append(plain)
                elif found == 1:
                    first = plain
                else:
                    parts = [first, plain]
        except ssl.SSLWantReadError:
            pass  # a partial record, or one without data
        except ssl.SSLZeroReturnError:
            self._state = _ENDED
        except ssl.SSLError as error:
            self._state = _BROKEN
            if not self._is_server and is_alert(error):  # in TLS 1.3 also about our certificate
                self._failure = UPSTREAM_TLS_ALERT
        if _INCOMING.pending > 0:
            _INCOMING.read()  # after the end
        if _OUTGOING.pending > 0:
            self._send_sealed()  # an alert, or the answer to a KeyUpdate
        self._records += found
        if found > 0 and self.sessions_to is not None:
            self._keep_session()
        if found < records and self._state == _OPEN:
            self._count_spurious(records - found)
        return first if parts is None else b"".join(parts)

    def _count_spurious(self, records: i64) -> None:
        if self.engine.version() != "TLSv1.3":
            return  # OpenSSL has its own limits for what older versions have
        self._spurious += i32(records)
        if i64(self._spurious) > SPURIOUS_LIMIT + self._records // SPURIOUS_SHARE:
            self._break()

    def _break(self) -> None:
        """The peer does what it must not: nothing more is read from it."""
        self._state = _BROKEN

    def _keep_session(self) -> None:
        """Keeps the session: in TLS 1.3 the host sends the ticket after the handshake, usually before its first data."""
        peer = self.sessions_to
        self.sessions_to = None
        library = openssl()
        if peer is not None and library is not None:
            session = library.session_of(self.engine)
            if session is not None:
                peer.session = session

    def eof_received(self) -> bool:
        if self._state == _HANDSHAKING:
            self._break_handshake(self._closed(), "closed during the handshake")
        elif self._user.is_closed or self._state == _ENDED:
            return self._user.eof_received() if self._user.is_closed else True
        elif self._state == _OPEN:
            self._state = _BROKEN
            self._user.abort(TLS_TRUNCATED)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self._state == _HANDSHAKING:
            self._break_handshake(self._closed(), "reset during the handshake" if error is not None else "closed")
        if self.is_connected:
            self._user.connection_lost(error)

    def pause_writing(self) -> None:
        self._user.pause_writing()

    def resume_writing(self) -> None:
        self._user.resume_writing()

    # ---- called by the connection

    def get_extra_info(self, name: str) -> Any:
        return self._raw.get_extra_info(name)

    def set_write_buffer_limits(self, high: int) -> None:
        self._raw.set_write_buffer_limits(high)

    def get_write_buffer_size(self) -> int:
        return int(self._raw.get_write_buffer_size())

    def is_closing(self) -> bool:
        return bool(self._raw.is_closing())

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def write(self, data: bytes) -> None:
        size: i64 = len(data)
        if size > RECORD:
            self.writelines([data])
        elif size > 0 and self._can_write():
            try:
                self._seal(data)
            except ssl.SSLError:
                self._break_writing()
                return
            self._send(_drain())

    def writelines(self, parts: list[bytes]) -> None:
        if not self._can_write():
            return
        sealed: list[bytes] = []
        waiting: i64 = 0
        try:
            for part in parts:
                size: i64 = len(part)
                view = memoryview(part)
                position: i64 = 0
                while position < size:
                    position += i64(self._seal(view[position : position + RECORD]))
                    waiting += RECORD
                    if waiting >= SEALED_LIMIT:
                        sealed.append(_drain())
                        waiting = 0
        except ssl.SSLError:
            self._break_writing()
            return
        if waiting > 0:
            sealed.append(_drain())
        if len(sealed) == 1:
            self._send(sealed[0])
        elif sealed:
            for block in sealed:
                self.bytes_sent += len(block)
            self._raw.writelines(sealed)

    def _can_write(self) -> bool:
        return (self._state == _OPEN or self._state == _ENDED) and not self._has_sent_end and not self._is_lost

    def _break_writing(self) -> None:
        """Bytes cannot be encrypted, which only happens if OpenSSL has no memory."""
        _drain()
        self._state = _BROKEN
        self._user.abort(TLS_BROKEN)

    def write_eof(self) -> None:
        """Sends close_notify. The peer may still send; the FIN comes with `close` or `send_fin`."""
        if self._can_write():
            self._has_sent_end = True
            with contextlib.suppress(ssl.SSLError):  # it also wants to read the peer's close_notify
                self.engine.shutdown()
            self._send_sealed()

    def send_fin(self) -> None:
        """Sends a FIN; after `write_eof`."""
        self._raw.write_eof()

    def close(self) -> None:
        self.write_eof()
        self._give_up()
        self._raw.close()

    def abort(self) -> None:
        self._give_up()
        self._raw.abort()

    def _give_up(self) -> None:
        """This side closes: a handshake has no result any more."""
        if self._state == _HANDSHAKING:
            self._state = _BROKEN
            self._receiver = None

    def _send_sealed(self) -> None:
        if _OUTGOING.pending > 0:
            self._send(_drain())

    def _send(self, data: bytes) -> None:
        if not self._is_lost:
            self.bytes_sent += len(data)
            self._raw.write(data)
