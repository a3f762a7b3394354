"""Counts the tokens of a response while it passes: of event streams, of JSON, and of anything else by its size."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pymosn.core.headers import Headers
from pymosn.filters.stream.content import content_type, is_coded, is_json
from pymosn.filters.stream.event_stream import Event, EventReader
from pymosn.filters.stream.token_usage import Usage, text_size

#: Maximum bytes of a JSON body that are kept until its end.
KEPT: Final = 1024 * 1024
#: Bytes at the end of a longer one, in which its usage is looked for.
TAIL: Final = 4096
_DONE: Final = b"[DONE]"
#: The last `usage` member of an object without inner objects. Within text, quotation marks have a backslash before them.
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}"]|"[^"\\]*")*\})')
_STREAM: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry|:)")
#: What the beginning of a copied last event has, so that clients accept it.
_COPIED: Final = ("id", "object", "created", "model")


def decoded(data: bytes) -> Any:
    """A JSON value. Raises ValueError."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


class Counter:
    """The tokens of one response. `sizes`: bytes of text, which are an estimate as long as there is no usage."""

    def __init__(self, token_size: float) -> None:
        self.usage = Usage()
        self._token_size = token_size
        self._estimate = 0

    def estimate(self, size: int) -> int:
        """Estimates the tokens of a text from its bytes."""
        return math.ceil(size / self._token_size)

    def add_text(self, size: int) -> None:
        """Counts a text of `size` bytes; any text is at least one token."""
        self._estimate += self.estimate(size)

    def feed(self, chunk: bytes) -> None:
        """Counts the next chunk."""
        raise NotImplementedError

    def finish(self) -> None:
        """Counts what is incomplete at the end."""

    @property
    def output(self) -> int:
        """The estimated tokens of the text so far."""
        return self._estimate


class SizeCounter(Counter):
    """For anything that cannot be read: an estimate by size."""

    def __init__(self, token_size: float) -> None:
        super().__init__(token_size)
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)

    @property
    def output(self) -> int:
        return self.estimate(self._size)


class JsonCounter(Counter):
    """For a JSON body, which is read at its end. If it is not valid or too long, its size counts."""

    def __init__(self, token_size: float) -> None:
        super().__init__(token_size)
        self._size = 0
        self._kept = bytearray()
        self._is_finished = False
        self._is_read = False

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._kept += chunk
        if self._size > KEPT:
            del self._kept[:-TAIL]

    def finish(self) -> None:
        self._is_finished = True
        try:
            message = decoded(bytes(self._kept).removeprefix(BOM_UTF8)) if self._size <= KEPT else self._tail()
        except ValueError:
            return
        self.usage.read(message)
        self.add_text(text_size(message))
        self._is_read = self._size <= KEPT or self.usage.total > 0

    def _tail(self) -> object:
        found = _USAGE.findall(self._kept)
        return {"usage": decoded(found[-1])} if found else None

    @property
    def output(self) -> int:
        if self._is_read or not self._is_finished:
            return self._estimate
        return self.estimate(self._size)


class StreamCounter(Counter):
    """For an event stream. Servers send one token or more in each event."""

    def __init__(self, token_size: float) -> None:
        super().__init__(token_size)
        self._reader = EventReader()
        self._last: dict[str, Any] = {}
        self._indexes: dict[int, None] = {}

    def feed(self, chunk: bytes) -> None:
        for _ in self.events(chunk):
            pass

    def events(self, chunk: bytes) -> Iterator[tuple[Event, bool]]:
        """The events that are complete with the next chunk, each counted, and whether it has text."""
        for event in self._reader.feed(chunk):
            yield event, self._count(event)

    def finish(self) -> None:
        event = self._reader.rest()
        if event is not None:
            self._count(event)

    @property
    def output(self) -> int:
        return self._estimate + self.estimate(self._reader.pending)

    def _count(self, event: Event) -> bool:
        before = self._estimate
        if event.data != _DONE:
            try:
                message = decoded(event.data or b"")
            except ValueError:
                self.add_text(event.size)
            else:
                self.usage.read(message)
                self.add_text(text_size(message))
                if isinstance(message, dict):
                    self._remember(message)
        return self._estimate > before

    def _remember(self, message: dict[str, Any]) -> None:
        self._last = message
        choices = message.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            index = choice.get("index") if isinstance(choice, dict) else None
            if isinstance(index, int) and len(self._indexes) < 128:
                self._indexes[index] = None

    def ending(self, text: str) -> bytes:
        """Events that end the stream in the client's protocol. `text`: the reason."""
        if "choices" not in self._last:
            error = {"type": "rate_limit_error", "code": "token_budget", "message": text}
            whole = {"type": "error", "code": "token_budget", "message": text, "error": error}
            return b"event: error\ndata: " + msgspec.json.encode(whole) + b"\n\n"
        nothing: dict[str, Any] = {"text": ""} if self._last.get("object") == "text_completion" else {"delta": {}}
        choices = [{"index": index, **nothing, "finish_reason": "length"} for index in self._indexes or (0,)]
        last: dict[str, Any] = {name: self._last[name] for name in _COPIED if name in self._last}
        last["choices"] = choices
        return b"data: " + msgspec.json.encode(last) + b"\n\ndata: [DONE]\n\n"


class UnknownCounter(Counter):
    """For a body without a type: what it is follows from its beginning."""

    def __init__(self, token_size: float) -> None:
        super().__init__(token_size)
        self._found: Counter = JsonCounter(token_size)
        self._is_known = False

    def feed(self, chunk: bytes) -> None:
        if chunk and not self._is_known:
            self._is_known = True
            if _STREAM.match(chunk) is not None:
                self._found = StreamCounter(self._token_size)
        self._found.feed(chunk)

    def finish(self) -> None:
        self._found.finish()
        self.usage = self._found.usage

    @property
    def output(self) -> int:
        return self._found.output


def counter_for(headers: Headers, token_size: float) -> Counter | None:
    """The counter for a response with these headers; None if it has no text."""
    if is_coded(headers):
        # Text is rarely compressed to less than a quarter, so each byte counts as four.
        return SizeCounter(token_size / 4)
    kind = content_type(headers)
    if kind.partition("/")[0] in ("audio", "image", "video"):
        return None
    if kind == "text/event-stream":
        return StreamCounter(token_size)
    if is_json(headers):
        return JsonCounter(token_size)
    return UnknownCounter(token_size) if not kind else SizeCounter(token_size)
