"""The access log: one line per exchange, in MOSN's format language (key reference section 12.1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final

from pymosn.api.exchange import AccessLog, Exchange
from pymosn.api.variables import PREFIXES
from pymosn.core.clock import Clock
from pymosn.observe.destination import Destination
from pymosn.observe.text import TimeStamps, field
from pymosn.observe.variables import BOUND, NOTHING, TRACE, UNAVAILABLE, VARIABLES, Getter, getter

#: MOSN's, to the letter: two spaces after the trace id, and the response code twice. Where no other format is given, the
#: line of a failure has its reason word behind that: every refusal is to be told apart from others without a setting.
DEFAULT_FORMAT: Final = (
    "%start_time% %trace_id%  %connection_id% %upstream_connection_id% %request_received_duration% "
    "%response_received_duration% %bytes_sent% %bytes_received% %protocol% %response_code% %duration% "
    "%response_flag% %response_code% %upstream_local_address% %downstream_local_address% "
    "%downstream_remote_address% %upstream_host%"
)

# A `%` behind a backslash is text, and so is the backslash.
_PERCENT: Final = re.compile(r"(?<!\\)%")

LineMaker = Callable[[Exchange], str]


class Format:
    """A compiled format: texts and variable names in turn, beginning and ending with a text.

    `warnings`: what is valid but will always read `-`, each as a sentence.
    """

    def __init__(self, parts: list[str], tells_reason: bool) -> None:
        """`tells_reason`: lines of exchanges that failed end with the reason word."""
        self._texts = parts[0::2]
        self._names = parts[1::2]
        self._tells_reason = tells_reason
        self.warnings = [text for name in dict.fromkeys(self._names) if (text := _warning(name))]

    def bind(self, clock: Clock, listener_name: str = "", listener_type: str = "") -> LineMaker:
        """What makes the line, without its end, of an exchange on that listener."""
        constants = {"listener_name": field(listener_name), "listener_type": field(listener_type)}
        getters: list[Getter] = []
        template = self._texts[0].replace("%", "%%")
        for name, text in zip(self._names, self._texts[1:], strict=True):
            get = _start_time(clock) if name == "start_time" else getter(name)
            if get is None:
                template += constants.get(name, NOTHING).replace("%", "%%")
            else:
                template += "%s"
                getters.append(get)
            template += text.replace("%", "%%")

        tells_reason = self._tells_reason

        def make_line(exchange: Exchange) -> str:
            line = template % tuple([get(exchange) or NOTHING for get in getters])
            failure = exchange.failure
            return f"{line} {failure.reason}" if tells_reason and failure is not None else line

        return make_line


def compile_format(text: str = "") -> Format:
    """The format of `text`; for an empty one MOSN's default and, of a failure, its reason word.

    ValueError names what is wrong and where.
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
    return Format(_PERCENT.split(text), is_default)


class AccessLogFile(AccessLog):
    """An access log of one listener. Its destination gathers the lines and never blocks the event loop."""

    def __init__(self, destination: Destination, make_line: LineMaker) -> None:
        self._destination = destination
        self._make_line = make_line

    def log(self, exchange: Exchange) -> None:
        if self._destination.enabled:
            self._destination.write(self._make_line(exchange))


def _start_time(clock: Clock) -> Getter:
    stamps = TimeStamps("%Y/%m/%d %H:%M:%S", ".")
    return lambda exchange: stamps.text(clock.wall() - clock.now + exchange.started)


def _warning(name: str) -> str:
    if name in TRACE or name in BOUND or getter(name) is not None:
        return ""
    if name in UNAVAILABLE:
        return f"%{name}% is not available here and always -"
    if name in PREFIXES:
        return f"%{name}% is no variable and always -; it lacks a name at its end"
    near = difflib.get_close_matches(name, [*VARIABLES, *BOUND, *PREFIXES], n=1)
    hint = f"; did you mean %{near[0]}%?" if near else ""
    return f"%{name}% is no variable and always -{hint}"
