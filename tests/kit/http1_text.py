"""HTTP/1 text as what it says, whatever version of HTTP carries it: so that a conversation written once runs over each.

A message is a list of events: a head, data, trailers, the end. What HTTP/2 does not have is left out (reason phrases, fields
of the connection, chunks), and a request's length of 0. Names are in lower case. Only the order of fields of one name
matters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

Pairs = list[tuple[bytes, bytes]]
#: `("head", method and target or status, fields)`, `("data", bytes)`, `("trailers", fields)`, `("end",)`.
Event = tuple[Any, ...]

_OF_CONNECTION = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"trailer")


class Http1Text:
    """Reads messages from HTTP/1 text, in pieces. Raises AssertionError for what is not HTTP/1."""

    def __init__(self, is_request: bool) -> None:
        self._is_request = is_request
        self._text = b""
        self._state = "head"
        self._left = 0
        self._coding = b""
        #: For responses: the methods of the requests that wait for theirs.
        self.methods: deque[bytes] = deque()

    @property
    def is_between(self) -> bool:
        """Whether no message has begun and not ended."""
        return self._state == "head" and not self._text

    def feed(self, text: bytes) -> list[Event]:
        """The events of the next bytes."""
        self._text += text
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def eof(self) -> list[Event]:
        """The peer sends no more."""
        if self._state != "close":
            return []
        self._state = "head"
        return [("end",)]

    def _step(self, events: list[Event]) -> bool:
        state = self._state
        if state == "head":
            return self._head(events)
        if state in ("sized", "chunk"):
            piece, self._text = self._text[: self._left], self._text[self._left :]
            self._left -= len(piece)
            if piece:
                events.append(("data", piece))
            if self._left:
                return False
            if state == "sized":
                self._end(events)
            else:
                self._state = "behind chunk"
            return True
        if state == "close":
            if self._text:
                events.append(("data", self._text))
            self._text = b""
            return False
        return self._line(state, events)

    def _line(self, state: str, events: list[Event]) -> bool:
        """A line of a chunked body."""
        if state == "trailers":
            if self._text.startswith(b"\r\n"):
                self._text = self._text[2:]
                self._end(events)
                return True
            lines, found, rest = self._text.partition(b"\r\n\r\n")
            if found:
                self._text = rest
                events.append(("trailers", fields_of(lines.split(b"\r\n"))))
                self._end(events)
            return bool(found)
        line, found, rest = self._text.partition(b"\r\n")
        if not found:
            return False
        self._text = rest
        if state == "behind chunk":
            assert line == b"", f"behind a chunk: {line!r}"
            self._state = "chunks"
        else:
            self._left = int(line.partition(b";")[0], 16)
            self._state = "chunk" if self._left else "trailers"
        return True

    def _end(self, events: list[Event]) -> None:
        events.append(("end",))
        self._state = "head"

    def _head(self, events: list[Event]) -> bool:
        head, found, rest = self._text.partition(b"\r\n\r\n")
        if not found:
            return False
        self._text = rest
        line, *lines = head.split(b"\r\n")
        words = line.split(b" ", 2)
        if self._is_request:
            assert words[2].startswith(b"HTTP/1."), f"not a request line: {line!r}"
            start: object = (words[0], words[1])
            has_content = True
        else:
            assert words[0] in (b"HTTP/1.1", b"HTTP/1.0"), f"not a status line: {line!r}"
            status = int(words[1])
            start = status
            if status < 200:
                events.append(("head", start, fields_of(lines)))
                return True
            method = self.methods.popleft() if self.methods else b"GET"
            has_content = method != b"HEAD" and status not in (204, 304)
        fields = fields_of(lines)
        events.append(("head", start, asked(fields) if self._is_request else fields))
        raw = [(name.lower().strip(), value.strip()) for name, _, value in (text.partition(b":") for text in lines)]
        coding = next((value for name, value in raw if name == b"transfer-encoding"), b"")
        length = next((value for name, value in raw if name == b"content-length"), None)
        if not has_content:
            self._end(events)
        elif coding:
            self._state = "chunks"
        elif length is not None:
            self._left = int(length)
            self._state = "sized"
        elif self._is_request:
            self._end(events)
        else:
            self._state = "close"
        return True


def fields_of(lines: Sequence[bytes]) -> Pairs:
    """The fields that both versions of HTTP have."""
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon, f"not a field: {line!r}"
        found.append((name.lower(), value.strip(b" \t")))
    return shared(found)


def shared(fields: Pairs) -> Pairs:
    """Those of `fields` that both versions have, `host` first."""
    kept = [(name, value) for name, value in fields if name not in _OF_CONNECTION]
    return [pair for pair in kept if pair[0] == b"host"] + [pair for pair in kept if pair[0] != b"host"]


def in_order(events: Sequence[Event]) -> list[Event]:
    """The same, to compare: adjacent data is joined, and fields are sorted by name."""
    return [(*event[:-1], _sorted(event[-1])) if event[0] in ("head", "trailers") else event for event in merged(events)]


def _sorted(fields: Pairs) -> Pairs:
    return sorted(fields, key=lambda pair: pair[0])


def asked(fields: Pairs) -> Pairs:
    """The fields of a request. A length of 0 is the same as none."""
    return [pair for pair in fields if pair != (b"content-length", b"0")]


def merged(events: Sequence[Event]) -> list[Event]:
    """The same with adjacent data joined."""
    out: list[Event] = []
    for event in events:
        if event[0] == "data" and out and out[-1][0] == "data":
            out[-1] = ("data", out[-1][1] + event[1])
        else:
            out.append(event)
    return out


class Renderer:
    """Writes events as HTTP/1 text. A message without a length is chunked."""

    def __init__(self) -> None:
        self._is_chunked = False

    def text(self, events: Sequence[Event], methods: Sequence[bytes] = ()) -> bytes:
        """`methods`: of the requests to which the heads respond, so that a response to HEAD is not chunked."""
        out = b""
        asked = list(methods)
        for index, event in enumerate(events):
            kind = event[0]
            if kind == "head":
                ends = index + 1 < len(events) and events[index + 1][0] == "end"
                is_interim = isinstance(event[1], int) and event[1] < 200
                to_head = not is_interim and bool(asked) and asked.pop(0) == b"HEAD"
                out += self._head(event, ends or is_interim or to_head)
            elif kind == "data":
                piece: bytes = event[1]
                out += b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece
            elif kind == "trailers":
                out += b"0\r\n" + _lines(event[1]) + b"\r\n"
                self._is_chunked = False
            else:
                out += b"0\r\n\r\n" if self._is_chunked else b""
                self._is_chunked = False
        return out

    def _head(self, event: Event, ends: bool) -> bytes:
        _, start, fields = event
        if isinstance(start, tuple):
            line = b"%b %b HTTP/1.1\r\n" % start
        else:
            line = f"HTTP/1.1 {start} {_phrase(start)}\r\n".encode()
        self._is_chunked = not ends and not any(name == b"content-length" for name, _ in fields)
        coding = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        return line + _lines(fields) + coding + b"\r\n"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _lines(fields: Pairs) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in fields)
