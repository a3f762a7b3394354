"""The access log: one line per exchange, in MOSN's format language (key reference section 12.1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final, cast

from pymosn.api.envoy_variables import NUMBERS, start_time
from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.record import RouteInfo
from pymosn.api.variables import PREFIXES
from pymosn.core.clock import Clock
from pymosn.core.message import UnreadableHeaders
from pymosn.observe.destination import Destination
from pymosn.observe.text import TimeStamps, field
from pymosn.observe.variables import BOUND, NOTHING, UNAVAILABLE, VARIABLES, Getter, getter

#: Exactly MOSN's: two spaces after the trace id, and the response code twice. Without a configured format, lines of failed
#: exchanges end with the reason word, so that failures can be distinguished by default.
DEFAULT_FORMAT: Final = (
    "%start_time% %trace_id%  %connection_id% %upstream_connection_id% %request_received_duration% "
    "%response_received_duration% %bytes_sent% %bytes_received% %protocol% %response_code% %duration% "
    "%response_flag% %response_code% %upstream_local_address% %downstream_local_address% "
    "%downstream_remote_address% %upstream_host%"
)

# A `%` after a backslash is literal text, like the backslash itself.
_PERCENT: Final = re.compile(r"(?<!\\)%")

LineMaker = Callable[[Exchange], str]

#: Of the settings of a route: the states of access logs by their names, a `dict[str, bool]`. EVERY: of all others.
SWITCHES: Final = "\0access_logs"
EVERY: Final = "*"


class Format:
    """A compiled format: texts and variable names alternately, beginning and ending with a text.

    `warnings`: one sentence for each variable that will always be `-`.
    """

    def __init__(self, parts: list[str], adds_reason: bool) -> None:
        """`adds_reason`: lines of failed exchanges end with the reason word."""
        self._texts = parts[0::2]
        self._names = parts[1::2]
        self._adds_reason = adds_reason
        self.warnings = [text for name in dict.fromkeys(self._names) if (text := _warning(name))]

    def number(self) -> bool:
        """Whether it is one variable whose value is a number, and nothing else."""
        return len(self._names) == 1 and self._names[0] in NUMBERS and self._texts == ["", ""]

    def bind(self, clock: Clock, listener_name: str = "", listener_type: str = "") -> LineMaker:
        """The function that formats the line, without its end, of an exchange on that listener."""
        constants = {"listener_name": field(listener_name), "listener_type": field(listener_type)}
        getters: list[Getter] = []
        template = self._texts[0].replace("%", "%%")
        for name, text in zip(self._names, self._texts[1:], strict=True):
            get = _time(name, clock) or getter(name)
            if get is None:
                template += constants.get(name, NOTHING).replace("%", "%%")
            else:
                template += "%s"
                getters.append(get)
            template += text.replace("%", "%%")

        adds_reason = self._adds_reason

        def make_line(exchange: Exchange) -> str:
            try:
                line = template % tuple([get(exchange) or NOTHING for get in getters])
            except UnreadableHeaders:
                line = template % tuple([_readable(get, exchange) for get in getters])
            failure = exchange.failure
            return f"{line} {failure.reason}" if adds_reason and failure is not None else line

        return make_line


def compile_format(text: str = "", in_json: bool = False) -> Format:
    """Compiles a format; an empty text means MOSN's default, with the reason word added for failures.

    `in_json`: lines are the inside of a JSON string. Raises ValueError with the error and its position.
    """
    is_default = not text
    if is_default:
        text = DEFAULT_FORMAT
    control = next((char for char in text if not char.isprintable() and char != "\t"), None)
    if control is not None:
        raise ValueError(f"log format: control character {control!r} at character {text.index(control) + 1}")
    marks = [match.start() for match in _PERCENT.finditer(text)]
    for start, end in zip(marks[0::2], marks[1::2], strict=False):
        if end == start + 1:
            raise ValueError(rf"log format: %% at character {start + 1} names no variable; write \% for a percent sign")
    if len(marks) % 2:
        raise ValueError(
            rf"log format: an odd number of %, the last at character {marks[-1] + 1}; write \% for a percent sign"
        )
    parts = _PERCENT.split(text)
    if in_json:
        parts[0::2] = [field(part) if part else "" for part in parts[0::2]]
    return Format(parts, is_default)


class AccessLogFile(AccessLog):
    """The access log of one listener. Its destination batches lines and never blocks the event loop."""

    def __init__(
        self,
        destination: Destination,
        make_line: LineMaker,
        condition: Callable[[Exchange], bool] | None = None,
        name: str = "",
        is_disabled: bool = False,
    ) -> None:
        """`condition`: which exchanges are logged; None for all. `name`: by which routes switch it.

        `is_disabled`: unless a route switches it on.
        """
        self._destination = destination
        self._make_line = make_line
        self._condition = condition
        self._name = name
        self._is_disabled = is_disabled

    def log(self, exchange: Exchange) -> None:
        condition = self._condition
        if not self._destination.enabled or not is_logged(exchange.route, self._name, self._is_disabled):
            return
        if condition is None or condition(exchange):
            self._destination.write(self._make_line(exchange))


def is_logged(route: RouteInfo | None, name: str, is_disabled: bool) -> bool:
    """Whether an access log has the exchanges of a route, apart from its conditions. `name`, `is_disabled`: of the log."""
    settings = None if route is None else route.filter_configs
    switches = None if settings is None else settings.get(SWITCHES)
    if switches is None:
        return not is_disabled
    states = cast("dict[str, bool]", switches)
    state = states.get(name) if name else None
    if state is None:
        state = states.get(EVERY)
    return not is_disabled if state is None else state


def _readable(get: Getter, exchange: Exchange) -> str:
    """The text of a variable; `-` also for a header that cannot be read, since a log judges nothing."""
    try:
        return get(exchange) or NOTHING
    except UnreadableHeaders:
        return NOTHING


def _time(name: str, clock: Clock) -> Getter | None:
    """The getter of a variable that needs the clock; None for any other name."""
    if name == "start_time_utc":  # ISO 8601
        return lambda exchange: start_time(clock.wall() - clock.now + exchange.started)
    if name == "start_time_seconds":  # since 1970
        return lambda exchange: str(int(clock.wall() - clock.now + exchange.started))
    if name != "start_time":
        return None
    stamps = TimeStamps("%Y/%m/%d %H:%M:%S", ".")
    return lambda exchange: stamps.text(clock.wall() - clock.now + exchange.started)


def _warning(name: str) -> str:
    if name in BOUND or getter(name) is not None:
        return ""
    if name in UNAVAILABLE:
        return f"%{name}% is not available here; it is always logged as -"
    if name in PREFIXES:
        return f"%{name}% lacks the name at its end; it is always logged as -"
    near = difflib.get_close_matches(name, [*VARIABLES, *BOUND, *PREFIXES], n=1)
    hint = f"; did you mean %{near[0]}%?" if near else ""
    return f"%{name}% is not a known variable; it is always logged as -{hint}"
