"""Bodies of local replies: texts and JSON objects in the format language of access logs."""

from __future__ import annotations

import re
from html import escape
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.core.clock import Clock
from pymosn.observe.access_log import LineMaker, compile_format
from pymosn.observe.json_log import JsonFormat

#: The variable for the body of a reply before it is formatted.
BODY_VARIABLE: Final = "local_reply_body"
#: Where the text of a format is cut: the pieces between are lines of logs. A `%` after a backslash is literal text.
_SEAM: Final = re.compile(rf"((?<!\\)%{BODY_VARIABLE}%|\r?\n)")

#: A variable in a text.
_VARIABLE: Final = re.compile(r"(?<!\\)(%[^%]*%)")


class TextBody:
    """A body in a text format."""

    def __init__(self, text: str) -> None:
        """Raises ValueError with the error in the format. `warnings`: as of an access log's format."""
        parts = _SEAM.split(text)
        self._formats = [compile_format(part) if part else None for part in parts[0::2]]
        self._seams = parts[1::2]
        self._lines: list[LineMaker | None] = []
        self.warnings = [text for made in self._formats if made is not None for text in made.warnings]

    def bind(self, clock: Clock, listener_name: str, listener_type: str) -> TextBody:
        """Makes it usable for exchanges on a listener."""
        self._lines = [None if made is None else made.bind(clock, listener_name, listener_type) for made in self._formats]
        return self

    def make(self, exchange: Exchange, body: bytes) -> bytes:
        """The body for an exchange."""
        out: list[bytes] = []
        for i, line in enumerate(self._lines):
            if line is not None:
                out.append(line(exchange).encode("utf-8", "surrogateescape"))
            if i < len(self._seams):
                seam = self._seams[i]
                out.append(body if seam.startswith("%") else seam.encode())
        return b"".join(out)


class HtmlBody:
    """A body in HTML. Whatever a variable has is escaped, so that no client can put a script into the page."""

    def __init__(self, text: str) -> None:
        """Raises ValueError like TextBody. `warnings`: as of an access log's format."""
        compile_format(" ".join(text.split()) or " ")  # for errors in the text as a whole
        # Texts, and variables between them.
        self._parts = [TextBody(part) if part else None for part in _VARIABLE.split(text)]
        self.warnings = [text for part in self._parts if part is not None for text in part.warnings]

    def bind(self, clock: Clock, listener_name: str, listener_type: str) -> HtmlBody:
        """Makes it usable for exchanges on a listener."""
        for part in self._parts:
            if part is not None:
                part.bind(clock, listener_name, listener_type)
        return self

    def make(self, exchange: Exchange, body: bytes) -> bytes:
        """The body for an exchange."""
        out: list[str] = []
        for i, part in enumerate(self._parts):
            if part is not None:
                text = part.make(exchange, body).decode("utf-8", "replace")
                out.append(escape(text) if i % 2 else text)
        return "".join(out).encode()


class JsonBody:
    """A body in a JSON format."""

    def __init__(self, members: dict[str, Any], omit_empty: bool) -> None:
        """Raises ValueError with the member and its error."""
        self._format = JsonFormat(members, omit_empty)
        self._line: LineMaker = lambda exchange: ""
        self.warnings = self._format.warnings

    def bind(self, clock: Clock, listener_name: str, listener_type: str) -> JsonBody:
        """Makes it usable for exchanges on a listener."""
        self._line = self._format.bind(clock, listener_name, listener_type)
        return self

    def make(self, exchange: Exchange, body: bytes) -> bytes:
        """The body for an exchange."""
        own = exchange.own_variables
        exchange.own_variables = {**(own or {}), BODY_VARIABLE: body.decode("utf-8", "replace")}
        line = self._line(exchange)
        exchange.own_variables = own
        return line.encode() + b"\n"


def body_of(text: str, members: dict[str, Any], page: str, omit_empty: bool) -> TextBody | HtmlBody | JsonBody:
    """The body of the one format that is given. Raises ValueError with the error in it."""
    if members:
        return JsonBody(members, omit_empty)
    return HtmlBody(page) if page else TextBody(text)
