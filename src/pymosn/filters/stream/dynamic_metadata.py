"""Dynamic metadata in Envoy's sense: facts about a request that one filter notes and later ones judge by.

Values are those of JSON, by the name of the filter that has noted them (a namespace).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.filters.stream.envoy_match import Condition, EnvoyObject, never, text_test

_KEY: Final = "dynamic metadata"
ValueTest = Callable[[object], bool]


def note_metadata(exchange: Exchange, namespace: str, values: dict[str, object]) -> None:
    """Adds values to those of a namespace; a value with the same key is replaced."""
    noted = exchange.state.get(_KEY)
    if not isinstance(noted, dict):
        noted = exchange.state[_KEY] = {}
    noted.setdefault(namespace, {}).update(values)


def metadata_value(exchange: Exchange, namespace: str, path: list[str]) -> object | None:
    """The value at a path of keys; None without one."""
    found: object = exchange.state.get(_KEY)
    for key in (namespace, *path):
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def metadata_test(source: EnvoyObject) -> Condition:
    """A MetadataMatcher (envoy.type.matcher.v3)."""
    with source:
        namespace = source.take("filter", str, "")
        source.problems.require(namespace, f"{source.path}.filter", "the namespace is missing")
        path = metadata_path(source)
        inverts = source.take("invert", bool, False)
        if "value" not in source:
            source.problems.add(source.path, "the condition on the value is missing")
            return never
        test = value_test(source.inner("value"))
    return partial(_has_value, namespace, path, test, inverts)


def metadata_path(source: EnvoyObject) -> list[str]:
    """The keys in `path`: a list of objects with `key`."""
    keys: list[str] = []
    values, where = source.value("path") if "path" in source else ([], f"{source.path}.path")
    if not isinstance(values, list) or not values:
        source.problems.add(where, "must not be empty")
        return keys
    for i, value in enumerate(values):
        with EnvoyObject(value, f"{where}[{i}]", source.problems) as segment:
            keys.append(segment.take("key", str, ""))
    return keys


def _has_value(namespace: str, path: list[str], test: ValueTest, inverts: bool, exchange: Exchange, _reading: bool) -> bool:
    return test(metadata_value(exchange, namespace, path)) is not inverts


def value_test(source: EnvoyObject) -> ValueTest:
    """A ValueMatcher (envoy.type.matcher.v3). A missing value only matches `null_match`."""
    with source:
        if "string_match" in source:
            test = text_test(source.inner("string_match"))
            return lambda value: isinstance(value, str) and test(value)
        if "bool_match" in source:
            expected = source.take("bool_match", bool, False)
            return lambda value: value is expected
        if "present_match" in source:
            is_present = source.take("present_match", bool, False)
            return lambda value: is_present and value is not None
        if "null_match" in source:
            source.inner("null_match")
            return lambda value: value is None
        if "double_match" in source:
            return _number_test(source.inner("double_match"))
        if "list_match" in source:
            with source.inner("list_match") as inner:
                if "one_of" in inner:
                    one = value_test(inner.inner("one_of"))
                    return lambda value: isinstance(value, list) and any(one(item) for item in value)
        if "or_match" in source:
            tests = [value_test(EnvoyObject(*part, source.problems)) for part in source.items("or_match", "value_matchers")]
            return lambda value: any(test(value) for test in tests)
        source.problems.add(source.path, "no supported condition on a value")
    return lambda _value: False


def _number_test(source: EnvoyObject) -> ValueTest:
    """A DoubleMatcher."""
    with source:
        if "range" in source:
            with source.inner("range") as limits:
                start, end = limits.take("start", float, 0.0), limits.take("end", float, 0.0)
            return lambda value: _is_number(value) and start <= value < end
        exact = source.take("exact", float, 0.0)
    return lambda value: _is_number(value) and value == exact


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
