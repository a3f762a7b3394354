"""The variant "delta": responses have what has changed, and what was removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.control.xds.exchanges import Entry, Request, Response
from pymosn.control.xds.pacing import Chance
from pymosn.control.xds.received import Received
from pymosn.control.xds.subscription import Subscription
from pymosn.control.xds.types import WILDCARD

#: Seconds after the first response of a new stream, in which a server that sends everything again confirms what exists.
CONFIRM_TIME: Final = 5.0


class DeltaSubscription(Subscription):
    """See `Subscription`. A new stream begins with the versions of everything that the consumer has."""

    def __init__(self, type_url: str, chance: Chance, held: Mapping[str, str] | None = None) -> None:
        super().__init__(type_url, chance, held)
        self._subscribe: dict[str, None] = {}
        self._unsubscribe: dict[str, None] = {}
        # The versions that the first request of this stream declared.
        self._declared: dict[str, str] = {}
        self._unconfirmed_names: set[str] = set()
        self._confirm_until: float | None = None

    def opened(self) -> None:
        super().opened()
        self._subscribe.clear()
        self._unsubscribe.clear()
        self._declared = {}
        self._confirm_until = None

    def closed(self) -> None:
        super().closed()
        self._confirm_until = None

    def _changed(self, added: list[str], dropped: list[str]) -> None:
        if not self.has_asked or not self.is_open:
            return
        for name in dropped:
            if name in self._subscribe and name not in self._unsubscribe:
                del self._subscribe[name]
            else:
                self._subscribe.pop(name, None)
                self._unsubscribe[name] = None
        for name in added:
            self._subscribe[name] = None

    def _replaces(self, received: Received) -> bool:
        return False

    def _is_full(self, received: Received) -> bool:
        return False

    def _lost(self, names: list[str]) -> None:
        # A server sends again what is subscribed again. A wildcard cannot be, without naming the resource.
        for name in names:
            if name in self.wanted and self.has_asked and self.is_open:
                self._subscribe[name] = None

    def receive(self, response: Response, now: float) -> None:
        is_first = not self._has_received
        super().receive(response, now)
        if is_first and self.is_wildcard and any(self._is_resent(entry) for entry in response.entries):
            # The server does not compare versions, so it may not list what was removed meanwhile either.
            self._unconfirmed_names = set(self._declared)
            self._confirm_until = now + CONFIRM_TIME
        if self._confirm_until is not None:
            self._unconfirmed_names.difference_update(entry.name for entry in response.entries)

    def _is_resent(self, entry: Entry) -> bool:
        return entry.body is not None and self._declared.get(entry.name) == entry.version

    def _other_timer(self) -> float | None:
        return self._confirm_until

    def _unconfirmed(self, now: float) -> list[str]:
        if self._confirm_until is None or self._confirm_until > now:
            return []
        self._confirm_until = None
        return [name for name in self.held if name in self._unconfirmed_names]

    def _request(self, now: float) -> Request | None:
        if not self.has_asked:
            if not self.wanted:
                return None
            self._declared = dict(self.held)
            names = () if self.wanted.keys() == {WILDCARD} else tuple(sorted(self.wanted))
            return Request(self.type_url, subscribe=names, versions=self._declared)
        is_due = self._answer is not None and self._answer.at <= now
        if not is_due and not self._subscribe and not self._unsubscribe:
            return None
        answer = self._answered() if is_due else None
        if answer is not None and answer.error:
            # By itself: istiod ignores the names of a rejection.
            return Request(self.type_url, answer.nonce, answer.error)
        unsubscribe = tuple(sorted(self._unsubscribe))
        # What is given up and wanted again takes two requests.
        subscribe = () if self._subscribe.keys() & self._unsubscribe.keys() else tuple(sorted(self._subscribe))
        self._unsubscribe.clear()
        if subscribe:
            self._subscribe.clear()
        nonce = answer.nonce if answer is not None else ""
        return Request(self.type_url, nonce, subscribe=subscribe, unsubscribe=unsubscribe)
