"""The variant "state of the world": each response has all resources of the subscription, or, of some types, a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.control.xds.exchanges import Request
from pymosn.control.xds.pacing import Chance
from pymosn.control.xds.received import Received
from pymosn.control.xds.subscription import Subscription
from pymosn.control.xds.types import WILDCARD, WILDCARD_TYPES

_ALL: Final = (WILDCARD,)


class SotwSubscription(Subscription):
    """See `Subscription`.

    Clusters and listeners that a response does not have no longer exist; missing endpoints, routes and secrets mean nothing.
    """

    def __init__(self, type_url: str, chance: Chance, held: Mapping[str, str] | None = None) -> None:
        super().__init__(type_url, chance, held)
        # The names of the last request on this stream.
        self._sent: tuple[str, ...] = ()
        # The names that the server has certainly read: a request is ignored if a response is under way when it is sent.
        self._read: tuple[str, ...] = ()
        # Whether this stream has had a request with names; an empty list means "none" after it, and "all" before it.
        self._has_named = False
        # Names that were given up since the last request.
        self._dropped: set[str] = set()
        # Whether everything must be sent again, although names and version are the same.
        self._refetches = False

    def opened(self) -> None:
        super().opened()
        self._sent = self._read = ()
        self._has_named = False
        self._dropped.clear()

    def _changed(self, added: list[str], dropped: list[str]) -> None:
        if self.is_open:
            self._dropped.update(dropped)

    def _replaces(self, received: Received) -> bool:
        return self.type_url in WILDCARD_TYPES and not received.is_heartbeat and not received.has_nameless

    def _is_full(self, received: Received) -> bool:
        return self.type_url in WILDCARD_TYPES and not received.is_heartbeat and not received.has_nameless

    def _lost(self, names: list[str]) -> None:
        self._refetches = self._refetches or bool(names)

    def _names(self) -> tuple[str, ...] | None:
        """The names of a request; None if a request would mean something else than what is wanted."""
        if self.wanted.keys() == {WILDCARD}:
            return _ALL if self._has_named else ()
        if not self.wanted:
            # An empty list could mean all resources; so nothing is sent. The next request has names again.
            return () if self._has_named and self.type_url in WILDCARD_TYPES else None
        return tuple(sorted(self.wanted))

    def _request(self, now: float) -> Request | None:
        names = self._names()
        if not self.has_asked:
            if not self.wanted or names is None:
                return None
            # With its version, a server may assume that the client has everything that it names.
            return self._made(names, "" if self._refetches or self.is_missing_any() else self.version)
        if self.is_deciding:
            return None  # the answer will have the names; a request before it would be stale, or be taken for an ACK
        if names is None:
            self._answered()
            return None
        again = self._dropped & self.wanted.keys() & set(self._sent)
        is_due = self._answer is not None and self._answer.at <= now
        if not (is_due or names != self._sent or again or self._refetches):
            return None
        if self._answer is not None and self._answer.error:
            # istiod ignores the names of a rejection, so new ones have a request of their own.
            error = self._answer.error
            self._answered()
            self._sent = self._read
            return Request(self.type_url, self.nonce, error, self.version, self._read)
        # Names that were given up and are wanted again: a server sends them only if it sees both.
        if again and len(again) < len(names):
            return self._made(tuple(name for name in names if name not in again), self.version)
        # Without a response on this stream, the server may compare versions only, as for the first request.
        is_unsure = not self.nonce and self.is_missing_any()
        return self._made(names, "" if self._refetches or again or is_unsure else self.version)

    def _made(self, names: tuple[str, ...], version: str) -> Request:
        if self._answered() is not None or not self.has_asked:
            self._read = names
        self._dropped.clear()
        if not version:
            self._refetches = False
        self._sent = names
        self._has_named = self._has_named or bool(names)
        return Request(self.type_url, self.nonce, "", version, names)
