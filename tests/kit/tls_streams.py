"""TLS connections of asyncio that can be half-closed, as the plain ones can: the reader and writer of `open_tls`."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any


class Truncated(ConnectionError):
    """The other side's FIN came without its close_notify."""


class TlsReader:
    """Reads what is decrypted; the end is the other side's close_notify, and Truncated is raised for a FIN without it."""

    def __init__(
        self, engine: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, raw: Any, writer: Any
    ) -> None:
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._raw = raw
        self._writer = writer
        self._data = bytearray()
        self._has_ended = False

    async def shake(self) -> None:
        """Makes the handshake."""
        while True:
            try:
                self._engine.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._flush()
                await self._fill()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())

    async def _fill(self) -> None:
        data = await self._raw.read(1 << 16)
        if not data:
            raise Truncated("a FIN without close_notify")
        self._incoming.write(data)

    def _open(self) -> None:
        """Decrypts all that has come, so that OpenSSL holds nothing back when this side closes."""
        try:
            while True:
                data = self._engine.read(1 << 16)
                if not data:
                    self._has_ended = True
                    return
                self._data += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._has_ended = True
        except ssl.SSLError as error:
            raise ConnectionError(str(error)) from error
        finally:
            self._flush()

    async def read(self, size: int) -> bytes:
        """As that of asyncio's reader."""
        self._open()
        while not self._data and not self._has_ended:
            await self._fill()
            self._open()
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class TlsWriter:
    """Encrypts; each `write` is at least one record."""

    def __init__(self, engine: ssl.SSLObject, outgoing: ssl.MemoryBIO, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._outgoing = outgoing
        self._writer = writer
        self.transport = writer.transport

    @property
    def session(self) -> ssl.SSLSession | None:
        """For later connections."""
        return self._engine.session

    @property
    def is_resumed(self) -> bool:
        return bool(self._engine.session_reused)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._engine.write(view) :]
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())

    async def drain(self) -> None:
        await self._writer.drain()

    def write_eof(self) -> None:
        """Sends close_notify: the end of the data, as a FIN is without TLS."""
        with contextlib.suppress(ssl.SSLError):  # it also wants to read the other side's
            self._engine.unwrap()
        self._flush()

    def cut(self) -> None:
        """Sends a FIN without close_notify."""
        self._writer.write_eof()

    def get_extra_info(self, name: str) -> Any:
        return self._writer.get_extra_info(name)

    def close(self) -> None:
        self._writer.close()


async def open_tls(
    host: str,
    port: int,
    context: ssl.SSLContext,
    name: str,
    local: tuple[str, int] | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[TlsReader, TlsWriter]:
    """Connects and makes the handshake; `name`: the server's. `session`: to be resumed. Raises OSError and ssl.SSLError."""
    raw_reader, raw_writer = await asyncio.open_connection(host, port, local_addr=local, limit=1 << 20)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    reader = TlsReader(engine, incoming, outgoing, raw_reader, raw_writer)
    try:
        await reader.shake()
    except BaseException:
        raw_writer.transport.abort()
        raise
    return reader, TlsWriter(engine, outgoing, raw_writer)
