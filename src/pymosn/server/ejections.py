"""The hosts that each worker has ejected, kept for the worker that replaces it and for the next generation.

A worker decides about ejections alone (`upstream/ejection.py`), and so they are kept for each one. If the next generation
has another number of workers, they are spread over these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from pymosn.core.clock import Clock
from pymosn.server.messages import SetEjections
from pymosn.upstream.ejection import Ejection


class CarriedEjection(msgspec.Struct, array_like=True, frozen=True):
    """See `Ejection`."""

    cluster: str
    address: str
    seconds: float
    times: int
    since: float = 0.0
    cause: str = ""


_CONTENT: Final = msgspec.msgpack.Decoder(list[list[CarriedEjection]])


class KnownEjections:
    """The ejections of the workers 1 to `size`, as they were last reported."""

    def __init__(self, size: int, clock: Clock, send: Callable[[int, SetEjections], None]) -> None:
        """`send`: to the worker with that id, if it runs."""
        self._size = size
        self._clock = clock
        self._send = send
        # When a worker reported them, and what.
        self._known: dict[int, tuple[float, list[Ejection]]] = {}
        # The same by cluster and address.
        self._by_host: dict[int, dict[tuple[str, str], Ejection]] = {}

    def note(self, worker_id: int, ejections: list[Ejection]) -> None:
        """A worker has reported all of its recent ejections."""
        self._known[worker_id] = self._clock.tick(), ejections
        self._by_host[worker_id] = {ejection[:2]: ejection for ejection in ejections}

    def commands(self, worker_id: int) -> list[SetEjections]:
        """What a new worker with this id gets before it serves."""
        found = self._of(worker_id)
        return [SetEjections(found)] if found else []

    def export(self) -> bytes | None:
        """The ejections of all workers in the order of their ids, for the next generation; None if there are none."""
        found = [self._of(worker_id) for worker_id in range(1, self._size + 1)]
        return msgspec.msgpack.encode(found) if any(found) else None

    def adopt(self, content: bytes) -> None:
        """Makes the workers continue the ejections of the generation before."""
        old = [
            [(e.cluster, e.address, e.seconds, e.times, e.since, e.cause) for e in some] for some in _CONTENT.decode(content)
        ]
        for index in range(self._size if old else 0):
            # With fewer workers now, one continues those of several.
            found = {e[:2]: e for i in {index % len(old), *range(index, len(old), self._size)} for e in old[i]}
            worker_id = index + 1
            self.note(worker_id, list(found.values()))
            for command in self.commands(worker_id):
                self._send(worker_id, command)

    def text(self, cluster: str, address: str) -> str:
        """Why workers do not use a host, and for how long: `consecutive errors, 25 s left`. Empty if none reported it."""
        found: dict[str, float] = {}
        now = self._clock.tick()
        for worker_id, (reported, _) in self._known.items():
            ejection = self._by_host[worker_id].get((cluster, address))
            left = 0.0 if ejection is None else ejection[2] - (now - reported)
            if ejection is not None and left > 0.0:
                cause = ejection[5] or "failed requests"
                found[cause] = max(found.get(cause, 0.0), left)
        return "; ".join(f"{cause}, {left:.0f} s left" for cause, left in found.items())

    def _of(self, worker_id: int) -> list[Ejection]:
        reported, ejections = self._known.get(worker_id, (0.0, []))
        passed = self._clock.tick() - reported
        return [
            (cluster, address, max(0.0, seconds - passed), times, since + max(0.0, passed - seconds), cause)
            for cluster, address, seconds, times, since, cause in ejections
        ]
