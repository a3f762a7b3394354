"""KeyUpdate messages (RFC 8446 section 4.6.3) and what else Python's ssl does not do by itself."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

_LIBRARY = ctypes.CDLL(_ssl.__file__)
_LIBRARY.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
_LIBRARY.SSL_do_handshake.argtypes = [ctypes.c_void_p]
_REQUESTED = 1


def library() -> ctypes.CDLL:
    """OpenSSL, as Python's ssl has loaded it."""
    return _LIBRARY


def handle_of(peer: ssl.SSLObject) -> int:
    """OpenSSL's own object."""
    engine = peer._sslobj  # type: ignore[attr-defined]
    found = ctypes.c_void_p.from_address(id(engine) + 24).value  # behind the object's head and its socket
    assert found is not None
    return found


def update_key(peer: ssl.SSLObject) -> None:
    """Makes `peer` send a KeyUpdate that asks for the other side's."""
    assert _LIBRARY.SSL_key_update(handle_of(peer), _REQUESTED) == 1
    assert _LIBRARY.SSL_do_handshake(handle_of(peer)) == 1
