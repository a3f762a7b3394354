"""Messages whose settings our filters take in Envoy's own schema -> JSON, without a field that the filter does not know."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.typed import typed
from pymosn.control.xds.convert.view import View
from pymosn.filters.errors import FilterConfigError, problems_of
from pymosn.filters.loading import load_installed_connection_filter
from pymosn.filters.stream.shipped import spec_of

#: Full name of a message -> the fields that become JSON. A set field that is not listed rejects the resource.
Known = Mapping[str, tuple[str, ...]]

_WRAPPERS: Final = ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Double", "Float", "String", "Bytes")
_WRAPPED: Final = frozenset(f"google.protobuf.{name}Value" for name in _WRAPPERS)
_MATCHER: Final = "envoy.type.matcher.v3."

#: Conditions on texts, headers and metadata, as `filters/stream/envoy_match.py` and `dynamic_metadata.py` read them.
CONDITIONS: Final[Known] = {
    _MATCHER + "StringMatcher": ("exact", "prefix", "suffix", "contains", "safe_regex", "ignore_case"),
    _MATCHER + "ListStringMatcher": ("patterns",),
    _MATCHER + "RegexMatcher": ("google_re2", "regex"),
    _MATCHER + "RegexMatcher.GoogleRE2": (),
    _MATCHER + "PathMatcher": ("path",),
    _MATCHER + "MetadataMatcher": ("filter", "path", "value", "invert"),
    _MATCHER + "MetadataMatcher.PathSegment": ("key",),
    _MATCHER + "ValueMatcher": (
        *("null_match", "double_match", "string_match", "bool_match", "present_match", "list_match", "or_match"),
    ),
    _MATCHER + "ValueMatcher.NullMatch": (),
    _MATCHER + "ListMatcher": ("one_of",),
    _MATCHER + "OrMatcher": ("value_matchers",),
    _MATCHER + "DoubleMatcher": ("range", "exact"),
    _MATCHER + "FilterStateMatcher": ("key", "string_match"),
    "envoy.type.v3.DoubleRange": ("start", "end"),
    "envoy.type.v3.Int32Range": ("start", "end"),
    "envoy.type.v3.Int64Range": ("start", "end"),
    "envoy.config.core.v3.CidrRange": ("address_prefix", "prefix_len"),
    "envoy.config.route.v3.HeaderMatcher": (
        *("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match"),
        *("contains_match", "string_match", "invert_match", "treat_missing_header_as_empty"),
    ),
}
#: An absent length of a prefix is 0 in Envoy: all addresses. Our filters require it.
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {"envoy.config.core.v3.CidrRange": {"prefix_len": 0}}


def as_json(view: View, known: Known) -> dict[str, Any]:
    """The fields of a message that are set and known, by their names in the .proto file."""
    with view:
        made = {name: _value(view, name, known) for name in known.get(view.type_name, ()) if view.has(name)}
    return {**_DEFAULTS.get(view.type_name, {}), **made}


def _value(view: View, name: str, known: Known) -> Any:
    field: FieldDescriptor = view.message.DESCRIPTOR.fields_by_name[name]
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return _table(view, name, inner.fields_by_name["value"], known)
    if inner is None:
        if field.is_repeated:
            return view.values(name)
        return _scalar(view, name, field)
    if inner.full_name in _WRAPPED:
        return view.wrapped(name)
    if inner.full_name == "google.protobuf.Duration":
        return f"{view.seconds(name) or 0.0:f}s"
    if inner.full_name == "google.protobuf.Struct":
        return view.struct(name)
    if field.is_repeated:
        return [as_json(item, known) for item in view.items(name)]
    found = view.inner(name)
    return {} if found is None else as_json(found, known)


def _scalar(view: View, name: str, field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return view.enum(name)
    value = view.value(name)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _table(view: View, name: str, value: FieldDescriptor, known: Known) -> dict[str, Any]:
    found = view.table(name)
    if value.message_type is None:
        return found
    return {key: as_json(view.entry(name, key, found[key]), known) for key in sorted(found)}


def check_settings(view: View, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Reports what a shipped filter would reject in its settings, which were made from a message; returns them."""
    spec = spec_of(name)
    if not view.report.faults:
        _check(view, config, spec.settings, spec.make)
    return config


def check_route_settings(view: View, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The same for settings of a route."""
    route = spec_of(name).route
    assert route is not None
    if not view.report.faults:
        _check(view, config, route.settings, route.make)
    return config


def check_connection_settings(view: View, name: str, config: dict[str, Any]) -> None:
    """The same for settings of a connection filter of ours."""
    if not view.report.faults:
        try:
            load_installed_connection_filter(name, dict(config))
        except FilterConfigError as error:
            for path, text in problems_of(error):
                view.fault(path.lstrip("."), text)


def _check(view: View, config: dict[str, Any], settings: Any, make: Any) -> None:
    diagnostics = Diagnostics()
    block = typed(config, settings, diagnostics)
    errors = [fault for fault in diagnostics.items if fault.severity == "error"]
    for fault in errors:
        view.fault(fault.path.lstrip("."), fault.message)
    if errors or make is None:
        return
    try:
        make(block)
    except FilterConfigError as error:
        for path, text in problems_of(error):
            view.fault(path.lstrip("."), text)
