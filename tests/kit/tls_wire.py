"""The event loop's side of a connection whose client speaks TLS: tests see plain bytes, and the wire carries records."""

from __future__ import annotations

import contextlib
import functools
import ssl

from tests.kit import certificates
from tests.kit.transport import FakeLoop, FakeTransport

from pymosn.network.connection import TcpConnection


@functools.cache
def _context() -> ssl.SSLContext:
    return certificates.client_context()


class SecureTransport(FakeTransport):
    """Has a client in memory. Its `received` is decrypted; `waiting` and `incoming` are on the wire."""

    def __init__(self, loop: FakeLoop, ip: str, port: int) -> None:
        super().__init__(loop, ip, port)
        self._from_proxy, self._to_proxy = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = _context().wrap_bio(self._from_proxy, self._to_proxy, server_hostname="server.test")
        self._is_open = False

    def carry(self, connection: TcpConnection) -> None:
        super().carry(connection)
        self.shake()

    def shake(self, one_byte: bool = False) -> None:
        """Makes the handshake, as far as the proxy lets it."""
        while not self._is_open and not self.is_closing:
            try:
                self._engine.do_handshake()
                self._is_open = True
            except ssl.SSLWantReadError:
                pass
            data = self._to_proxy.read()
            if not data:
                break
            step = 1 if one_byte else len(data)
            self.incoming.extend(data[at : at + step] for at in range(0, len(data), step))
            self._loop.do(self.pump)
        self.arrive(b"")

    def wire(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._engine.write(view) :]
        return self._to_proxy.read()

    def end(self) -> bytes:
        with contextlib.suppress(ssl.SSLError):  # it also wants to read the proxy's close_notify
            self._engine.unwrap()
        return self._to_proxy.read()

    def arrive(self, data: bytes) -> None:
        self._from_proxy.write(data)
        if not self._is_open:
            return
        try:
            while piece := self._engine.read(1 << 16):
                self.received += piece
            self.sent_eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.sent_eof = True
        self.on_arrival()
