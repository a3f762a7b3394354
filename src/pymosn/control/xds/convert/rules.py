"""The rules of protoc-gen-validate that the fields of Envoy's messages have: ranges, lengths, patterns.

Envoy enforces them before it reads a message. They are read from the descriptors, so that each field of each converter has
them. `View.close` checks the fields that are set by `broken`; what a message needs is decided by its converter.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from ipaddress import ip_address
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from validate import validate_pb2

#: What is wrong with a value; empty if nothing is.
Test = Callable[[Any], str]

_NUMBERS: Final = (
    "float",
    "double",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "sint32",
    "sint64",
    "fixed32",
    "fixed64",
    "sfixed32",
    "sfixed64",
)
#: Limits of numbers and durations: key, words, and whether a value is within it.
_LIMITS: Final[tuple[tuple[str, str, Callable[[Any, Any], bool]], ...]] = (
    ("gt", "above", operator.gt),
    ("gte", "at least", operator.ge),
    ("lt", "below", operator.lt),
    ("lte", "at most", operator.le),
)
_NAME: Final = re.compile(r":?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\n-\x1f\x7f]*")
_LINE: Final = re.compile(r"[^\x00\n\r]*")
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def broken(message: Message, fields: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The fields, by their names, whose rules are broken, and how. `fields`: those that are set."""
    tests = tests_of(message.DESCRIPTOR)
    if tests:
        for name in fields:
            test = tests.get(name)
            why = "" if test is None else test(getattr(message, name))
            if why:
                yield name, why


@cache
def tests_of(kind: Descriptor) -> Mapping[str, Test]:
    """The tests of the fields of a type."""
    if kind.GetOptions().Extensions[validate_pb2.disabled] or kind.GetOptions().Extensions[validate_pb2.ignored]:
        return {}
    tests: dict[str, Test] = {}
    for field in kind.fields:
        if field.GetOptions().HasExtension(validate_pb2.rules):
            test = _test_of(field.GetOptions().Extensions[validate_pb2.rules], field)
            if test is not None:
                tests[field.name] = test
    return tests


def _test_of(rules: Any, field: FieldDescriptor) -> Test | None:
    """The test of a field, or of the items of one; None if there is nothing to test."""
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        return _repeated(rules.repeated, field)
    if kind == "map":
        return _map(rules.map, field)
    test = _scalar(rules, kind, field)
    if test is None:
        return None
    if field.message_type is not None and field.message_type.full_name in _WRAPPERS:
        inner = test
        return lambda wrapper: inner(wrapper.value)
    return test


def _scalar(rules: Any, kind: str | None, field: FieldDescriptor) -> Test | None:
    own = None if kind is None else getattr(rules, kind)
    if kind in _NUMBERS:
        tests = [*_limits(own, lambda limit: limit), *_const(own), *_allowed(own)]
    elif kind == "string":
        tests = [*_string(own), *_const(own), *_allowed(own)]
    elif kind == "bytes":
        tests = _sizes(own, "min_len", "max_len", len, "bytes")
    elif kind == "enum":
        tests = [*(_defined(field) if rules.enum.defined_only else ()), *_const(own), *_allowed(own)]
    elif kind == "duration":
        tests = [_of_part(_seconds, test) for test in _limits(own, _seconds)]
    elif kind == "bool":
        tests = _const(own)
    elif kind == "any":
        tests = [_of_part(_type_url, test) for test in _allowed(own)]
    else:
        return None
    return _all_of(tests, own is not None and kind in (*_NUMBERS, "string", "bytes") and own.ignore_empty)


def _all_of(tests: list[Test], ignores_empty: bool = False) -> Test | None:
    """One test of several. `ignores_empty`: an empty value passes."""
    if not tests:
        return None
    if len(tests) == 1 and not ignores_empty:
        return tests[0]

    def all_tests(found: Any) -> str:
        if ignores_empty and not found:
            return ""
        for test in tests:
            why = test(found)
            if why:
                return why
        return ""

    return all_tests


def _limits(rules: Any, value_of: Callable[[Any], Any]) -> list[Test]:
    """The tests of a range. `value_of`: of a limit."""
    tests: list[Test] = []
    for key, words, holds in _LIMITS:
        if rules.HasField(key):
            tests.append(_limit(value_of(getattr(rules, key)), words, holds))
    return tests


def _limit(limit: Any, words: str, holds: Callable[[Any, Any], bool]) -> Test:
    return lambda found: "" if holds(found, limit) else f"must be {words} {limit}"


def _of_part(part: Callable[[Any], Any], test: Test) -> Test:
    return lambda found: test(part(found))


def _type_url(packed: Any) -> str:
    return str(packed.type_url)


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _const(rules: Any) -> list[Test]:
    if not rules.HasField("const"):
        return []
    expected = rules.const
    return [lambda found: "" if found == expected else f"must be {expected!r}"]


def _allowed(rules: Any) -> list[Test]:
    allowed, forbidden = frozenset(getattr(rules, "in")), frozenset(rules.not_in)
    if not allowed and not forbidden:
        return []
    return [
        lambda found: (
            f"the value {found!r} is not allowed" if (allowed and found not in allowed) or found in forbidden else ""
        )
    ]


def _defined(field: FieldDescriptor) -> list[Test]:
    known = frozenset(field.enum_type.values_by_number)
    return [lambda number: "" if number in known else f"unknown value {number}"]


def _sizes(rules: Any, least: str, most: str, size: Callable[[Any], int], what: str) -> list[Test]:
    """The tests of a size, which is counted by `size`."""
    tests: list[Test] = []
    if rules.HasField(least):
        low = getattr(rules, least)
        few = "must not be empty" if low == 1 else f"must have at least {low} {what}"
        tests.append(lambda found: "" if size(found) >= low else few)
    if rules.HasField(most):
        high = getattr(rules, most)
        tests.append(lambda found: "" if size(found) <= high else f"must have at most {high} {what}")
    return tests


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _string(rules: Any) -> list[Test]:
    tests = _sizes(rules, "min_len", "max_len", len, "characters")
    tests += _sizes(rules, "min_bytes", "max_bytes", _bytes, "bytes")
    if rules.HasField("len"):
        exact = rules.len
        tests.append(lambda text: "" if len(text) == exact else f"must have {exact} characters")
    if rules.pattern:
        pattern = re.compile(rules.pattern)
        tests.append(lambda text: "" if pattern.search(text) else f"does not match {pattern.pattern}")
    start, end, inner, never = rules.prefix, rules.suffix, rules.contains, rules.not_contains
    if start or end:
        words = f"must begin with {start!r} and end with {end!r}"
        tests.append(lambda text: "" if text.startswith(start) and text.endswith(end) else words)
    if inner:
        tests.append(lambda text: "" if inner in text else f"must contain {inner!r}")
    if never:
        tests.append(lambda text: "" if never not in text else f"must not contain {never!r}")
    return tests + _well_known(rules)


def _well_known(rules: Any) -> list[Test]:
    kind = rules.WhichOneof("well_known")
    if kind in ("ip", "ipv4", "ipv6") and getattr(rules, kind):
        return [lambda text: _address(text, kind)]
    if kind != "well_known_regex":
        return []  # `uri` and the like: the converters read them
    if not rules.strict:
        return [lambda text: "" if _LINE.fullmatch(text) else "must not contain CR, LF or NUL"]
    if rules.well_known_regex == validate_pb2.HTTP_HEADER_NAME:
        return [lambda text: "" if _NAME.fullmatch(text) else "not a name of a header"]
    return [lambda text: "" if _VALUE.fullmatch(text) else "not a value of a header"]


def _address(text: str, kind: str) -> str:
    try:
        version = ip_address(text).version
    except ValueError:
        return "not an IP address"
    return "" if kind in ("ip", f"ipv{version}") else f"not an address of {kind}"


def _repeated(rules: Any, field: FieldDescriptor) -> Test | None:
    tests = _sizes(rules, "min_items", "max_items", len, "items")
    if rules.unique:
        tests.append(lambda items: "" if len({str(each) for each in items}) == len(items) else "has an item more than once")
    item = _test_of(rules.items, field) if rules.HasField("items") else None
    if item is not None:
        tests.append(lambda items: next((f"item {i}: {why}" for i, each in enumerate(items) if (why := item(each))), ""))
    return _all_of(tests, rules.ignore_empty)


def _map(rules: Any, field: FieldDescriptor) -> Test | None:
    tests = _sizes(rules, "min_pairs", "max_pairs", len, "entries")
    entry = field.message_type.fields_by_name
    key = _test_of(getattr(rules, "keys"), entry["key"]) if rules.HasField("keys") else None  # noqa: B009
    value = _test_of(getattr(rules, "values"), entry["value"]) if rules.HasField("values") else None  # noqa: B009
    if key is not None:
        tests.append(lambda items: next((why for each in items if (why := key(each))), ""))
    if value is not None:
        tests.append(lambda items: next((why for each in items if (why := value(items[each]))), ""))
    return _all_of(tests, rules.ignore_empty)
