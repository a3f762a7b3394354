"""The lines of the log about the result of a change."""

from pymosn.config.diagnostics import Diagnostic
from pymosn.control.plane import ChangeResult
from pymosn.core.log import ERROR, INFO, Log
from pymosn.server.change_steps import TAKEN_OVER, log_result


class Levels(Log):
    """Keeps the lines with their levels."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.found.append((level, text))


def lines_of(*, applied: bool, rejection: str) -> list[tuple[int, str]]:
    log = Levels()
    faults = [] if applied else [Diagnostic(message=rejection or "an address is in use")]
    message = "version 2 is active" if applied else "rejected; nothing changed"
    result = ChangeResult(attempt=1, source="SIGHUP", applied=applied, version=2, message=message, faults=faults)
    log_result(log, result, rejection)
    return log.found


def test_a_change_that_an_upgrade_forestalls_is_no_error() -> None:
    text = "change from SIGHUP: an upgrade came first; it is left to the process that has taken over"
    assert lines_of(applied=False, rejection=TAKEN_OVER) == [(INFO, text)]


def test_other_rejections_are_errors_and_changes_are_not() -> None:
    for rejection in ("", "the process is shutting down"):
        first, second = lines_of(applied=False, rejection=rejection)
        assert (first[0], second[0]) == (ERROR, ERROR)
        assert (rejection or "an address is in use") in second[1]
    assert lines_of(applied=True, rejection="") == [(INFO, "change from SIGHUP: version 2 is active")]
