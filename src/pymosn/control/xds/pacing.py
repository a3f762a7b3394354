"""Pauses: before a client connects or rejects the same content again, and before a change is activated. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Seconds: the maximum of the first pause between two connections, and of all.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
#: Seconds: the pause before the second rejection of the same content; doubled by each further one up to the maximum.
FIRST_REJECTION: Final = 0.1
LONGEST_REJECTION: Final = 10.0
#: Different contents that are remembered; beyond that every rejection is delayed.
MAX_CONTENTS: Final = 16

#: Seconds for collecting what arrives into one change; also between two changes.
PAUSE: Final = 0.1
#: The same for other content of what is known already, if the last change was a while ago: usually, nothing follows it.
SHORT_PAUSE: Final = 0.005

#: A random number from 0 to 1.
Chance = Callable[[], float]


class Backoff:
    """Pauses between attempts to connect, with full jitter, so that many clients do not connect in lock step."""

    def __init__(self, chance: Chance, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> None:
        self._chance = chance
        self._first = first
        self._longest = longest
        self._steps = 0

    def next(self, is_failure: bool = True) -> float:
        """Seconds until the next attempt. A failure doubles the maximum of the pause after it."""
        pause = self._chance() * min(self._first * 2.0 ** min(self._steps, 30), self._longest)
        if is_failure:
            self._steps += 1
        return pause

    def reset(self) -> None:
        """A response was accepted; a mere connection is not enough."""
        self._steps = 0


class RejectionPacing:
    """Delays the rejections of one type.

    Some control planes send a rejected response again at once, so that both sides would spin. The first rejection of some
    content is immediate. Content counts as known until a response is accepted, so that alternating contents are delayed too.
    """

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._seen: set[bytes] = set()
        # Rejections of known content in a row.
        self._repeats = 0

    def delay(self, digest: bytes) -> float:
        """Seconds to wait before content with this digest is rejected."""
        if digest not in self._seen and len(self._seen) < MAX_CONTENTS:
            self._seen.add(digest)
            return 0.0
        pause = min(FIRST_REJECTION * 2.0 ** min(self._repeats, 30), LONGEST_REJECTION)
        self._repeats += 1
        # Between three quarters and all of it, so that clients do not answer at the same time.
        return pause * (1.0 - self._chance() / 4.0)

    def reset(self) -> None:
        """A response was accepted."""
        self._seen.clear()
        self._repeats = 0


def pause_before_change(pause: float, since_last: float, is_known: bool) -> float:
    """Seconds from an update to its change. `pause`: PAUSE, in general. `since_last`: seconds since the end of the last one.

    `is_known`: nothing has been added or removed.
    """
    return max(min(SHORT_PAUSE, pause), pause - since_last) if is_known else pause
