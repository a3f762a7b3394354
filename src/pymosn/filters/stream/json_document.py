"""Edits JSON text. What is not edited keeps its bytes: numbers, escapes and the order of members are not touched."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, Final

import msgspec

Members = dict[str, msgspec.Raw]
_OBJECT: Final = msgspec.json.Decoder(Members)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
#: Maximum nesting: each level is read again for each of its containers.
MOST_DEEP: Final = 100
#: In a pointer: every member of an object, every element of an array.
EACH: Final = "*"


class InvalidDocument(ValueError):
    """The text is not JSON, or is nested too deeply."""


#: What is left of a pointer, the value to set there (None: remove it), and its index in `Edits.pointers`.
Pending = tuple[tuple[str, ...], msgspec.Raw | None, int]


class Edits:
    """What to remove from a document and what to set in it.

    A name (`password`) means every member called that, at any depth. A JSON Pointer (`/user/card`, RFC 6901) means one
    place; `*` in it means every member or element. `set` replaces the members with a name; with a pointer it also adds a
    member to an object that exists. It takes precedence over `remove`.
    """

    def __init__(self, remove: list[str], set_: Mapping[str, Any]) -> None:
        self.removed = frozenset(place for place in remove if not place.startswith("/"))
        self.replaced = {place: _raw(value) for place, value in set_.items() if not place.startswith("/")}
        places = [(place, None) for place in remove] + [(place, _raw(value)) for place, value in set_.items()]
        self.pointers: list[Pending] = [
            (split_pointer(place), value, i) for i, (place, value) in enumerate(places) if place.startswith("/")
        ]
        #: Indexes of the pointers that `set` one place.
        self.required = frozenset(i for tokens, value, i in self.pointers if value is not None and EACH not in tokens)

    def __bool__(self) -> bool:
        return bool(self.removed or self.replaced or self.pointers)


def split_pointer(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a JSON Pointer. Raises ValueError for an invalid escape."""
    tokens = pointer[1:].split("/")
    if any("~" in token.replace("~0", "").replace("~1", "") for token in tokens):
        raise ValueError(f"not a JSON Pointer: {pointer!r}")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_ENCODE(value))


class Document:
    """A text that is edited once."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._set: set[int] = set()

    def is_complete(self) -> bool:
        """Whether all values are set that the edits require; else an object that should have one does not exist."""
        return self._edits.required <= self._set

    def edit(self, text: bytes) -> bytes:
        """The edited text. Raises InvalidDocument.

        It is always rebuilt: of repeated members only the last one is left, because receivers differ in which they use.
        """
        text = text.removeprefix(BOM_UTF8).strip(b" \t\r\n")
        try:
            if len(_ARRAY.decode(b"[" + text + b"]")) != 1:  # a single value without containers is checked by nothing else
                raise InvalidDocument("more than one value")
            return bytes(self._value(msgspec.Raw(text), self._edits.pointers, 0))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidDocument(str(error)) from error

    def _value(self, raw: msgspec.Raw, pointers: list[Pending], depth: int) -> msgspec.Raw:
        first = bytes(memoryview(raw)[:1])
        if first not in (b"{", b"["):
            return raw
        if depth >= MOST_DEEP:
            raise InvalidDocument(f"nested more than {MOST_DEEP} deep")
        if first == b"{":
            return _raw(self._object(_OBJECT.decode(raw), pointers, depth + 1))
        return _raw(self._array(_ARRAY.decode(raw), pointers, depth + 1))

    def _object(self, members: Members, pointers: list[Pending], depth: int) -> Members:
        edits = self._edits
        made: Members = {}
        for name, raw in members.items():
            if name in edits.replaced:
                made[name] = edits.replaced[name]
                continue
            if name in edits.removed:
                continue
            inner, ends = _enter(pointers, name)
            if not ends:
                made[name] = self._value(raw, inner, depth)
            elif ends[-1] is not None:
                made[name] = ends[-1]
        for tokens, value, index in pointers:
            if len(tokens) == 1 and value is not None:
                self._set.add(index)
                if tokens[0] != EACH:
                    made[tokens[0]] = value
        return made

    def _array(self, elements: list[msgspec.Raw], pointers: list[Pending], depth: int) -> list[msgspec.Raw]:
        made: list[msgspec.Raw] = []
        for i, raw in enumerate(elements):
            inner, ends = _enter(pointers, str(i)) if pointers else (pointers, [])
            if not ends:
                made.append(self._value(raw, inner, depth))
            elif ends[-1] is not None:
                made.append(ends[-1])
        size = len(elements)
        self._set.update(
            index for tokens, _, index in pointers if len(tokens) == 1 and tokens[0].isdigit() and int(tokens[0][:9]) < size
        )
        return made


def _enter(pointers: list[Pending], token: str) -> tuple[list[Pending], list[msgspec.Raw | None]]:
    """The pointers that lead further into a member or element, and the values of those that end there."""
    inner: list[Pending] = []
    ends: list[msgspec.Raw | None] = []
    for tokens, value, index in pointers:
        if tokens[0] in (token, EACH):
            if len(tokens) == 1:
                ends.append(value)
            else:
                inner.append((tokens[1:], value, index))
    return inner, ends
