"""Describes the `Config` of a filter, as JSON Schema and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pymosn.core.redaction import hidden, redacted
from pymosn.core.secrets import names_secret

Schema = dict[str, Any]


class Field(msgspec.Struct, kw_only=True):
    """One key of a configuration. `default`: as JSON; empty for a required key."""

    name: str
    type: str
    default: str = ""
    about: str = ""


def config_schema(kind: Any) -> Schema | None:
    """JSON Schema of a msgspec.Struct, a dataclass, a TypedDict or a pydantic model; None if there is no `Config`.

    Raises TypeError for any other type.
    """
    if kind is None:
        return None
    if hasattr(kind, "model_json_schema"):  # pydantic
        schema: Schema = kind.model_json_schema()
    else:
        schema = msgspec.json.schema(kind)
    _hide_defaults(schema)
    return schema


def _hide_defaults(schema: Any) -> None:
    """Removes the default values of secrets: `writeOnly` marks them."""
    if isinstance(schema, list):
        for item in schema:
            _hide_defaults(item)
    elif isinstance(schema, dict):
        for name, entry in schema.get("properties", {}).items():
            if "default" in entry:
                is_secret = _is_marked(entry) or names_secret(name, entry["default"])
                entry["default"] = hidden(entry["default"]) if is_secret else redacted(entry["default"])
        for inner in schema.values():
            _hide_defaults(inner)


def _is_marked(entry: Any) -> bool:
    if isinstance(entry, list):
        return any(_is_marked(item) for item in entry)
    return isinstance(entry, dict) and (bool(entry.get("writeOnly")) or any(_is_marked(inner) for inner in entry.values()))


def fields(schema: Schema) -> list[Field]:
    """The keys of an object's schema, required keys first."""
    named: Mapping[str, Schema] = schema.get("$defs", {})
    top = _resolved(schema, named)
    required = set(top.get("required", ()))
    found = [
        Field(
            name=name,
            type=type_text(entry, named),
            default="" if name in required else _default(entry),
            about=str(entry.get("description", "")).partition("\n")[0],
        )
        for name, entry in top.get("properties", {}).items()
    ]
    return sorted(found, key=lambda field: field.name not in required)


def _resolved(schema: Schema, named: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return named[str(reference).rpartition("/")[2]]


def _default(entry: Schema) -> str:
    return json.dumps(entry["default"]) if "default" in entry else "computed by the filter"


def type_text(schema: Schema, named: Mapping[str, Schema]) -> str:
    """A description of a type: `integer, at least 1`, `list of string`, `"a" or "b"`."""
    if "$ref" in schema:
        target = _resolved(schema, named)
        name = str(schema["$ref"]).rpartition("/")[2]
        return type_text(target, named) if "enum" in target else name
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(type_text(entry, named) for entry in schema[key])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {type_text(schema.get('items') or {}, named)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_text(schema['additionalProperties'], named)}"
    return ", ".join([kind, *_bounds(schema)])


def _bounds(schema: Schema) -> list[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "pattern": "like {}",
    }
    return [text.format(schema[key]) for key, text in words.items() if key in schema]
