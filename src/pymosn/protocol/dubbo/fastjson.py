"""Messages in fastjson, which Dubbo 2 writes as lines: each value is a line of JSON.

Fastjson accepts more than JSON. Attachments that are not JSON count as unreadable, as do those with its own `@type` and
`$ref`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from mypy_extensions import i64

from pymosn.api.rpc import Field
from pymosn.core.rpc_headers import NO_TEXT
from pymosn.protocol.dubbo.attachments import (
    NULL_WITH_ATTACHMENTS,
    Attachments,
    RequestFront,
    has_attachments,
    text_value,
)
from pymosn.protocol.dubbo.hessian2 import Hessian2Error

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_SPACE: Final = re.compile(r"[ \t]*")
_DECODER: Final = json.JSONDecoder()


class Lines:
    """The lines of `body`, in order. Raises Hessian2Error where there is none, or a blank one, which Java rejects."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at: i64 = 0

    def next(self) -> str:
        """The next line."""
        body = self.body
        found = _LINE_END.search(body, self.at)
        start: i64 = self.at
        end: i64 = len(body) if found is None else found.start()
        self.at = len(body) if found is None else found.end()
        try:
            line = body[start:end].decode()
        except UnicodeDecodeError:
            raise Hessian2Error("a line is not UTF-8") from None
        if not line.strip():
            raise Hessian2Error("missing line")
        return line

    def skip(self) -> None:
        """Skips a line, unread."""
        found = _LINE_END.search(self.body, self.at)
        if found is None:
            raise Hessian2Error("missing line")
        self.at = found.end()

    def text(self) -> bytes | None:
        """The string, or null, that is the next line."""
        line = self.next()
        value, end = _value(line, 0)
        if end != len(line) or not (value is None or isinstance(value, str)):
            raise Hessian2Error("not a string")
        return None if value is None else _to_bytes(value)


class TextAttachments(Attachments):
    """The attachments in the next line of `lines`."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines.body, lines.at)
        line = lines.next()
        self.end = self.start + len(line.encode())
        #: The bytes of each entry: name, colon and value.
        self._pieces: list[bytes] = []
        at: i64 = _after_space(line, 0)
        if line[at : at + 1] != "{":
            value, at = _value(line, at)
            self.is_null = value is None
            if not self.is_null:
                raise Hessian2Error("not a map")
        elif line[_after_space(line, at + 1) :][:1] == "}":
            at = _after_space(line, at + 1) + 1
        else:
            at = self._read(line, at)
        if _after_space(line, at) != len(line):
            raise Hessian2Error("a line has more than one value")

    def _read(self, line: str, at: i64) -> i64:
        """Reads the entries after the brace at `at`; returns the end of the map."""
        while True:
            start: i64 = _after_space(line, at + 1)
            name, at = _value(line, start)
            if not isinstance(name, str) or name in ("@type", "$ref"):
                raise Hessian2Error("the name of an attachment is not a text")
            at = _after_space(line, at)
            if line[at : at + 1] != ":":
                raise Hessian2Error("not JSON")
            value, at = _value(line, _after_space(line, at + 1))
            self._pieces.append(line[start:at].encode())
            self.add((_to_bytes(name), _as_text(value)), 0, 0, False)
            at = _after_space(line, at)
            mark = line[at : at + 1]
            if mark == "}":
                return at + 1
            if mark != ",":
                raise Hessian2Error("not JSON")

    def written(self, fields: list[Field]) -> list[bytes]:
        if self.is_null and not fields:
            return [self.body[self.start : self.end]]
        pieces: list[bytes] = []
        after: i64 = 0
        for field in fields:
            found: i64 = self.entry_of(field, after)
            if found >= 0:
                after = found + 1
                pieces.append(self._pieces[found])
            else:
                pieces.append(_json(field[0]) + b":" + _json(text_value(field)))
        return [b"{", b",".join(pieces), b"}"]


class FastjsonBody(RequestFront):
    """The body of a request in fastjson."""

    def __init__(self, body: bytes) -> None:
        """Reads the strings before the arguments. Raises Hessian2Error if they are malformed."""
        super().__init__(body)
        self._lines = Lines(body)
        self.read()

    def at(self) -> i64:
        return self._lines.at

    def text(self) -> bytes | None:
        return self._lines.text()

    def skip(self, count: i64) -> None:
        while count > 0:
            self._lines.skip()
            count -= 1

    def attachments(self) -> Attachments:
        self.skip_arguments()
        return TextAttachments(self._lines)

    def encode(self, text: bytes | None) -> bytes:
        return _json(text) + b"\n"


def response_attachments(body: bytes) -> Attachments | None:
    """The attachments of a response with status OK; None if it has none. Raises Hessian2Error."""
    lines = Lines(body)
    line = lines.next()
    if len(line) != 1 or not "0" <= line <= "9":
        raise Hessian2Error("invalid result kind")
    kind: i64 = int(line)
    if not has_attachments(kind):
        return None
    if kind != NULL_WITH_ATTACHMENTS:
        lines.skip()
    return TextAttachments(lines)


def _value(line: str, at: i64) -> tuple[Any, i64]:
    """The JSON value at `at`, and its end."""
    try:
        value, end = _DECODER.raw_decode(line, int(at))
    except (ValueError, RecursionError):
        raise Hessian2Error("not JSON") from None
    return value, end


def _after_space(line: str, at: i64) -> i64:
    found = _SPACE.match(line, int(at))
    return at if found is None else found.end()


def _as_text(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return _to_bytes(value)
    return b"%d" % value if isinstance(value, int) else NO_TEXT


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(value: bytes | None) -> bytes:
    return b"null" if value is None else json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False).encode()
