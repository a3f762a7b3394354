"""What the connection filters of one connection share: an exchange without a request, for conditions and their results."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from pymosn.api.connection_filter import FilteredConnection
from pymosn.api.exchange import Exchange

_SESSION: Final[ContextVar[Exchange | None]] = ContextVar("session of a connection", default=None)


def session_of(connection: FilteredConnection) -> Exchange:
    """The exchange of a connection, whose dynamic metadata all of its filters see."""
    found = _SESSION.get()
    if found is None:
        found = Exchange(connection)
        _SESSION.set(found)
    return found
