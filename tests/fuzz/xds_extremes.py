"""Every scalar of a message of xDS, by its descriptors, and the extreme values of its type.

A path has the names of fields, the indexes of items, the keys of maps and `@` for the message in an `Any`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pymosn.control.xds.convert.messages import UnknownTypeError, unpack

MEGABYTE: Final = 1 << 20
_SIGNED: Final = (0, -1, 2**31 - 1, -(2**31))
_UNSIGNED: Final = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
_BIG: Final = (2**63 - 1, 2**53 + 1)
_REAL: Final = (0.0, -0.0, -1.0, 5e-324, float("nan"), float("inf"), -float("inf"))
#: Odd Unicode: right to left, a letter whose small form has two characters, one that folds to ASCII, a combining accent,
#: an emoji, a full-width stop, one outside of all planes in use, and a byte order mark.
_UNICODE: Final = (
    "*.\u202e\u0130\U0001f600",
    "\u212aelvin.example",
    "e\u0301.example",
    "a\uff0eexample",
    "\U0010ffff",
    "\ufeff/",
)
_SHORT: Final = (
    "",
    " ",
    "\0",
    "a\0b",
    "/\0",
    "a\r\nb: c",
    "\t",
    "\x7f",
    "-" * 300,
    "." * 300,
    "a." * 200,
    "*",
    "*.",
    "**",
    ":",
)
_SYNTAX: Final = (
    "%",
    "%%%",
    "%REQ(",
    "(",
    "[",
    "((a+)+)+$",
    "\\",
    "\\9",
    "[::1]:99999",
    "1e999",
    "-1",
    "0" * 400,
    "..",
    "//",
)
_LONG: Final = tuple(
    text * (MEGABYTE // len(text)) for text in ("x", "/", ".", "*.", ",", "%", "(", "a b\t", "\xe9", "a:", ";=", "-")
)
_TEXTS: Final = _SHORT + _SYNTAX + _UNICODE + _LONG
#: The type of a scalar -> its extreme values.
VALUES: Final[Mapping[int, tuple[Any, ...]]] = {
    **dict.fromkeys((FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32), _SIGNED),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64),
        (*_SIGNED, *_BIG, -(2**63)),
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), _UNSIGNED),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), (*_UNSIGNED, *_BIG, 2**64 - 1)),
    FieldDescriptor.TYPE_DOUBLE: (*_REAL, 1e308),
    FieldDescriptor.TYPE_FLOAT: _REAL,
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 2**31 - 1, -1, -(2**31)),
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: (b"", b"\0", b"\xff", b"x" * MEGABYTE, b"\x08" * 300),
}

Path = tuple[str | int, ...]


class Scalar(NamedTuple):
    """A scalar and the number of its type. `is_set`: false if it is absent, or in a message that is absent."""

    path: Path
    kind: int
    is_set: bool

    @property
    def values(self) -> tuple[Any, ...]:
        return VALUES[self.kind]


def scalars(message: Any, depth: int = 2, start: Path = (), *, is_set: bool = True) -> Iterator[Scalar]:
    """The scalars of a message and of those inside. `depth`: of messages that are absent."""
    if isinstance(message, any_pb2.Any):
        with suppress(UnknownTypeError):
            yield from scalars(unpack(message), depth, (*start, "@"), is_set=is_set)
    present = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        path, value = (*start, field.name), getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _of_map(field, value, depth, path)
        elif field.is_repeated:
            yield from _of_list(field, value, depth, path)
        elif field.message_type is None:
            yield Scalar(path, field.type, is_set and field.name in present)
        elif field.name in present:
            yield from scalars(value, depth, path)
        elif depth:
            yield from scalars(value, depth - 1, path, is_set=False)


def _of_list(field: FieldDescriptor, items: Any, depth: int, path: Path) -> Iterator[Scalar]:
    """Of each item, and of one more."""
    for i, item in enumerate(items):
        if field.message_type is None:
            yield Scalar((*path, i), field.type, True)
        else:
            yield from scalars(item, depth, (*path, i))
    if field.message_type is None:
        yield Scalar((*path, len(items)), field.type, False)
    elif depth:
        yield from scalars(field.message_type._concrete_class(), depth - 1, (*path, len(items)), is_set=False)


def _of_map(field: FieldDescriptor, table: Any, depth: int, path: Path) -> Iterator[Scalar]:
    """Of each value, and a key for the first or a new one."""
    key, kind = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for name, value in table.items():
        if kind.message_type is None:
            yield Scalar((*path, name), kind.type, True)
        else:
            yield from scalars(value, depth, (*path, name))
    yield Scalar((*path, "@"), key.type, bool(table))


def changed(message: Message, path: Path, value: Any) -> Any:
    """A copy of a message with another value of a scalar."""
    made = type(message)()
    made.CopyFrom(message)
    _change(made, path, value)
    return made


def _change(message: Any, path: Path, value: Any) -> None:
    name, rest = str(path[0]), path[1:]
    if name == "@":
        inner = unpack(message)
        _change(inner, rest, value)
        message.Pack(inner)
        return
    field = message.DESCRIPTOR.fields_by_name[name]
    inner = getattr(message, name)
    if not rest:
        setattr(message, name, value)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(inner, field.message_type.fields_by_name["value"], rest, value)
    elif field.is_repeated:
        _change_list(inner, field, rest, value)
    else:
        _change(inner, rest, value)


def _change_list(items: Any, field: FieldDescriptor, path: Path, value: Any) -> None:
    index = int(path[0])
    if field.message_type is not None:
        _change(items[index] if index < len(items) else items.add(), path[1:], value)
    elif index < len(items):
        items[index] = value
    else:
        items.append(value)


def _change_map(table: Any, kind: FieldDescriptor, path: Path, value: Any) -> None:
    if path[0] != "@":
        if kind.message_type is None:
            table[path[0]] = value
        else:
            _change(table[path[0]], path[1:], value)
        return
    first = next(iter(table), None)
    if kind.message_type is None:
        table[value] = kind.default_value if first is None else table.pop(first)
    elif first is None:
        table[value].SetInParent()
    else:
        table[value].CopyFrom(table[first])
        if first != value:
            del table[first]
