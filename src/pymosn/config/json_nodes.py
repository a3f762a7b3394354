"""A strict JSON parser (RFC 8259) that keeps the location of every key and value.

The standard library's parser has locations of syntax errors only.
"""

import bisect
import re
from collections.abc import Iterator
from typing import Final

from pymosn.config.nodes import DEEPEST, Entry, Node, ParseError, Repeated, Scalar, kind_of

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_WORD: Final = re.compile(r"[^\s,:\[\]{}\"]+")
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}
# A lone surrogate is not a character; like Go, replace it.
_REPLACEMENT: Final = "\ufffd"


def parse_json(text: str) -> tuple[Node, list[Repeated]]:
    """The node tree of a JSON text, and the duplicate keys of its objects. Raises ParseError."""
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._repeated: list[Repeated] = []
        self._line_starts = [0] + [match.end() for match in re.finditer("\n", text)]

    def document(self) -> tuple[Node, list[Repeated]]:
        if not self._peek():
            raise ParseError("the file is empty")
        node = self._value()
        if self._peek():
            raise self._error("unexpected text after the JSON value")
        return node, self._repeated

    def _place(self, at: int) -> tuple[int, int]:
        line = bisect.bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1

    def _error(self, message: str, at: int | None = None) -> ParseError:
        return ParseError(message, *self._place(self._at if at is None else at))

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        if match := _SPACE.match(self._text, self._at):
            self._at = match.end()
        return self._text[self._at : self._at + 1]

    def _value(self) -> Node:
        char = self._peek()
        line, column = self._place(self._at)
        if char == "{":
            return Node("object", line, column, entries=self._object())
        if char == "[":
            return Node("array", line, column, items=[self._value() for _ in self._members("]")])
        value = self._string() if char == '"' else self._number_or_word(char)
        return Node(kind_of(value), line, column, value)

    def _members(self, end: str) -> Iterator[None]:
        """Enters an object or array, yields before each of its members, and leaves it."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"nested deeper than {DEEPEST} levels")
        self._at += 1
        if self._peek() != end:
            yield
            while self._comma(end):
                if self._peek() == end:
                    raise self._error(f'trailing comma before "{end}"')
                yield
        self._at += 1
        self._depth -= 1

    def _object(self) -> list[Entry]:
        entries: list[Entry] = []
        lines: dict[str, int] = {}
        for _ in self._members("}"):
            char = self._peek()
            if char != '"':
                end = 'unexpected end of file in an object; expected "}"'
                raise self._error("expected a key in double quotes" if char else end)
            line, column = self._place(self._at)
            key = self._string()
            if key in lines:
                self._repeated.append(Repeated(key, line, column, lines[key]))
            lines[key] = line
            if self._peek() != ":":
                raise self._error(f'expected ":" after the key "{key}"')
            self._at += 1
            entries.append(Entry(key, line, column, self._value()))
        return entries

    def _comma(self, end: str) -> bool:
        char = self._peek()
        if char == ",":
            self._at += 1
            return True
        if char == end:
            return False
        if not char:
            raise self._error(f'unexpected end of file; expected "{end}"')
        raise self._error(f'expected "," or "{end}"')

    def _number_or_word(self, char: str) -> Scalar:
        start = self._at
        if not char:
            raise self._error("unexpected end of file; expected a value")
        if char in "/#":
            raise self._error("comments are not allowed in JSON")
        if char == "'":
            raise self._error("strings must be in double quotes")
        match = _WORD.match(self._text, start)
        if match is None:
            raise self._error("expected a value")
        word = match[0]
        if word in _WORDS:
            self._at = match.end()
            return _WORDS[word]
        number = _NUMBER.fullmatch(word)
        if number is None:
            raise self._error(f"{word[:40]!a} is not a JSON value")
        self._at = match.end()
        try:
            inexact = float(word)
        except ValueError:
            raise self._error("not a number", start) from None
        if inexact in (float("inf"), float("-inf")):
            raise self._error("the number is too large", start)
        return int(word) if number[1] is None and number[2] is None else inexact

    def _string(self) -> str:
        start = self._at
        self._at += 1
        parts: list[str] = []
        while True:
            match = _PLAIN.match(self._text, self._at)
            if match:
                parts.append(match[0])
                self._at = match.end()
            char = self._text[self._at : self._at + 1]
            if char == '"':
                self._at += 1
                return "".join(parts)
            if char == "\\":
                parts.append(self._escape())
            elif char in ("", "\n", "\r"):
                raise self._error("unterminated string", start)
            else:
                raise self._error(f"the control character {char!a} must be escaped")

    def _escape(self) -> str:
        letter = self._text[self._at + 1 : self._at + 2]
        if letter != "u":
            if letter not in _ESCAPES:  # also at the end of the text
                raise self._error(f"invalid escape \\{letter}")
            self._at += 2
            return _ESCAPES[letter]
        high = self._hex()
        if 0xD800 <= high < 0xDC00 and self._text.startswith("\\u", self._at):
            mark = self._at
            low = self._hex()
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
            self._at = mark
        return _REPLACEMENT if 0xD800 <= high < 0xE000 else chr(high)

    def _hex(self) -> int:
        match = _HEX.match(self._text, self._at + 2)
        if match is None:
            raise self._error("\\u must be followed by four hexadecimal digits")
        self._at = match.end()
        return int(match[0], 16)
