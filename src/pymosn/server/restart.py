"""When a worker that died is started again."""

from typing import Final

#: A worker that served for so many seconds before it died is replaced at once.
STABLE_TIME: Final = 5.0
#: Seconds to wait before the second try in a row; doubled for each further one, up to LONGEST_DELAY.
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0


class RestartPolicy:
    """Decides for one worker: at once the first time, more and more slowly while it keeps dying soon after its start."""

    def __init__(self) -> None:
        self._early_deaths = 0

    def delay(self, served_seconds: float) -> float:
        """Seconds to wait before the next start, for a worker that died after serving so long (0: never ready)."""
        if served_seconds >= STABLE_TIME:
            self._early_deaths = 0
        self._early_deaths += 1
        if self._early_deaths == 1:
            return 0.0
        # The exponent is bounded so that a worker dying for days cannot overflow a float.
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._early_deaths - 2, 16))
