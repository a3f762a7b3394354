"""HTTP/1 as a `ProtocolSpec`."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO, YES, ProtocolSpec
from pymosn.core.headers import is_token

_METHODS: Final = [b"%b " % name for name in b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT LINK UNLINK".split()]
#: The other methods of IANA's registry (mostly of WebDAV), of UPnP, and of caches.
_FURTHER: Final = [
    b"%b " % name
    for name in b"""
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE
    MOVE ORDERPATCH PROPFIND PROPPATCH QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLOCK UPDATE UPDATEREDIRECTREF
    VERSION-CONTROL M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE
    """.split()
]
#: Bytes of a method that is not registered.
_LONGEST: Final[i64] = 32


class Http1Spec(ProtocolSpec):
    """Recognises HTTP/1 by its method, as MOSN does (key reference section 5)."""

    def __init__(self) -> None:
        super().__init__("Http1", "http/1.1", False, "http")

    def match(self, data: bytes) -> i64:
        return _match(data, _METHODS)


def _match(data: bytes, methods: list[bytes]) -> i64:
    """`methods`: each with the space after it."""
    for start in methods:
        if data.startswith(start):
            return YES
        if start.startswith(data):
            return MORE
    return NO


def match_registered(data: bytes) -> i64:
    """YES if `data` begins with any registered method and a space; MORE if that may still be."""
    answer = _match(data, _METHODS)
    return _match(data, _FURTHER) if answer == NO else answer


def match_any_method(data: bytes) -> i64:
    """YES if `data`, of which there is some, begins with any method, registered or not, and a space; MORE or NO."""
    end: i64 = data.find(b" ", 0, _LONGEST + 1)
    if end < 0:
        return MORE if len(data) <= _LONGEST and is_token(data) else NO
    return YES if is_token(data[:end]) else NO
