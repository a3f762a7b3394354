"""The responses of a response cache in one worker's memory, least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pymosn.core.headers import Headers
from pymosn.filters.stream.cache_directives import Policy

#: Approximate bytes of the objects of a key, and of a response, in addition to its head and body.
KEY_WEIGHT: Final = 600
ENTRY_WEIGHT: Final = 1500

#: The values of one request header, as sent by the client and as left by filters.
Values = tuple[bytes | None, bytes | None]
Vary = tuple[tuple[str, Values], ...]


class Entry:
    """A stored response.

    `vary`: the request fields in its Vary, with the values that it was made for. `made`: monotonic time of its receipt.
    """

    def __init__(self, status: int, headers: Headers, body: bytes, vary: Vary, policy: Policy, made: float) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.vary = vary
        self.policy = policy
        self.made = made

    def age(self, now: float) -> float:
        """Seconds since the origin made or validated it (RFC 9111 section 4.2.3)."""
        return self.policy.age + max(0.0, now - self.made)

    def staleness(self, now: float) -> float:
        """Seconds since it became stale; negative while it is fresh."""
        return self.age(now) - self.policy.lifetime

    def is_fresh(self, now: float) -> bool:
        """Whether it may be used without the upstream."""
        return self.staleness(now) < 0.0

    def has_validator(self) -> bool:
        """Whether the upstream can be asked whether it is still valid."""
        return "etag" in self.headers or "last-modified" in self.headers

    def is_useful(self, now: float) -> bool:
        """Whether there is a way in which it can still be used, now or later."""
        policy = self.policy
        if self.is_fresh(now) or self.has_validator():
            return True
        return not policy.never_stale and self.staleness(now) < max(policy.while_revalidate, policy.if_error)

    def weight(self) -> int:
        """Approximate bytes of memory."""
        vary = sum(len(name) + len(sent or b"") + len(current or b"") for name, (sent, current) in self.vary)
        return len(self.body) + int(self.headers.wire_size()) + vary + ENTRY_WEIGHT


class Slot:
    """All responses with one key, the newest last. `pass_until`: responses are not expected to be storable before."""

    def __init__(self, target: bytes) -> None:
        self.target = target
        self.entries: list[Entry] = []
        self.pass_until = 0.0
        self.weight = KEY_WEIGHT


class Store:
    """Slots by key, and keys by target: at most `max_bytes`, including responses that are being received."""

    def __init__(self, max_bytes: int, max_variants: int) -> None:
        self._max_bytes = max_bytes
        self._max_variants = max_variants
        self._slots: OrderedDict[bytes, Slot] = OrderedDict()
        self._by_target: dict[bytes, set[bytes]] = {}
        self._stored = 0
        self._arriving = 0
        #: Responses that were removed to make room.
        self.evicted = 0

    def __len__(self) -> int:
        return sum(len(slot.entries) for slot in self._slots.values())

    @property
    def size(self) -> int:
        """Approximate bytes of memory."""
        return self._stored + self._arriving

    # ---- lookups

    def entries(self, key: bytes) -> list[Entry]:
        """The responses with a key, the newest first."""
        slot = self._slots.get(key)
        if slot is None:
            return []
        self._slots.move_to_end(key)
        return slot.entries[::-1]

    def is_passed(self, key: bytes, now: float) -> bool:
        """Whether requests with this key should not wait for each other."""
        slot = self._slots.get(key)
        return slot is not None and now < slot.pass_until

    # ---- changes

    def add(self, key: bytes, target: bytes, entry: Entry) -> None:
        """Stores a response instead of the one for the same request fields. The oldest of too many variants is removed."""
        slot = self._slot(key, target)
        slot.pass_until = 0.0
        others = [old for old in slot.entries if old.vary != entry.vary]
        room = self._max_variants - 1
        self.evicted += max(0, len(others) - room)
        slot.entries = [*(others[-room:] if room > 0 else []), entry]
        self._weigh(slot)
        self._make_room(0)

    def remove(self, key: bytes, entry: Entry) -> None:
        """Removes a response, if it is still there."""
        slot = self._slots.get(key)
        if slot is not None and entry in slot.entries:
            slot.entries.remove(entry)
            self._weigh(slot)
            if not slot.entries and slot.pass_until == 0.0:
                self._drop(key)

    def pass_by(self, key: bytes, target: bytes, until: float) -> None:
        """Requests with this key do not wait for each other until a time."""
        self._slot(key, target).pass_until = until
        self._make_room(0)

    def invalidate(self, target: bytes) -> None:
        """Removes all responses of a target."""
        for key in list(self._by_target.get(target, ())):
            self._drop(key)

    def reserve(self, size: int) -> bool:
        """Makes room for `size` bytes of a response that is being received; returns False if there is none."""
        if not self._make_room(size):
            return False
        self._arriving += size
        return True

    def release(self, size: int) -> None:
        """Gives back what `reserve` granted."""
        self._arriving -= size

    def _slot(self, key: bytes, target: bytes) -> Slot:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = Slot(target)
            self._stored += slot.weight
            self._by_target.setdefault(target, set()).add(key)
        self._slots.move_to_end(key)
        return slot

    def _weigh(self, slot: Slot) -> None:
        weight = KEY_WEIGHT + sum(entry.weight() for entry in slot.entries)
        self._stored += weight - slot.weight
        slot.weight = weight

    def _make_room(self, size: int) -> bool:
        while self._stored + self._arriving + size > self._max_bytes and self._slots:
            key = next(iter(self._slots))
            self.evicted += len(self._slots[key].entries)
            self._drop(key)
        return self._stored + self._arriving + size <= self._max_bytes

    def _drop(self, key: bytes) -> None:
        slot = self._slots.pop(key)
        self._stored -= slot.weight
        keys = self._by_target[slot.target]
        keys.discard(key)
        if not keys:
            del self._by_target[slot.target]
