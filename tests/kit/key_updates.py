"""KeyUpdate messages (RFC 8446 section 4.6.3), which Python's ssl does not send by itself."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

_LIBRARY = ctypes.CDLL(_ssl.__file__)
_LIBRARY.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
_LIBRARY.SSL_do_handshake.argtypes = [ctypes.c_void_p]
_REQUESTED = 1


def update_key(peer: ssl.SSLObject) -> None:
    """Makes `peer` send a KeyUpdate that asks for the other side's."""
    engine = peer._sslobj  # type: ignore[attr-defined]
    handle = ctypes.c_void_p.from_address(id(engine) + 24).value  # behind the object's head and its socket
    assert _LIBRARY.SSL_key_update(handle, _REQUESTED) == 1
    assert _LIBRARY.SSL_do_handshake(handle) == 1
