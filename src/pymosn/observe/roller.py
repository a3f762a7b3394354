"""Rotation of log files, and the retention of old ones (key reference section 2.1).

Several processes append to one file; one of them rotates it and makes the others reopen theirs.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import time
from pathlib import Path
from typing import Final, NamedTuple

HOUR: Final = 3600
DAY: Final = 86400

#: Hours of `time`, at most.
MOST_HOURS: Final = 24
#: Megabytes of a file: by default, and with `size=0`, as in MOSN.
DEFAULT_SIZE: Final = 1000
LEAST_SIZE: Final = 100

_EFFECTS: Final = {
    "time": "files are rotated by size, as in MOSN",
    "size": f"files are rotated at {LEAST_SIZE} MB, as in MOSN with 0; with a negative size MOSN logs nothing",
    "age": "old files are kept whatever their age is, as in MOSN",
    "keep": "all old files are kept, as in MOSN",
}

_NAME_END: Final = r"\.\d{4}-\d\d-\d\d(_\d\d)?(\.\d+)?(\.gz)?"


class Policy(NamedTuple):
    """When to rotate and what to keep; 0 disables a rule.

    `hours`: a new file at each multiple of it since local midnight. `size`: a new file beyond that many bytes. Old files are
    kept for `age` days, but at most `keep` of them; `compress`: with gzip.
    """

    hours: int = 0
    size: int = 0
    age: int = 0
    keep: int = 0
    compress: bool = False

    def is_due(self, size: int, begun: float, now: float) -> bool:
        """Whether a file of `size` bytes whose first line was written at `begun` must be rotated. Times since 1970."""
        if self.size:
            return size > self.size
        return size > 0 and self.hours > 0 and period_start(begun, self.hours) < period_start(now, self.hours)


class _Items:
    """The items of a roller's text, read as MOSN reads them; `oddities`: what is probably a mistake, with its effect."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for what MOSN refuses: an unknown item, and an invalid value in the last one."""
        self.numbers: dict[str, int] = {}
        self.compress = False
        self.oddities: list[str] = []
        words = text.split()
        seen: set[str] = set()
        for i, word in enumerate(words):
            key, mark, value = word.partition("=")
            if key not in ("time", "size", "age", "keep", "compress") or not mark:
                raise ValueError(
                    f"log roller: invalid item {word!r}; expected time=HOURS size=MB age=DAYS keep=FILES compress=on|off"
                )
            if key in seen:
                self.oddities.append(f"duplicate {key}: the last one holds, as in MOSN")
            seen.add(key)
            try:
                self._take(key, value)
            except ValueError as error:
                if i == len(words) - 1:
                    raise ValueError(f"log roller: {error}") from None
                self.oddities.append(f"{error}; ignored, as in MOSN")

    def _take(self, key: str, value: str) -> None:
        if key == "compress":
            if value not in ("on", "off"):
                raise ValueError(f"compress must be on or off, got {value!r}")
            self.compress = value == "on"
            return
        digits = value[1:] if value[:1] in ("+", "-") else value
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 9:
            raise ValueError(f"{key} must be an integer, got {value!r}")
        number = int(value)
        if key == "time" and number > MOST_HOURS:
            self.oddities.append(f"time is at most {MOST_HOURS} hours, got {number}; {MOST_HOURS} is used, as in MOSN")
            number = MOST_HOURS
        elif number <= 0:
            self.oddities.append(f"{key} is not positive: {_EFFECTS[key]}")
            number = 0
        self.numbers[key] = number


def parse_roller(text: str) -> Policy:
    """Parses `global_log_roller`; an empty text means a new file each day.

    MOSN's keys are `time` (hours), `size` (MB), `age` (days), `keep` (files), `compress`. Raises ValueError for others.
    """
    if not text.split():
        return Policy(hours=24)
    items = _Items(text)
    numbers = items.numbers
    if numbers.get("time"):
        return Policy(hours=numbers["time"])
    megabytes = numbers.get("size", DEFAULT_SIZE) or LEAST_SIZE
    return Policy(0, megabytes * 1024 * 1024, numbers.get("age", 7), numbers.get("keep", 10), items.compress)


def roller_oddities(text: str) -> list[str]:
    """What in a valid text is probably a mistake, with its effect."""
    return _Items(text).oddities if text.split() else []


def period_start(moment: float, hours: int) -> float:
    """The start of the period containing `moment`. Periods have `hours` hours and start at local midnight."""
    local = time.localtime(moment)
    hour = local.tm_hour - local.tm_hour % hours
    return time.mktime((local.tm_year, local.tm_mon, local.tm_mday, hour, 0, 0, 0, 0, -1))


class Roller:
    """Rotates one log file. `roll_if_due` is fast; `tidy` may be slow and should run in a thread."""

    def __init__(self, path: str, policy: Policy, now: float) -> None:
        """`now`: seconds since 1970, as in all methods."""
        self._path = Path(path)
        self._policy = policy
        # An existing file's last write time is the best estimate; a previous process may have written it.
        try:
            self._begun = self._path.stat().st_mtime
        except OSError:
            self._begun = now

    def roll_if_due(self, now: float) -> bool:
        """Rotates the file if it is due. True: every process must reopen its logs. Raises OSError on failure."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            self._begun = now
            return False
        if not self._policy.is_due(size, self._begun, now):
            if size == 0:
                self._begun = now
            return False
        self._path.rename(self._free_name())
        self._begun = now
        return True

    def tidy(self, now: float) -> None:
        """Compresses and deletes old files as configured. Call it when no process has them open any more.

        Raises OSError on failure.
        """
        old = sorted(self._old_files(), key=lambda path: path.stat().st_mtime, reverse=True)
        policy = self._policy
        oldest = now - policy.age * DAY if policy.age else 0.0
        for index, path in enumerate(old):
            if (policy.keep and index >= policy.keep) or path.stat().st_mtime < oldest:
                path.unlink()
            elif policy.compress and path.suffix != ".gz":
                _compress(path)

    def _free_name(self) -> Path:
        """`<file>.YYYY-MM-DD` for days, `<file>.YYYY-MM-DD_HH` otherwise, with `.1`, `.2`, ... if that name exists."""
        hours = self._policy.hours
        start = time.localtime(period_start(self._begun, hours or 1))
        name = f"{self._path.name}.{time.strftime('%Y-%m-%d' if hours == 24 else '%Y-%m-%d_%H', start)}"
        taken = {path.name.removesuffix(".gz") for path in self._old_files()}
        number, free = 0, name
        while free in taken:
            number += 1
            free = f"{name}.{number}"
        return self._path.with_name(free)

    def _old_files(self) -> list[Path]:
        pattern = re.compile(re.escape(self._path.name) + _NAME_END)
        return [path for path in self._path.parent.iterdir() if pattern.fullmatch(path.name) and path.is_file()]


def _compress(path: Path) -> None:
    """Replaces a file by its gzip form with the same time and permissions; never leaves a partial file under that name."""
    target = path.with_name(path.name + ".gz")
    partial = path.with_name(path.name + ".gz.part")
    with path.open("rb") as source, gzip.open(partial, "wb") as packed:
        shutil.copyfileobj(source, packed, 1024 * 1024)
    shutil.copystat(path, partial)
    os.replace(partial, target)
    path.unlink()
