"""All logs of one process, by their configured path."""

from __future__ import annotations

from collections.abc import Callable

from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.log import ERROR, TRACE, Log
from pymosn.observe.destination import STANDARD_STREAMS, Destination, LineFile, Report, Schedule, is_file, report_to_stderr
from pymosn.observe.process_log import CEILINGS, NAMES, ProcessLog, level_of


def open_destination(path: str, report: Report = report_to_stderr, is_planned: bool = False) -> Destination:
    """Opens the destination that a log path of the configuration names. OSError, or ValueError for a bad syslog address.

    With `is_planned` a file is created only by `Destination.open`.
    """
    if is_file(path) or path in STANDARD_STREAMS:
        return LineFile(path, report, is_planned)
    from pymosn.observe.syslog import Syslog  # logging and what it imports: only for processes that use it

    return Syslog(path)


class LogSet:
    """The process log and the access logs of one process; logs with the same path share a destination."""

    def __init__(self, path: str, level: str = "INFO", ceiling: str | None = None, clock: Clock | None = None) -> None:
        """`path`, `level`: of the process log; `ceiling`: its minimum level, as in `--log-level`.

        Raises ValueError for unknown levels and invalid syslog addresses, OSError if the log cannot be opened.
        """
        self._path = path
        self._destinations: dict[str, Destination] = {path: open_destination(path)}
        limit = TRACE if ceiling is None else CEILINGS.get(ceiling.lower())
        if limit is None:
            raise ValueError(f"unknown log level {ceiling!r}; expected one of {' '.join(CEILINGS)}")
        self._process_log = ProcessLog(self._destinations[path], clock or Clock(), level_of(level), limit)
        self.process_log: Log = self._process_log
        #: Removes secrets from a text, as the process log does from its lines.
        self.without_secrets: Callable[[str], str] = self._process_log.without_secrets

    def access_destination(self, path: str, schedule: Schedule, planned: dict[str, Destination]) -> Destination:
        """The destination of access logs at `path`, shared by all listeners; a new one is added to `planned`.

        `schedule` calls back in the next event-loop iteration, so that lines are batched. Raises like `__init__`. No file is
        created before `activate`.
        """
        found = self._destinations.get(path) or planned.get(path)
        if found is None:
            found = planned[path] = open_destination(path, self._report, is_planned=True)
        found.gather(schedule)
        return found

    def activate(self, planned: dict[str, Destination]) -> None:
        """Opens planned destinations. One that cannot be opened is reported, and tried again with each line."""
        for path, destination in planned.items():
            self._destinations[path] = destination
            try:
                destination.open()
            except OSError as error:
                self._report(f"log {path} cannot be opened: {error.strerror}")

    def levels(self) -> dict[str, str]:
        """The level of each log that has one, by path; access logs have none."""
        return {self._path: NAMES[self._process_log.configured_level]}

    def set_level(self, path: str, level: str) -> None:
        """Changes a level. Raises KeyError for an unknown path, ValueError for an unknown level or a log without levels."""
        number = level_of(level)
        self._find(path)
        if path != self._path:
            raise ValueError(f"{path!r} is an access log: it has no levels and can only be switched on or off")
        self._process_log.set_level(number)

    def switch(self, path: str, enabled: bool) -> None:
        """Enables or disables all logging to `path`. Raises KeyError for an unknown path."""
        self._find(path).enabled = enabled
        if path == self._path:
            self._process_log.switch(enabled)

    def reopen(self) -> None:
        """Reopens all files after they were renamed (SIGUSR1). If one cannot be opened, its old file stays in use."""
        for destination in self._destinations.values():
            destination.reopen()

    def flush(self) -> None:
        """Writes waiting lines."""
        for destination in self._destinations.values():
            destination.flush()

    def count_drops(self, metrics: Metrics) -> None:
        """Notes how many lines each log has lost so far, if it has lost any."""
        for path, destination in self._destinations.items():
            if destination.dropped > 0:
                metrics.group("log", ("log", path)).counter("lines_dropped_total").value = destination.dropped

    def close(self) -> None:
        """Writes waiting lines and closes all logs; nothing may be logged afterwards."""
        self._process_log.switch(False)
        for destination in self._destinations.values():
            destination.close()

    def _find(self, path: str) -> Destination:
        found = self._destinations.get(path)
        if found is None:
            raise KeyError(f"no log at {path!r}; logs: {', '.join(map(repr, self._destinations))}")
        return found

    def _report(self, text: str) -> None:
        self._process_log.write(ERROR, text)
