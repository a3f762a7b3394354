"""Reads the ClientHello, the first message of a TLS connection (RFC 8446 section 4.1.2), without changing or answering it.

The context of a connection is chosen from it, before the handshake.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: Maximum bytes of a ClientHello with its record headers.
HELLO_LIMIT: Final[i64] = 16 * 1024


class ClientHello:
    """A complete ClientHello. Immutable."""

    def __init__(self, *, server_name: str, protocols: tuple[str, ...], versions: tuple[int, ...], raw: bytes) -> None:
        """`server_name`: SNI in lower case, empty without one. `protocols`: offered by ALPN, in the client's order.

        `versions`: the offered TLS versions as on the wire, 0x0304 is TLS 1.3. `raw`: the handshake message.
        """
        self.server_name = server_name
        self.protocols = protocols
        self.versions = versions
        self.raw = raw

    def ja3(self) -> str:
        """The JA3 fingerprint: an MD5 in hexadecimal."""
        raise NotImplementedError

    def ja4(self) -> str:
        """The JA4 fingerprint, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`."""
        raise NotImplementedError


def is_tls(data: bytes) -> bool:
    """Whether a connection that begins with `data`, not empty, is TLS: its first byte is that of a handshake record."""
    return data[0] == 0x16


def read_hello(data: bytes) -> ClientHello | None:
    """The ClientHello at the beginning of a connection; None if `data` is only a part of it.

    Raises ProtocolError for bytes that are not a ClientHello, and above HELLO_LIMIT.
    """
    raise NotImplementedError
