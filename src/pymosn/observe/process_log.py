"""The process log in MOSN's line format (key reference section 2.1)."""

from __future__ import annotations

from typing import Final

from pymosn.core.clock import Clock
from pymosn.core.log import DEBUG, ERROR, FATAL, INFO, OFF, TRACE, WARN, Log
from pymosn.observe.destination import Destination
from pymosn.observe.text import TimeStamps, one_line

LEVELS: Final = {"TRACE": TRACE, "DEBUG": DEBUG, "INFO": INFO, "WARN": WARN, "ERROR": ERROR, "FATAL": FATAL}
#: What the command line's `--log-level` says instead (key reference section 16).
CEILINGS: Final = {
    "trace": TRACE,
    "debug": DEBUG,
    "info": INFO,
    "warning": WARN,
    "error": ERROR,
    "critical": FATAL,
    "off": OFF,
}
NAMES: Final = {level: name for name, level in LEVELS.items()} | {OFF: "OFF"}


def level_of(name: str) -> int:
    """The level that MOSN calls `name` ("INFO"). ValueError when there is none."""
    level = LEVELS.get(name)
    if level is None:
        raise ValueError(f"unknown log level {name!r}; one of {' '.join(LEVELS)}")
    return level


class ProcessLog(Log):
    """Lines `YYYY-MM-DD hh:mm:ss,mmm [LEVEL] [alert] text` in local time; one line per entry, whatever the text holds."""

    def __init__(self, destination: Destination, clock: Clock, level: int, ceiling: int = TRACE) -> None:
        """`ceiling`: the most talkative level that `set_level` can bring about."""
        super().__init__()
        self._destination = destination
        self._clock = clock
        self._ceiling = ceiling
        self._wanted = level
        self._enabled = True
        self._stamps = TimeStamps("%Y-%m-%d %H:%M:%S", ",")
        self._settle()

    @property
    def wanted_level(self) -> int:
        """The level when the log is switched on."""
        return max(self._wanted, self._ceiling)

    def set_level(self, level: int) -> None:
        """Changes the level at run time."""
        self._wanted = level
        self._settle()

    def switch(self, enabled: bool) -> None:
        """Switches the log on or off without forgetting its level."""
        self._enabled = enabled
        self._settle()

    def write(self, level: int, text: str, alert: str = "") -> None:
        if level < self.level:
            return
        stamp = self._stamps.text(self._clock.wall())
        place = f"[{alert}] " if alert else ""
        self._destination.write(f"{stamp} [{NAMES.get(level, level)}] {place}{one_line(text)}", level)

    def _settle(self) -> None:
        self.level = self.wanted_level if self._enabled else OFF
