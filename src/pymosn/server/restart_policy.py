"""How soon a worker that has died is started again."""

from typing import Final

#: A worker that served for at least so many seconds before it died is replaced immediately.
STABLE_TIME: Final = 5.0
#: Seconds before the second consecutive attempt; doubled for each further one, up to LONGEST_DELAY.
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0


class RestartPolicy:
    """Back-off for one worker: immediate the first time, then with growing delays while it dies soon after its start."""

    def __init__(self) -> None:
        self._early_deaths = 0

    def delay(self, served_seconds: float) -> float:
        """Seconds to wait before the next start of a worker that served for `served_seconds` (0: never ready)."""
        if served_seconds >= STABLE_TIME:
            self._early_deaths = 0
        self._early_deaths += 1
        if self._early_deaths == 1:
            return 0.0
        # The exponent is bounded so that a worker dying for days cannot overflow a float.
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._early_deaths - 2, 16))
