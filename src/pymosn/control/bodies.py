"""Small JSON bodies of the admin API: objects whose keys match in any case, as in MOSN. Every slip is an error."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec.structs import fields

from pymosn.config.diagnostics import closest
from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import ParseError, plain

T = TypeVar("T", bound=msgspec.Struct)


class BodyError(ValueError):
    """The body is not the expected object; the message is the reason."""


def read_object(body: bytes, cls: type[T]) -> T:
    """The body as a `cls`. BodyError for anything but a JSON object, unknown and repeated keys, and wrong types.

    Keys with the value null count as omitted.
    """
    try:
        top, repeated = parse_json(body.decode())
    except UnicodeDecodeError:
        raise BodyError("the body is not UTF-8") from None
    except ParseError as error:
        place = f" (line {error.line}, column {error.column})" if error.line else ""
        raise BodyError(f"the body is not JSON: {error.message}{place}") from None
    if top.kind != "object":
        raise BodyError("the body is not an object")
    names = {field.encode_name.lower(): field.encode_name for field in fields(cls)}
    found = {}
    for entry in top.entries:
        name = names.get(entry.key.lower())
        if name is None:
            hint = closest(entry.key, names.values())
            raise BodyError(f"unknown key {entry.key!r}" + (f"; did you mean {hint!r}?" if hint else ""))
        if name in found or any(key.key == entry.key for key in repeated):
            raise BodyError(f"the key {name!r} is repeated")
        if entry.node.kind != "null":
            found[name] = plain(entry.node)
    try:
        return msgspec.convert(found, cls)
    except msgspec.ValidationError as error:
        raise BodyError(f"the body is invalid: {error}") from None
