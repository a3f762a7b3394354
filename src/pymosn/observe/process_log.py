"""The process log in MOSN's line format (key reference section 2.1)."""

from __future__ import annotations

from typing import Final

from pymosn.core.clock import Clock
from pymosn.core.log import DEBUG, ERROR, FATAL, INFO, OFF, TRACE, WARN, Log
from pymosn.core.redaction import KnownSecrets
from pymosn.observe.destination import Destination
from pymosn.observe.text import TimeStamps, one_line

LEVELS: Final = {"TRACE": TRACE, "DEBUG": DEBUG, "INFO": INFO, "WARN": WARN, "ERROR": ERROR, "FATAL": FATAL}
#: Level names of `--log-level` (key reference section 16).
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
    """The level of a name in MOSN ("INFO"). Raises ValueError if it is unknown."""
    level = LEVELS.get(name)
    if level is None:
        raise ValueError(f"unknown log level {name!r}; expected one of {' '.join(LEVELS)}")
    return level


class ProcessLog(Log):
    """Lines `YYYY-MM-DD hh:mm:ss,mmm [LEVEL] [alert] text` in local time; each entry is one line, whatever its text.

    Secrets are removed from the text: those that `redacted_text` finds, and those passed to `hide`.
    """

    def __init__(self, destination: Destination, clock: Clock, level: int, ceiling: int = TRACE) -> None:
        """`ceiling`: minimum level, which `set_level` cannot lower."""
        super().__init__()
        self._destination = destination
        self._clock = clock
        self._ceiling = ceiling
        self._configured = level
        self._enabled = True
        self._secrets = KnownSecrets()
        self._stamps = TimeStamps("%Y-%m-%d %H:%M:%S", ",")
        self._update()

    @property
    def configured_level(self) -> int:
        """The level while the log is enabled."""
        return max(self._configured, self._ceiling)

    def set_level(self, level: int) -> None:
        """Changes the level at run time."""
        self._configured = level
        self._update()

    def switch(self, enabled: bool) -> None:
        """Enables or disables the log; its level is kept."""
        self._enabled = enabled
        self._update()

    def hide(self, secret: object) -> None:
        self._secrets.add(secret)

    def without_secrets(self, text: str) -> str:
        """A text as a line would have it."""
        return self._secrets.hide(text)

    def write(self, level: int, text: str, alert: str = "") -> None:
        if level < self.level:
            return
        stamp = self._stamps.text(self._clock.wall())
        tag = f"[{alert}] " if alert else ""
        self._destination.write(f"{stamp} [{NAMES.get(level, level)}] {tag}{one_line(self._secrets.hide(text))}", level)

    def _update(self) -> None:
        self.level = self.configured_level if self._enabled else OFF
