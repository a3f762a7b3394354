"""Calls OpenSSL's own functions for what the `ssl` module lacks.

The `SSL_CTX` of a context is the first field of the object after its header; the `SSL` of a connection is the second one,
before its context. Whether that is so is tested before the first use, on contexts whose options are known. If it is not
(another Python implementation, an OpenSSL without these functions), `openssl` returns None: nothing that needs this is
enabled, and whatever would be unsafe without it is off.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
import time
from functools import lru_cache
from typing import Any, Final

_SET_SESSION_CACHE: Final = 44
_SET_TICKET_KEYS: Final = 59
_SET_GROUPS: Final = 92
_VERIFY_PEER: Final = 1
_NO_CACHE: Final = 0
# Whether a ticket could be decrypted, and what is to be done with it (SSL_TICKET_*).
_DECRYPTED: Final = 5
_DECRYPTED_RENEW: Final = 6
_IGNORE: Final = 2
_USE: Final = 3
_USE_RENEW: Final = 4
#: Bytes of a pointer, and of the time in a ticket.
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_TIME_SIZE: Final = 8

#: Bytes of ticket keys: the key's name, the key of the HMAC, the key of the cipher.
TICKET_KEYS_SIZE: Final = 80
#: Maximum bytes of a session id context.
SESSION_CONTEXT_SIZE: Final = 32

#: What is called in what follows; all of it must exist.
_FUNCTIONS: Final = (
    *("SSL_CTX_get_options", "SSL_CTX_ctrl", "SSL_CTX_set_ciphersuites", "SSL_CTX_set_session_id_context"),
    *("SSL_CTX_set_timeout", "SSL_CTX_set_verify", "SSL_CTX_set_client_CA_list", "SSL_load_client_CA_file"),
    *("SSL_CTX_set_session_ticket_cb", "SSL_get_session", "SSL_SESSION_get0_ticket_appdata", "SSL_SESSION_get0_peer"),
    *("SSL_SESSION_set1_ticket_appdata", "X509_get0_notAfter", "X509_cmp_time", "SSL_get_SSL_CTX", "SSL_set_session"),
    *("SSL_SESSION_dup", "SSL_SESSION_free", "SSL_SESSION_has_ticket"),
)

_Accept: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_NewTicket: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_OldTicket: Final = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    *(ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
)


def _accept_any(is_valid: int, store: int) -> int:
    return 1


#: Kept for ever, because contexts refer to it.
_ACCEPT_ANY: Final = _Accept(_accept_any)


class HostSession:
    """The session of a connection to a host, which a later one with the same context resumes."""

    def __init__(self, library: OpenSsl, pointer: int, context: ssl.SSLContext) -> None:
        self._library = library
        self._pointer = pointer
        self._context = context

    def __del__(self) -> None:
        self._library.free_session(self._pointer)

    def offer(self, engine: Any) -> None:
        """Makes a connection that begins offer it to the host, if that has the same context."""
        if engine.context is self._context:
            self._library.offer_session(engine, self._pointer)


class OpenSsl:
    """OpenSSL's functions on contexts and connections. `engine`: the object in C of a connection."""

    def __init__(self, library: Any, offset: int) -> None:
        """`library`: what has the functions. `offset`: of the `SSL_CTX *` in a context object."""
        for name in _FUNCTIONS:
            getattr(library, name)
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_set_ciphersuites.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.SSL_CTX_set_session_id_context.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
        library.SSL_CTX_set_timeout.restype = ctypes.c_long
        library.SSL_CTX_set_timeout.argtypes = [ctypes.c_void_p, ctypes.c_long]
        library.SSL_CTX_set_verify.restype = None
        library.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, _Accept]
        library.SSL_load_client_CA_file.restype = ctypes.c_void_p
        library.SSL_load_client_CA_file.argtypes = [ctypes.c_char_p]
        library.SSL_CTX_set_client_CA_list.restype = None
        library.SSL_CTX_set_client_CA_list.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_CTX_set_session_ticket_cb.argtypes = [ctypes.c_void_p, _NewTicket, _OldTicket, ctypes.c_void_p]
        library.SSL_get_session.restype = ctypes.c_void_p
        library.SSL_get_session.argtypes = [ctypes.c_void_p]
        library.SSL_SESSION_get0_ticket_appdata.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_SESSION_set1_ticket_appdata.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        library.SSL_SESSION_get0_peer.restype = ctypes.c_void_p
        library.SSL_SESSION_get0_peer.argtypes = [ctypes.c_void_p]
        library.SSL_get_SSL_CTX.restype = ctypes.c_void_p
        library.SSL_get_SSL_CTX.argtypes = [ctypes.c_void_p]
        library.SSL_set_session.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_SESSION_dup.restype = ctypes.c_void_p
        library.SSL_SESSION_dup.argtypes = [ctypes.c_void_p]
        library.SSL_SESSION_free.restype = None
        library.SSL_SESSION_free.argtypes = [ctypes.c_void_p]
        library.SSL_SESSION_has_ticket.argtypes = [ctypes.c_void_p]
        library.X509_get0_notAfter.restype = ctypes.c_void_p
        library.X509_get0_notAfter.argtypes = [ctypes.c_void_p]
        library.X509_cmp_time.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._library = library
        self._offset = offset
        # Contexts refer to them: they live as long as this object, of which there is one.
        self._new_ticket: Any = _NewTicket(self._date_ticket)
        self._old_ticket: Any = _OldTicket(self._judge_ticket)

    def _pointer(self, context: ssl.SSLContext) -> int:
        return ctypes.c_void_p.from_address(id(context) + self._offset).value or 0

    def agrees(self, context: ssl.SSLContext) -> bool:
        """Whether the pointer that is found leads to the options that the context has."""
        pointer = self._pointer(context)
        return pointer != 0 and bool(self._library.SSL_CTX_get_options(pointer) == int(context.options) & 0xFFFFFFFFFFFFFFFF)

    def _connection(self, engine: Any) -> int:
        """The `SSL *` of a connection."""
        return ctypes.c_void_p.from_address(id(engine) + self._offset + _POINTER).value or 0

    def reaches(self, context: ssl.SSLContext) -> bool:
        """Whether the pointer that is found in a connection leads to its context."""
        connection: Any = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
        engine = connection._sslobj
        following = ctypes.c_void_p.from_address(id(engine) + self._offset + 2 * _POINTER).value
        if following != id(context):
            return False
        return bool(self._library.SSL_get_SSL_CTX(self._connection(engine)) == self._pointer(context))

    def session_of(self, engine: Any) -> HostSession | None:
        """The present session of a connection to a host, with which another one can skip the full handshake; None if there
        is none. In TLS 1.3 that needs a ticket, which hosts send after the handshake.

        `engine.session` is not used: until 3.12.8 and 3.13.1 Python leaks a copy of the session each time that it is read,
        up to six kilobytes with the host's certificates (issue 116810 of python/cpython).
        """
        found = self._library.SSL_get_session(self._connection(engine))
        if not found or (engine.version() == "TLSv1.3" and not self._library.SSL_SESSION_has_ticket(found)):
            return None
        # A copy, because a connection that is cut makes its own session unusable.
        pointer = self._library.SSL_SESSION_dup(found)
        return HostSession(self, int(pointer), engine.context) if pointer else None

    def offer_session(self, engine: Any, pointer: int) -> None:
        """Makes a connection that begins offer a copy of a session, for which the connection keeps a reference."""
        copy = self._library.SSL_SESSION_dup(pointer)
        if copy:
            self._library.SSL_set_session(self._connection(engine), copy)
            self._library.SSL_SESSION_free(copy)

    def free_session(self, pointer: int) -> None:
        """Ends the life of a session."""
        self._library.SSL_SESSION_free(pointer)

    def set_ticket_keys(self, context: ssl.SSLContext, keys: bytes) -> bool:
        """Sets the keys that tickets are encrypted with; False if they are not accepted."""
        assert len(keys) == TICKET_KEYS_SIZE
        return self._control(context, _SET_TICKET_KEYS, TICKET_KEYS_SIZE, keys)

    def set_session_context(self, context: ssl.SSLContext, name: bytes) -> bool:
        """Makes the sessions of this context unusable in those of other names."""
        found = self._library.SSL_CTX_set_session_id_context(self._pointer(context), name, len(name))
        return bool(found == 1)

    def set_session_timeout(self, context: ssl.SSLContext, seconds: int) -> None:
        """Sets how long a session may be resumed."""
        self._library.SSL_CTX_set_timeout(self._pointer(context), seconds)

    def limit_sessions(self, context: ssl.SSLContext, seconds: int) -> None:
        """Ends sessions this long after the handshake that verified the client, and with the client's certificate.

        Otherwise every resumed connection of TLS 1.3 gets tickets that are valid for as long again. A ticket that is over
        leads to a full handshake.
        """
        self._library.SSL_CTX_set_session_ticket_cb(self._pointer(context), self._new_ticket, self._old_ticket, seconds)

    def _date_ticket(self, connection: int, seconds: object) -> int:
        """Called for each ticket that is issued: those of a resumed session inherit the time of the first one."""
        session = self._library.SSL_get_session(connection)
        if not self._data_of(session):
            self._library.SSL_SESSION_set1_ticket_appdata(session, _now().to_bytes(_TIME_SIZE, "big"), _TIME_SIZE)
        return 1

    def _judge_ticket(
        self, connection: int, session: int | None, name: object, size: int, status: int, seconds: int | None
    ) -> int:
        """Called for each ticket that a client presents: whether it is accepted."""
        if session is None or status not in (_DECRYPTED, _DECRYPTED_RENEW):
            return _IGNORE
        data = self._data_of(session)
        now = _now()
        if len(data) != _TIME_SIZE or not 0 <= now - int.from_bytes(data, "big") <= (seconds or 0):
            return _IGNORE
        library = self._library
        peer = library.SSL_SESSION_get0_peer(session)
        if peer and library.X509_cmp_time(library.X509_get0_notAfter(peer), ctypes.byref(ctypes.c_long(now))) <= 0:
            return _IGNORE
        return _USE if status == _DECRYPTED else _USE_RENEW

    def _data_of(self, session: int) -> bytes:
        """What the ticket of a session contains besides OpenSSL's own data."""
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._library.SSL_SESSION_get0_ticket_appdata(session, ctypes.byref(data), ctypes.byref(size))
        return ctypes.string_at(data.value, size.value) if data.value and size.value else b""

    def disable_session_cache(self, context: ssl.SSLContext) -> None:
        """Keeps no sessions in memory; tickets do not need it."""
        self._library.SSL_CTX_ctrl(self._pointer(context), _SET_SESSION_CACHE, _NO_CACHE, None)

    def set_groups(self, context: ssl.SSLContext, groups: str) -> bool:
        """Sets the groups of key exchange, in order of preference; False for an unknown one."""
        return self._control(context, _SET_GROUPS, 0, groups.encode())

    def set_suites(self, context: ssl.SSLContext, suites: str) -> bool:
        """Sets the suites of TLS 1.3; False for an unknown one."""
        return bool(self._library.SSL_CTX_set_ciphersuites(self._pointer(context), suites.encode()) == 1)

    def request_unverified(self, context: ssl.SSLContext) -> None:
        """Requests a certificate of each client, and accepts any and none."""
        self._library.SSL_CTX_set_verify(self._pointer(context), _VERIFY_PEER, _ACCEPT_ANY)

    def name_client_cas(self, context: ssl.SSLContext, path: str) -> None:
        """Sends clients the names of the CAs in a file, so that they can choose a certificate."""
        names = self._library.SSL_load_client_CA_file(path.encode())
        if names:
            self._library.SSL_CTX_set_client_CA_list(self._pointer(context), names)

    def _control(self, context: ssl.SSLContext, command: int, number: int, data: bytes) -> bool:
        return bool(self._library.SSL_CTX_ctrl(self._pointer(context), command, number, data) == 1)


def _now() -> int:
    """Seconds since 1970."""
    return int(time.time())


@lru_cache(1)
def openssl() -> OpenSsl | None:
    """OpenSSL's functions; None if they cannot be used with this Python."""
    if sys.implementation.name != "cpython":
        return None
    try:
        import _ssl

        found = OpenSsl(ctypes.CDLL(getattr(_ssl, "__file__", None)), object.__basicsize__)
    except (ImportError, OSError, AttributeError):
        return None
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.options |= ssl.OP_NO_TICKET
    client.options |= ssl.OP_NO_RENEGOTIATION
    is_usable = found.agrees(server) and found.agrees(client) and server.options != client.options
    return found if is_usable and found.reaches(client) else None


#: The warning if there is none.
UNUSABLE: Final = (
    "this Python's OpenSSL cannot be configured in full: no session is resumed, and certificates of clients are not "
    "requested by require_client_cert without verify_client"
)
