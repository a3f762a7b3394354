"""Converts a configuration back to MOSN's shape, without secrets."""

from typing import Any

import msgspec
from msgspec import inspect

from pymosn.config.diagnostics import REDACTED, is_secret
from pymosn.config.duration import format_duration
from pymosn.filters.settings import DURATION, Block


def dump(block: Block, *, defaults: bool = False) -> dict[str, Any]:
    """A block, such as a `MosnConfig`, a `Listener` or a `Cluster`, as JSON-like values with MOSN's keys.

    Durations are in Go's format (`1m0s`); values whose key names a secret are redacted. Keys with their default value are
    omitted unless `defaults` is set.
    """
    kind = inspect.type_info(type(block))
    assert isinstance(kind, inspect.StructType)
    return _struct(block, kind, defaults)


def _struct(block: Any, kind: inspect.StructType, defaults: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if kind.tag_field is not None:
        values[kind.tag_field] = kind.tag
    for field in kind.fields:
        value = getattr(block, field.name)
        if not defaults and value == _default(field):
            continue
        values[field.encode_name] = REDACTED if _hidden(field.encode_name, value) else _value(value, field.type, defaults)
    return values


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if callable(field.default_factory) else None


def _hidden(key: str, value: Any) -> bool:
    return bool(value) and not isinstance(value, (bool, Block)) and is_secret(key)


def _value(value: Any, kind: inspect.Type, defaults: bool) -> Any:
    if isinstance(kind, inspect.Metadata):
        if (kind.extra or {}).get(DURATION):
            return format_duration(value)
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kind = _member(value, kind)
    if isinstance(kind, inspect.StructType):
        return _struct(value, kind, defaults)
    if isinstance(value, list) and isinstance(kind, inspect.ListType):
        return [_value(item, kind.item_type, defaults) for item in value]
    return redacted(value)


def _member(value: Any, union: inspect.UnionType) -> inspect.Type:
    """The member of a union to which a value belongs."""
    for member in union.types:
        if isinstance(member, inspect.StructType) and type(value) is member.cls:
            return member
    return inspect.AnyType()


def redacted(value: Any) -> Any:
    """JSON-like values, redacted where the key names a secret."""
    if isinstance(value, dict):
        return {key: REDACTED if _hidden(str(key), item) else redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return value
