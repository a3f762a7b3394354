"""One type of resources on one client, as a pure machine: no I/O, and the time is an argument.

`want` changes what is subscribed; `opened` and `closed` say that a stream has begun or ended; `receive` takes a response.
The driver then calls `take` for the next update of the consumer and `decided` with its answer, and `next_request` until
there is nothing to send; both again at the times of `take_at` and `send_at`.

Responses that arrive while an update is being applied are merged, so only the newest nonce is ever answered. A nonce is
answered at most once, and never after its stream has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from pymosn.control.xds.exchanges import Request, Response, TypeStatus
from pymosn.control.xds.pacing import Chance, RejectionPacing
from pymosn.control.xds.received import Received, content_digest, joined
from pymosn.control.xds.types import WILDCARD, Rejected, Resource, Update

#: Maximum number of names that a view shows as waiting.
MAX_WAITING: Final = 100


class _Busy(NamedTuple):
    """An update that the consumer has not decided about yet. `received`: None for the end of a time limit."""

    update: Update
    received: Received | None
    stream: int


class Answer(NamedTuple):
    """The answer to the newest response. `at`: not before this time."""

    nonce: str
    error: str
    at: float


class Subscription:
    """The base of both variants. `held`: name -> version of what the consumer has, initially from a cache."""

    def __init__(self, type_url: str, chance: Chance, held: Mapping[str, str] | None = None) -> None:
        self.type_url = type_url
        self.held: dict[str, str] = dict(held or {})
        # Name -> initial_fetch_timeout in seconds.
        self.wanted: dict[str, float] = {}
        # Names that do not exist, or were not answered in time.
        self.absent: set[str] = set()
        self.version = ""
        self.nonce = ""
        self.is_open = False
        # Whether a request, or a response, was sent on this stream.
        self.has_asked = False
        self._has_received = False
        # Number of the stream.
        self._stream = 0
        self._pending: Received | None = None
        self._pending_stream = 0
        self._busy: _Busy | None = None
        self._answer: Answer | None = None
        # Faults of responses that were overtaken before they could be answered.
        self._carried: dict[str, str] = {}
        self._pacing = RejectionPacing(chance)
        # Name -> time at which it is given up, or removed.
        self._fetch_until: dict[str, float] = {}
        self._expires: dict[str, float] = {}
        self._timer: float | None = None
        self._timer_is_known = True
        self._acked_at: float | None = None
        self._nacked_at: float | None = None
        self.nack_reason = ""
        self._nacks_in_row = 0
        self.requests = self.responses = self.bytes = self.acks = self.nacks = 0
        self.coalesced = self.ignored = self.fetch_timeouts = self.expired = 0

    # ---- what is wanted

    @property
    def is_wildcard(self) -> bool:
        """Whether all resources of the type are subscribed."""
        return WILDCARD in self.wanted

    def covers(self, name: str) -> bool:
        """Whether a resource is subscribed."""
        return name in self.wanted or self.is_wildcard

    def want(self, names: Mapping[str, float], now: float) -> None:
        """Replaces the subscription. `names`: `*` for all; the values are the seconds of `initial_fetch_timeout`, 0: none.

        A name that is given up and wanted again is received again. What is held but not wanted is forgotten.
        """
        added = [name for name in names if name not in self.wanted]
        dropped = [name for name in self.wanted if name not in names]
        self.wanted = dict(names)
        for name in dropped:
            self.absent.discard(name)
            self._fetch_until.pop(name, None)
        if not self.is_wildcard:
            for name in [name for name in self.held if name not in names]:
                self._forget(name)
        for name in added:
            if names[name] > 0 and name not in self.held:
                self._fetch_until[name] = now + names[name]
        self._timer_is_known = False
        self._changed(added, dropped)

    def _changed(self, added: list[str], dropped: list[str]) -> None:
        """The subscription has changed."""
        raise NotImplementedError

    def is_missing_any(self) -> bool:
        """Whether something that is subscribed was neither received nor is known not to exist."""
        return any(name not in self.held and name not in self.absent for name in self.wanted if name != WILDCARD)

    # ---- the stream

    def opened(self) -> None:
        """A stream has begun."""
        self.is_open = True
        self._stream += 1
        self.nonce = ""
        self.has_asked = self._has_received = False
        self._answer = None
        self._carried.clear()

    def closed(self) -> None:
        """The stream has ended. What was received is still applied, but no longer answered."""
        self.is_open = False
        self._answer = None

    def receive(self, response: Response, now: float) -> None:
        """Takes a response of the open stream."""
        self.responses += 1
        self.bytes += response.size
        received = Received(response, not self._has_received)
        self._has_received = True
        self.nonce = response.nonce
        # If it was not sent yet, it is stale now. Its faults are in `_carried`.
        self._answer = None
        self._renew(received, now)
        if self._pending is not None:
            self.coalesced += 1
            if not self._replaces(received):
                received.absorb(self._pending)
        self._pending = received
        self._pending_stream = self._stream

    def _replaces(self, received: Received) -> bool:
        """Whether a response makes older ones that were not applied yet obsolete."""
        raise NotImplementedError

    def _renew(self, received: Received, now: float) -> None:
        """Ends the wait for what was answered, and renews the times to live."""
        if self._fetch_until:
            self._fetch_until.pop(WILDCARD, None)
            for name in (*received.entries, *received.faults, *received.removed):
                self._fetch_until.pop(name, None)
        for name, entry in received.entries.items():
            if entry.ttl is not None:
                self._expires[name] = now + entry.ttl
            else:
                self._expires.pop(name, None)
        self._timer_is_known = False

    # ---- applying

    def take(self, now: float) -> Update | None:
        """The next update of the consumer, to be followed by `decided`; None if there is none now."""
        while self._busy is None and self._pending is not None:
            received, self._pending = self._pending, None
            update = self._update(received)
            self._busy = _Busy(update, received, self._pending_stream)
            is_news = update.is_first or update.is_full or update.resources or update.removed or update.absent
            if is_news or update.faults:
                return update
            self.decided({}, now)
        ended = self._due(now) if self._busy is None else None
        if ended is not None:
            self._busy = _Busy(ended, None, self._stream)
        return ended

    def _update(self, received: Received) -> Update:
        resources: list[Resource] = []
        unchanged: list[str] = []
        for name, entry in received.entries.items():
            if not self.covers(name) or (entry.body is None and name not in self.held):
                self.ignored += 1
                self._expires.pop(name, None)
            elif entry.body is None:
                unchanged.append(name)
            else:
                resources.append(Resource(name, entry.version, entry.body, entry.ttl))
        is_full = self._is_full(received)
        gone = [name for name in received.removed if self.covers(name)]
        removed = [name for name in gone if name in self.held]
        absent = [name for name in gone if name in self.wanted]
        if is_full:
            exists = received.entries.keys() | received.faults.keys()
            removed = [name for name in self.held if name not in exists]
            absent = [name for name in self.wanted if name != WILDCARD and name not in exists]
        faults = {name: fault for name, fault in received.faults.items() if received.has_nameless or self.covers(name)}
        return Update(
            self.type_url,
            received.version,
            resources,
            tuple(removed),
            is_full,
            tuple(absent),
            faults,
            tuple(unchanged) if is_full else (),
            received.is_first,
        )

    def _is_full(self, received: Received) -> bool:
        """Whether everything else of the type does not exist."""
        raise NotImplementedError

    def decided(self, rejected: Rejected, now: float) -> None:
        """The consumer has applied the update, but what is `rejected`. Prepares the answer."""
        busy = self._busy
        assert busy is not None, "no update was taken"
        self._busy = None
        update = busy.update
        for resource in update.resources:
            if resource.name not in rejected and self.covers(resource.name):
                self.held[resource.name] = resource.version
                self.absent.discard(resource.name)
        for name in update.removed:
            if name not in rejected:
                self._forget(name)
        for name in update.absent:
            if name in self.wanted:
                self.absent.add(name)
                self._fetch_until.pop(name, None)
                self._timer_is_known = False
        if busy.received is None:
            return
        faults = {**update.faults, **rejected}
        if busy.stream != self._stream or not self.is_open:
            if not faults:
                self.version = update.version
            return
        seen = busy.received.entries.keys() | busy.received.removed.keys()
        self._carried = {} if update.is_full else {n: f for n, f in self._carried.items() if n not in seen}
        self._carried.update(faults)
        if self._pending is not None:
            if not faults:
                self.version = update.version
            return  # its nonce is stale
        self._decide(update, now)

    def _decide(self, update: Update, now: float) -> None:
        if not self._carried:
            self.version = update.version
            self.acks += 1
            self._acked_at = now
            self._nacks_in_row = 0
            self._pacing.reset()
            self._answer = Answer(self.nonce, "", now)
            return
        self._reject(now, self._pacing.delay(content_digest(update, self._carried)))

    def _reject(self, now: float, delay: float) -> None:
        """Prepares the NACK of the newest response."""
        error = joined(self._carried)
        self.nacks += 1
        self._nacks_in_row = self._nacks_in_row + 1
        self._nacked_at = now
        self.nack_reason = error
        self._answer = Answer(self.nonce, error, now + delay)

    def reject_late(self, faults: Rejected, now: float) -> bool:
        """Resources that were accepted have turned out to be unusable; false if this concerns nothing that is subscribed.

        The newest response is answered a second time, by a NACK, as requests with its nonce may be sent at any time. If
        another response is being decided, its answer will have the faults.
        """
        mine = {name: fault for name, fault in faults.items() if self.covers(name)}
        if not mine or not self.is_open or not self.nonce:
            return False
        self._carried.update(mine)
        if not self.is_deciding:
            self._reject(now, 0.0)
        return True

    def _forget(self, name: str) -> None:
        self.held.pop(name, None)
        self._expires.pop(name, None)
        self._timer_is_known = False

    # ---- time

    def send_at(self) -> float | None:
        """The time from which `next_request` has the answer to a response; None: not before another event."""
        return self._answer.at if self._answer is not None and self.is_open else None

    def take_at(self) -> float | None:
        """The next time at which `take` may have an update; None: not before another event."""
        if not self._timer_is_known:
            times = [*self._fetch_until.values(), *self._expires.values()]
            self._timer = min(times, default=None)
            self._timer_is_known = True
        return min((time for time in (self._timer, self._other_timer()) if time is not None), default=None)

    def _other_timer(self) -> float | None:
        """A deadline of the variant."""
        return None

    def _due(self, now: float) -> Update | None:
        """What time limits have ended."""
        due = self.take_at()
        if due is None or due > now:
            return None
        late = [name for name, until in self._fetch_until.items() if until <= now]
        expired = [name for name, until in self._expires.items() if until <= now]
        for name in late:
            del self._fetch_until[name]
        self.fetch_timeouts += len(late)
        removed = [name for name in expired if name in self.held]
        for name in expired:
            self._forget(name)
        self.expired += len(removed)
        self._timer_is_known = False
        self._lost(removed)
        removed += self._unconfirmed(now)
        if not late and not removed:
            return None
        return Update(self.type_url, self.version, [], tuple(removed), absent=tuple(late))

    def _lost(self, names: list[str]) -> None:
        """Resources have expired; asks for them again."""
        raise NotImplementedError

    def _unconfirmed(self, now: float) -> list[str]:
        """Names that a server no longer has, although it did not say so."""
        return []

    # ---- requests

    def next_request(self, now: float) -> Request | None:
        """The next request to send; None if there is none now."""
        request = self._request(now) if self.is_open else None
        if request is not None:
            self.requests += 1
            self.has_asked = True
        return request

    def _request(self, now: float) -> Request | None:
        raise NotImplementedError

    def _answered(self) -> Answer | None:
        """The answer, which is about to be sent."""
        answer, self._answer = self._answer, None
        self._carried = {}
        return answer

    @property
    def is_deciding(self) -> bool:
        """Whether a response of this stream was received but not decided yet."""
        return self._pending is not None or (self._busy is not None and self._busy.received is not None)

    # ---- view

    def status(self, now: float) -> TypeStatus:
        """The state for the admin API."""
        waiting = [name for name in self.wanted if name != WILDCARD and name not in self.held and name not in self.absent]
        return TypeStatus(
            type_url=self.type_url,
            version=self.version,
            nonce=self.nonce,
            wanted=len(self.wanted),
            is_wildcard=self.is_wildcard,
            held=len(self.held),
            waiting=tuple(waiting[:MAX_WAITING]),
            ack_age=None if self._acked_at is None else now - self._acked_at,
            nack_age=None if self._nacked_at is None else now - self._nacked_at,
            nack_reason=self.nack_reason,
            nacks_in_row=self._nacks_in_row,
            requests=self.requests,
            responses=self.responses,
            bytes=self.bytes,
            acks=self.acks,
            nacks=self.nacks,
            coalesced=self.coalesced,
            ignored=self.ignored,
            fetch_timeouts=self.fetch_timeouts,
            expired=self.expired,
        )
