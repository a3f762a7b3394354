"""Converts a configuration back to MOSN's shape, without secrets."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

from pymosn.config.duration import format_duration
from pymosn.config.mosn_form import completed, is_shown
from pymosn.config.read import settings_class
from pymosn.config.schema.extensions import Extend
from pymosn.config.schema.http_chain import StreamFilter
from pymosn.config.schema.network_filters import PythonConfig
from pymosn.core.redaction import hidden, redacted
from pymosn.core.secrets import SECRET
from pymosn.filters.secret_fields import NO_PATHS, Path, Paths, secret_fields, without_marked
from pymosn.filters.settings import DURATION, Block
from pymosn.filters.stream.shipped import is_from_file

#: The fields that filters mark as secret, by `filter_id`.
Marks = Mapping[str, Paths]
_NO_MARKS: Final[Marks] = {}


def dump(block: Block, *, defaults: bool = False, like_mosn: bool = False, marks: Marks = _NO_MARKS) -> dict[str, Any]:
    """A block, such as a `MosnConfig`, a `Listener` or a `Cluster`, as JSON-like values with MOSN's keys.

    Durations are in Go's format (`1m0s`); secrets are redacted (`core/redaction.py`), among them the fields that filters
    mark. Keys with their default value are omitted unless `defaults` is set, or MOSN prints them and `like_mosn` is set.
    """
    return _Dump(defaults, like_mosn, marks).block(block)


def whole(block: Block) -> dict[str, Any]:
    """Like `dump`, with all secrets: only for files that are as secret."""
    kind = inspect.type_info(type(block))
    assert isinstance(kind, inspect.StructType)
    return _Dump(False, False, _NO_MARKS, shows_secrets=True).struct(block, kind)


def filter_id(entry: StreamFilter | PythonConfig | Extend) -> str:
    """The class of a filter or extension, as a text: those with the same text have the same fields."""
    if isinstance(entry, Extend):
        config = entry.config if isinstance(entry.config, dict) else {}
        return f"extension {config.get('name')} {config.get('path')} {config.get('class')}"
    if isinstance(entry, PythonConfig):
        return f"connection {entry.name} {entry.path} {entry.class_}"
    if not is_from_file(entry.type, entry.config):
        return entry.type
    return f"{entry.type} {entry.config.get('path')} {entry.config.get('class')}"


class _Dump:
    def __init__(self, defaults: bool, like_mosn: bool, marks: Marks, *, shows_secrets: bool = False) -> None:
        self._defaults = defaults
        self._shows_secrets = shows_secrets
        self._like_mosn = like_mosn
        self._marks = marks
        # Settings of filters by route have no known class: a field that any filter marks is hidden wherever it is.
        self._everywhere = {path[-1] for paths in marks.values() for path in paths if path and path[-1] != "*"}

    def block(self, block: Block) -> dict[str, Any]:
        """The block without secrets."""
        kind = inspect.type_info(type(block))
        assert isinstance(kind, inspect.StructType)
        found: dict[str, Any] = redacted(self.struct(block, kind))
        return found

    def struct(self, block: Any, kind: inspect.StructType) -> dict[str, Any]:
        """A block of a known kind, with the secrets that only their names reveal."""
        values: dict[str, Any] = {}
        if kind.tag_field is not None:
            values[kind.tag_field] = kind.tag
        for field in kind.fields:
            value = getattr(block, field.name)
            if self._is_shown(type(block), field, value):
                values[field.encode_name] = self._value(value, field.type)
        if self._like_mosn:
            completed(type(block), values)
        if self._shows_secrets:
            return values
        if values.get("config") and "config" in type(block).__struct_fields__:
            values["config"] = without_marked(values["config"], self._marked(block))
        if values.get("per_filter_config") and self._everywhere:
            values["per_filter_config"] = self._without_named(values["per_filter_config"])
        return values

    def _is_shown(self, cls: type, field: inspect.Field, value: Any) -> bool:
        if self._defaults or value != _default(field):
            return True
        return self._like_mosn and is_shown(cls, field.encode_name)

    def _marked(self, block: Any) -> set[Path]:
        """The marked fields of a `config` whose class depends on another key."""
        cls = settings_class(block)
        own = secret_fields(cls) if cls is not None else NO_PATHS
        is_filter = isinstance(block, StreamFilter | PythonConfig | Extend)
        return {*own, *(self._marks.get(filter_id(block), NO_PATHS) if is_filter else ())}

    def _without_named(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: hidden(item) if key in self._everywhere else self._without_named(item) for key, item in value.items()
            }
        return [self._without_named(item) for item in value] if isinstance(value, list) else value

    def _value(self, value: Any, kind: inspect.Type) -> Any:
        if isinstance(kind, inspect.Metadata):
            extra = kind.extra or {}
            if extra.get(DURATION):
                return format_duration(value)
            if extra.get(SECRET) and not self._shows_secrets:
                return hidden(value)
            kind = kind.type
        if isinstance(kind, inspect.UnionType):
            kind = _member(value, kind)
            if isinstance(kind, inspect.Metadata):
                return self._value(value, kind)
        if isinstance(kind, inspect.StructType):
            return self.struct(value, kind)
        if isinstance(value, list) and isinstance(kind, inspect.ListType):
            return [self._value(item, kind.item_type) for item in value]
        return value


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if callable(field.default_factory) else None


def _member(value: Any, union: inspect.UnionType) -> inspect.Type:
    """The member of a union to which a value belongs."""
    for member in union.types:
        if isinstance(member, inspect.StructType) and type(value) is member.cls:
            return member
        if isinstance(member, inspect.ListType) and isinstance(value, list):
            return member
        if isinstance(member, inspect.Metadata) and isinstance(value, float) and (member.extra or {}).get(DURATION):
            return member
    return inspect.AnyType()
