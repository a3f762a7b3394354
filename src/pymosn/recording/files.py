"""The files of recorded exchanges: our own, a tape, which is a line of JSON for each exchange; and HAR 1.2 for HTTP.

A file is written as `NAME.part`, readable by its owner only, and is renamed when it is complete. A tape begins with
a line about its version, and ends with one that counts its exchanges; so a damaged or unfinished one is recognised.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

import msgspec

from pymosn.recording.har import HarError, entry_of, recorded_of
from pymosn.recording.record import Recorded, raw_value
from pymosn.version import VERSION

#: The version of the form of tapes.
TAPE: Final = 1
#: Bytes of the longest line, and of the longest HAR file, that are read.
LONGEST_LINE: Final = 64 * 1024 * 1024
LONGEST_HAR: Final = 512 * 1024 * 1024
_DECODER: Final = msgspec.json.Decoder(Recorded)


class RecordingError(ValueError):
    """A file cannot be read or written; the text is the reason, and has its name."""


def is_har(path: str) -> bool:
    """Whether a file is HAR, by its name."""
    return path.lower().endswith(".har")


class RecordingWriter:
    """Writes a file of at most about `limit` bytes: HAR if its name ends in `.har`, else a tape. Ends with `finish`."""

    def __init__(self, path: str, limit: int, overwrites: bool = False) -> None:
        """Raises RecordingError if the file exists, unless it may be overwritten, or cannot be created."""
        self.path = path
        self.is_har = is_har(path)
        #: Exchanges written, and those that HAR cannot hold.
        self.count = 0
        self.left_out = 0
        self.size = 0
        self._limit = limit
        self._overwrites = overwrites
        # Where the last exchange begins.
        self._last = 0
        self._part = f"{path}.part"
        if not overwrites and os.path.lexists(path):
            raise RecordingError(f"{path} exists; use another name, or --force")
        try:
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise RecordingError(f"{self._part} exists: another recording is running, or was killed; remove it") from None
        except OSError as error:
            raise RecordingError(f"{self._part} cannot be created: {error.strerror}") from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._write(self._beginning())

    def _beginning(self) -> bytes:
        if self.is_har:
            creator = json.dumps({"name": "pymosn", "version": VERSION})
            return f'{{"log": {{"version": "1.2", "creator": {creator}, "entries": ['.encode()
        return json.dumps({"pymosn_tape": TAPE, "created": time.time(), "version": VERSION}).encode() + b"\n"

    def add(self, record: bytes) -> bool:
        """Adds an exchange, as a tap sent it; False, and nothing is written, if the file would be too long."""
        if self.is_har:
            recorded = _DECODER.decode(record)
            if recorded.rpc or recorded.tunnel:
                self.left_out += 1
                return True
            entry = json.dumps(entry_of(recorded)).encode()
            line = (b",\n" if self.count else b"\n") + entry
        else:
            line = record + b"\n"
        if self.size + len(line) > self._limit:
            return False
        before = self.size
        self._write(line)
        self._last = before
        self.count += 1
        return True

    def _write(self, data: bytes) -> None:
        """Writes all of `data`, or nothing: what was written before is never damaged, whatever the disk does."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._cut(self.size)
            raise RecordingError(f"{self._part} cannot be written: {error.strerror}") from None
        self.size += len(data)

    def _cut(self, size: int) -> None:
        with suppress(OSError):
            self._file.truncate(size)
            self._file.seek(size)
        self.size = size

    def _write_end(self, dropped: int) -> None:
        if self.is_har:
            comment = json.dumps(f"{dropped} exchanges were dropped, {self.left_out} cannot be in HAR")
            self._write(f'\n], "comment": {comment}}}}}\n'.encode())
        else:
            self._write(json.dumps({"end": {"exchanges": self.count, "dropped": dropped}}).encode() + b"\n")

    def finish(self, dropped: int = 0) -> None:
        """Completes the file and gives it its name. `dropped`: exchanges that matched and were not recorded.

        The last exchange of a file on a full disk may be left out. Raises RecordingError.
        """
        try:
            self._complete(dropped)
        finally:
            self._file.close()

    def _complete(self, dropped: int) -> None:
        try:
            self._write_end(dropped)
        except RecordingError:
            if not self.count:
                raise
            # The disk is full: without the last exchange there is room for the end.
            self._cut(self._last)
            self.count -= 1
            self._write_end(dropped + 1)
        if not self._overwrites and os.path.lexists(self.path):
            raise RecordingError(f"{self.path} exists now; the recording is {self._part}")
        try:
            os.fsync(self._file.fileno())
            os.replace(self._part, self.path)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be finished: {error.strerror}") from None

    def discard(self) -> None:
        """Removes what has been written."""
        self._file.close()
        os.unlink(self._part)


def read_recording(path: str | os.PathLike[str]) -> list[Recorded]:
    """The exchanges of a tape or a HAR file, in the order in which they started, which gives them their numbers.

    RecordingError for a file that cannot be read, is damaged, or is not finished; it names the line.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            found = list(_har(name, file) if is_har(name) else _tape(name, file))
    except OSError as error:
        raise RecordingError(f"{name}: {error.strerror}") from None
    found.sort(key=lambda one: one.time)
    for number, one in enumerate(found, 1):
        one.number = number
    return found


def _tape(name: str, file: BinaryIO) -> Iterator[Recorded]:
    first = _line(name, 1, file.readline(LONGEST_LINE))
    if not isinstance(first, dict) or "pymosn_tape" not in first:
        raise RecordingError(f"{name}, line 1: not a tape of pymosn")
    if first["pymosn_tape"] != TAPE:
        raise RecordingError(f"{name}, line 1: version {first['pymosn_tape']!r:.80} of tapes is not known, only {TAPE}")
    count, number = 0, 1
    while line := file.readline(LONGEST_LINE):
        number += 1
        if line.startswith(b'{"end"'):
            end = _line(name, number, line)["end"]
            expected = end.get("exchanges") if isinstance(end, dict) else end
            if expected != count:
                raise RecordingError(f"{name}: it has {count} exchanges, not {expected!r:.80}")
            if file.read(1):
                raise RecordingError(f"{name}, line {number + 1}: there is more after the end")
            return
        try:
            recorded = _DECODER.decode(line)
            check_fields(recorded)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"{name}, line {number}: {error}") from None
        yield recorded
        count += 1
    raise RecordingError(f"{name}: the end is missing: the recording was not finished")


def _line(name: str, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{name}, line {number}: not JSON: {error}") from None


def _har(name: str, file: BinaryIO) -> Iterator[Recorded]:
    content = file.read(LONGEST_HAR + 1)
    if len(content) > LONGEST_HAR:
        raise RecordingError(f"{name}: it has more than {LONGEST_HAR} bytes")
    try:
        entries = json.loads(content)["log"]["entries"]
        if not isinstance(entries, list):
            raise TypeError("entries")
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{name}: not JSON: {error}") from None
    except (KeyError, TypeError):
        raise RecordingError(f"{name}: not HAR: log.entries is missing") from None
    for number, entry in enumerate(entries):
        try:
            recorded = recorded_of(number + 1, entry)
            check_fields(recorded)
        except (HarError, ValueError) as error:
            raise RecordingError(f"{name}, log.entries[{number}]: {error}") from None
        yield recorded


def check_fields(recorded: Recorded) -> None:
    """Raises ValueError for a field that is not a name and a value."""
    for fields in (
        recorded.request.headers,
        recorded.request.trailers,
        recorded.response.headers,
        recorded.response.trailers,
    ):
        for field in fields or ():
            if not 2 <= len(field) <= 3:
                raise ValueError(f"a field must be a name and a value, not {field!r:.80}")
            raw_value(field)
