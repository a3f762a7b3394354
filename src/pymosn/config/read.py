"""Reads nodes as schema blocks. Invalid values are reported, and the rest of the file is read nevertheless."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from pymosn.config.diagnostics import Diagnostics, Place, Severity, closest
from pymosn.config.duration import parse_duration
from pymosn.config.mosn_form import is_not_given
from pymosn.config.nodes import Entry, Node, plain
from pymosn.config.schema.cluster import AllowedDestination, OriginalDstConfig
from pymosn.config.schema.extensions import EXTENDS, Extend
from pymosn.config.schema.http_chain import StreamFilter
from pymosn.config.schema.network_filters import ProtocolSettings, ProxyConfig, protocols_with
from pymosn.config.schema.observability import METRICS_SINKS, TRACE_DRIVERS, MetricsSink, Tracing
from pymosn.config.schema.router import RouteMatch, VariableMatch
from pymosn.config.schema.server import FilterChain, Listener, ListenerFilter
from pymosn.config.schema.stream_filters import LISTENER_FILTERS, stream_filter_settings
from pymosn.config.schema.tls import TlsContext
from pymosn.config.schema.top import Admin
from pymosn.filters.settings import (
    AT_MOST,
    DURATION,
    NEGATIVE,
    NOTE,
    QUIET,
    STATE,
    ZERO_IS_DEFAULT,
    Block,
    EnvoyBlock,
    HeaderMatch,
    State,
    StrictBlock,
)

B = TypeVar("B", bound=Block)

# Blocks whose `config` has a schema selected by another key: that key, and the lookup of its value.
_BY_NAME: Final[dict[type, tuple[str, Callable[[str], type[Block] | None]]]] = {
    StreamFilter: ("type", stream_filter_settings),
    ListenerFilter: ("type", LISTENER_FILTERS.get),
    Extend: ("type", EXTENDS.get),
    MetricsSink: ("type", METRICS_SINKS.get),
    Tracing: ("driver", TRACE_DRIVERS.get),
}
_EXPECTED: Final = {
    inspect.StrType: "a string",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
}
_PLAIN: Final = {inspect.BoolType: bool, inspect.StrType: str}
_CONTAINERS: Final = {inspect.StructType: "object", inspect.DictType: "object", inspect.ListType: "array"}


class _Unset:
    """The result for an invalid value: the block keeps the key's default."""


_UNSET: Final = _Unset()


class Reader:
    """Reads the nodes of one file. Adds errors, and the location of every value, to `faults`."""

    def __init__(self, file: str, faults: Diagnostics, strict: bool = False) -> None:
        self._file = file
        self._faults = faults
        self._unknown_key: Severity = "error" if strict else "warning"
        self._fields: dict[type, dict[str, inspect.Field]] = {}
        #: The lines and columns of repeated keys that need no further report.
        self.resolved: set[tuple[int, int]] = set()
        # Depth inside keys without effect, where the inner keys need no further warnings.
        self._without_effect = 0
        # Depth inside settings of filters, whose keys must not be given twice.
        self._in_settings = 0

    def block(self, node: Node, cls: type[B], path: str) -> B:
        """The block of class `cls` in `node`; invalid values get their defaults."""
        block = self._value(node, _type_info(cls), path)
        return block if isinstance(block, cls) else cls()

    def place(self, at: Node | Entry) -> Place:
        """The location of a node or key."""
        return Place(self._file, at.line, at.column)

    def _value(self, node: Node, kind: inspect.Type, path: str) -> Any:
        self._faults.places[path] = self.place(node)
        extra: dict[str, Any] = {}
        if isinstance(kind, inspect.Metadata):
            extra, kind = kind.extra or {}, kind.type
        if node.kind == "null":
            # Go ignores a key whose value is null.
            return _UNSET
        if extra.get(ZERO_IS_DEFAULT) and is_zero(node):
            return _UNSET
        if extra.get(DURATION):
            return self._duration(node, path, extra)
        if extra.get(AT_MOST):
            return self._limited(node, kind, path, extra[AT_MOST])
        container = _CONTAINERS.get(type(kind))
        if container is not None and node.kind != container:
            return self._wrong_type(node, f"an {container}", path)
        reader: Callable[[Reader, Node, Any, str], Any] = _READERS.get(type(kind), Reader._scalar)
        return reader(self, node, kind, path)

    def _error(self, node: Node, path: str, message: str, suggestion: str | None = None) -> _Unset:
        value = node.value if node.kind not in ("object", "array") else ...
        self._faults.add("error", path, message, value, suggestion, self.place(node))
        return _UNSET

    def _wrong_type(self, node: Node, expected: str, path: str) -> _Unset:
        article = "an" if node.kind in ("object", "array") else "a"
        return self._error(node, path, f"expected {expected}, got {article} {node.kind}")

    def _scalar(self, node: Node, kind: inspect.Type, path: str) -> Any:
        value = node.value
        if _PLAIN.get(type(kind)) is type(value):
            return value
        if isinstance(kind, inspect.FloatType) and node.kind == "number" and isinstance(value, (int, float)):
            return self._bounded(node, float(value), kind, path)
        if isinstance(kind, inspect.IntType) and node.kind == "number" and isinstance(value, int):
            return self._bounded(node, value, kind, path)
        return self._wrong_type(node, _EXPECTED.get(type(kind), "another type"), path)

    def _word(self, node: Node, kind: inspect.LiteralType, path: str) -> Any:
        words = [str(value) for value in kind.values]
        if node.value in words:
            return node.value
        return self._error(node, path, f"must be one of {', '.join(filter(None, words))}", closest(str(node.value), words))

    def _bounded(self, node: Node, value: float, kind: inspect.IntType | inspect.FloatType, path: str) -> Any:
        low, high = (-(2**63), 2**63 - 1) if isinstance(kind, inspect.IntType) else (-math.inf, math.inf)
        low = low if kind.ge is None else kind.ge
        high = high if kind.le is None else kind.le
        if low <= value <= high:
            return value
        return self._error(node, path, f"must be {low} or more" if value < low else f"must be {high} or less")

    def _limited(self, node: Node, kind: inspect.Type, path: str, effect: str) -> Any:
        """A number, or the largest one instead of a larger one."""
        most = kind.le if isinstance(kind, inspect.FloatType) else None
        if most is not None and node.kind == "number" and isinstance(node.value, (int, float)) and node.value > most:
            self._faults.odd(path, f"more than {most:g}: {effect}", node.value)
            return float(most)
        return self._scalar(node, kind, path)

    def _duration(self, node: Node, path: str, extra: dict[str, Any]) -> Any:
        """Seconds. `extra`: the marks of the key in the schema."""
        if node.kind == "number":
            message = f'a duration needs a unit, such as "{node.value}s" or "{node.value}ms"'
            return self._error(node, path, message) if node.value else 0.0
        if not isinstance(node.value, str):
            return self._wrong_type(node, 'a duration such as "15s"', path)
        try:
            seconds = parse_duration(node.value.strip('"'))
        except ValueError as error:
            return self._error(node, path, str(error))
        if seconds >= 0:
            return seconds
        if NEGATIVE not in extra:
            return self._error(node, path, "must not be negative")
        effect, substitute = extra[NEGATIVE]
        self._faults.odd(path, f"negative: {effect}", node.value)
        return substitute

    def _union(self, node: Node, kind: inspect.UnionType, path: str) -> Any:
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(members) == 1:
            return self._value(node, members[0], path)
        lists = [member for member in members if isinstance(member, inspect.ListType)]
        if lists:
            # One block, or an array of them.
            others = [member for member in members if member not in lists]
            if node.kind == "string":
                others.sort(key=lambda member: not isinstance(member, inspect.StrType))
            return self._value(node, (lists if node.kind == "array" else others)[0], path)
        blocks = [member for member in members if isinstance(member, inspect.StructType)]
        texts = [member for member in members if isinstance(member, inspect.StrType)]
        if blocks and texts:
            return self._value(node, (texts if node.kind == "string" else blocks)[0], path)
        if blocks:
            return self._tagged(node, {member.tag: member for member in blocks}, path)
        # The remaining case is `processor`: a number or a string.
        return node.value if node.kind in ("number", "string") else self._wrong_type(node, "a number or a string", path)

    def _tagged(self, node: Node, tagged: dict[Any, inspect.StructType], path: str) -> Any:
        if node.kind != "object":
            return self._wrong_type(node, "an object", path)
        entry = node.entry("type")
        if entry is None:
            return self._error(node, path, 'a network filter needs a "type"')
        name = entry.node.value
        if name in tagged:
            return self._struct(node, tagged[name], path)
        message = "unknown network filter; rejected, because traffic must not pass without it"
        self._error(entry.node, f"{path}.type", message, closest(str(name), tagged))
        self._faults.mark_bad(path)
        return _UNSET

    def _list(self, node: Node, kind: inspect.ListType, path: str) -> Any:
        values = [self._value(item, kind.item_type, f"{path}[{i}]") for i, item in enumerate(node.items)]
        if isinstance(kind.item_type, inspect.LiteralType):
            for i, item in enumerate(node.items):
                if item.kind == "null":  # not a word
                    self._word(item, kind.item_type, f"{path}[{i}]")
        # An invalid entry keeps its index, so that the paths of the following ones stay correct.
        return [_placeholder(kind.item_type) if value is _UNSET else value for value in values]

    def _dict(self, node: Node, kind: inspect.DictType, path: str) -> Any:
        values = {}
        for entry in node.entries:
            if isinstance(kind.value_type, inspect.AnyType):
                self._note_places(entry.node, f"{path}.{entry.key}")
                values[entry.key] = plain(entry.node)
                continue
            value = self._value(entry.node, kind.value_type, f"{path}.{entry.key}")
            if value is not _UNSET:
                values[entry.key] = value
        return values

    def _note_places(self, node: Node, path: str) -> None:
        """Records the locations inside an untyped value, for errors that are found in it later."""
        self._faults.places[path] = self.place(node)
        for entry in node.entries:
            self._note_places(entry.node, f"{path}.{entry.key}")
        for i, item in enumerate(node.items):
            self._note_places(item, f"{path}[{i}]")

    def _struct(self, node: Node, kind: inspect.StructType, path: str) -> Any:
        if kind.cls is ProxyConfig:
            _key_by_protocol(node)
        values: dict[str, Any] = {}
        for field, entry in self._match_keys(node, kind, path):
            if is_not_given(kind.cls, field.encode_name, entry.node):
                continue
            inner = _join(path, field.encode_name)
            effect = _effect(field)
            self._without_effect += bool(effect)
            value = self._value(entry.node, field.type, inner)
            self._without_effect -= bool(effect)
            if value is _UNSET:
                continue
            values[field.name] = value
            if effect and not self._without_effect and _is_significant(field, value):
                self._faults.warning(inner, effect, at=self.place(entry))
        block = kind.cls(**values)
        self._read_config_by_name(node, block, path)
        return block

    def _fields_of(self, kind: inspect.StructType) -> dict[str, inspect.Field]:
        if kind.cls not in self._fields:
            self._fields[kind.cls] = {_folded(field.encode_name, kind): field for field in kind.fields}
        return self._fields[kind.cls]

    def _match_keys(self, node: Node, kind: inspect.StructType, path: str) -> list[tuple[inspect.Field, Entry]]:
        """The entries with known keys; unknown keys are reported."""
        fields = self._fields_of(kind)
        matched: dict[str, tuple[inspect.Field, Entry]] = {}
        for entry in node.entries:
            folded = _folded(entry.key.strip(), kind)
            field = fields.get(folded)
            if field is None:
                if folded == "go_plugin_config" and entry.node.kind == "null":
                    continue  # MOSN writes it for filters of every kind
                if folded != kind.tag_field and not getattr(kind.cls, "open_keys", False):
                    self._report_unknown(entry, fields, path, kind.cls)
                continue
            key = field.encode_name
            other = matched[key][1] if key in matched else None
            if other is not None and not self._in_settings and _last_holds(kind, other, entry):
                self._faults.odd(_join(path, key), f"key given twice (line {other.line}): the last one holds, as in MOSN")
                self.resolved.add((entry.line, entry.column))
                matched[key] = field, other if entry.node.kind == "null" else entry
                continue
            if other is not None and other.key != entry.key:
                message = f'duplicate of key "{other.key}" on line {other.line}; keys match in any case'
                self._faults.error(_join(path, entry.key), message, at=self.place(entry))
            if other is None or other.key != key or entry.key == key:
                matched[key] = field, entry
        return list(matched.values())

    def _report_unknown(self, entry: Entry, fields: dict[str, inspect.Field], path: str, cls: type) -> None:
        is_envoy = issubclass(cls, StrictBlock)
        hint = closest(entry.key, [field.encode_name for field in fields.values()])
        severity: Severity = "error" if is_envoy else self._unknown_key
        message = "unknown key, ignored"
        homes = protocols_with(entry.key.strip().lower()) if cls is ProtocolSettings else []
        if homes:
            hint = None
            message += f": with several protocols it must be in the object of one, {' or '.join(homes)}"
        elif is_envoy:
            message = "unknown or unsupported key; rejected, because ignoring it could grant access"
        self._faults.add(severity, _join(path, entry.key), message, suggestion=hint, at=self.place(entry))

    def _read_config_by_name(self, node: Node, block: Any, path: str) -> None:
        """Checks a `config` whose schema depends on another key. The block keeps the untyped values."""
        schema = settings_class(block)
        entry = node.entry("config")
        if schema is not None and entry is not None and entry.node.kind != "null":
            self._in_settings += 1
            self._value(entry.node, _type_info(schema), f"{path}.config")
            self._in_settings -= 1


@cache
def _type_info(cls: type[Block]) -> inspect.Type:
    """What msgspec knows about a class, which takes a millisecond to collect."""
    return inspect.type_info(cls)


def settings_class(block: object) -> type[Block] | None:
    """The class of a block's `config` if that depends on another key of the block; None if it does not, or is unknown."""
    if type(block) not in _BY_NAME:
        return None
    name_key, schema_of = _BY_NAME[type(block)]
    return schema_of(getattr(block, name_key))


_READERS: Final[dict[type[inspect.Type], Callable[[Reader, Node, Any, str], Any]]] = {
    inspect.UnionType: Reader._union,
    inspect.LiteralType: Reader._word,
    inspect.AnyType: lambda reader, node, kind, path: plain(node),
    inspect.StructType: Reader._struct,
    inspect.ListType: Reader._list,
    inspect.DictType: Reader._dict,
}


#: Blocks that decide which traffic passes.
_GUARDS: Final = (
    StrictBlock,
    TlsContext,
    Admin,
    StreamFilter,
    ListenerFilter,
    Listener,
    FilterChain,
    RouteMatch,
    HeaderMatch,
    VariableMatch,
    OriginalDstConfig,
    AllowedDestination,
)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _last_holds(kind: inspect.StructType, first: Entry, second: Entry) -> bool:
    """Whether of two entries with one key the last one is used, as in MOSN: values that are neither objects nor arrays,

    which Go merges. Not where a mistake could let requests pass a filter or a condition, or do without TLS.
    """
    guards = issubclass(kind.cls, _GUARDS) or kind.tag_field is not None
    containers = ("object", "array")
    return not guards and first.node.kind not in containers and second.node.kind not in containers


def _folded(key: str, kind: inspect.StructType) -> str:
    """Keys match in any case, and in Envoy's objects also with or without underscores."""
    return key.lower().replace("_", "") if issubclass(kind.cls, EnvoyBlock) else key.lower()


def is_zero(node: Node) -> bool:
    """Whether a number or duration is 0."""
    if node.kind == "number":
        return node.value == 0
    try:
        return isinstance(node.value, str) and parse_duration(node.value.strip('"')) == 0
    except ValueError:
        return False


def _placeholder(kind: inspect.Type) -> Any:
    """The substitute for an entry of an array that is null or invalid."""
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kind = kind.types[0]
    if isinstance(kind, inspect.StructType):
        return kind.cls()
    empty: dict[type, Any] = {inspect.StrType: "", inspect.IntType: 0, inspect.ListType: [], inspect.DictType: {}}
    return empty.get(type(kind))


def _effect(field: inspect.Field) -> str:
    """The warning about a key without effect; empty for others."""
    extra = (field.type.extra or {}) if isinstance(field.type, inspect.Metadata) else {}
    state = extra.get(STATE, State.WORKS)
    if state is State.WORKS or extra.get(QUIET):
        return ""
    note = f": {extra[NOTE]}" if extra.get(NOTE) else ""
    return ("has no effect in this version yet" if state is State.PLANNED else "has no effect") + note


def _is_significant(field: inspect.Field, value: Any) -> bool:
    """Whether a value differs from an omitted key."""
    if value in ("", 0, False) or value == [] or value == {} or value == field.default:
        return False
    return not (isinstance(value, Block) and msgspec.to_builtins(value) == {})


def _key_by_protocol(node: Node) -> None:
    """Moves a flat `extend_config` below its protocol's name (allowed for one protocol other than Auto)."""
    protocol = node.entry("downstream_protocol")
    extend = node.entry("extend_config")
    if protocol is None or extend is None or extend.node.kind != "object":
        return
    name = str(protocol.node.value)
    known = {field.encode_name.lower() for field in msgspec.structs.fields(ProtocolSettings)} - {"http2_use_stream"}
    single = name.lower() in known and name != "sub_protocol"
    if not single or any(entry.key.lower() in known for entry in extend.node.entries):
        return
    flat = extend.node
    extend.node = Node("object", flat.line, flat.column, entries=[Entry(name, flat.line, flat.column, flat)])
