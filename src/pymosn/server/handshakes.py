"""The last failed handshakes of each listener, of all workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from pymosn.control.plane import HandshakeView

#: Failures that are kept for each listener, and the number of listeners with failures.
KEPT: Final = 5
LISTENERS: Final = 10_000

#: Listener, seconds since 1970, IP address of the client, the word of the failure, details.
Failure = tuple[str, float, str, str, str]


class Handshakes:
    """Keeps the last ones."""

    def __init__(self) -> None:
        self._by_listener: dict[str, deque[Failure]] = {}

    def add(self, failures: Iterable[Failure]) -> None:
        """Adds what a worker reports."""
        for failure in failures:
            if failure[0] not in self._by_listener and len(self._by_listener) >= LISTENERS:
                del self._by_listener[next(iter(self._by_listener))]
            kept = self._by_listener.setdefault(failure[0], deque(maxlen=KEPT))
            kept.append(failure)

    def of(self, listener: str) -> list[HandshakeView]:
        """Those of a listener, the newest first."""
        found = sorted(self._by_listener.get(listener, ()), key=lambda failure: failure[1], reverse=True)
        return [{"time": at, "client": client, "reason": why, "detail": more} for _, at, client, why, more in found]
