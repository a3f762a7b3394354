"""Envoy's conditions on texts and headers, for `rbac` and `jwt_authn` (envoy.type.matcher.v3, route.v3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.api.record import NO_REQUEST
from pymosn.core.authority import split_authority
from pymosn.core.headers import to_bytes, to_text
from pymosn.filters.stream.problems import Problems

Test = Callable[[str], bool]
#: Whether a condition holds. The second argument is ANY_READING or EVERY_READING.
Condition = Callable[[Exchange, bool], bool]

#: Receivers read a repeated header in different ways: they use the first line, the last, all of them joined, or the elements
#: of a list. With ANY_READING a condition holds if it does for one of these readings, as a rule that denies has to judge;
#: with EVERY_READING only if it does for all of them, as a rule that allows has to. A negation swaps the two.
ANY_READING: Final = True
EVERY_READING: Final = False
#: What a request without a path may be taken for by a rule that denies.
MISSING_PATH: Final = ("/", "")

#: Hop-by-hop fields that filters do not see. `upgrade` and `connection` are those of a request for an upgrade.
UNSEEN: Final = ("keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding")

_SIMPLE: Final[dict[str, Callable[[str, str], bool]]] = {
    "exact": lambda expected, text: text == expected,
    "prefix": lambda expected, text: text.startswith(expected),
    "suffix": lambda expected, text: text.endswith(expected),
    "contains": lambda expected, text: expected in text,
}


_ESCAPE: Final = re.compile("%[0-9A-Fa-f]{2}")


def never(_: object, _reading: bool = ANY_READING) -> bool:
    """Placeholder for an invalid condition."""
    return False


def fold(text: str) -> str:
    """`text` with ASCII letters in lower case. `str.lower` makes other characters equal to them (the Kelvin sign, K)."""
    return to_text(to_bytes(text).lower())


def plain(key: str) -> str:
    """A key without case and underscores: `and_ids` and `andIds` are the same."""
    return key.replace("_", "").lower()


class EnvoyObject:
    """A JSON object of Envoy's schema: `and_ids` and `andIds` are the same key; keys that are not read are errors."""

    def __init__(self, value: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        problems.require(isinstance(value, dict), path, "expected an object")
        items: dict[object, Any] = value if isinstance(value, dict) else {}
        self._values: dict[str, tuple[str, Any]] = {}
        for key, inner in items.items():
            if self._values.setdefault(plain(str(key)), (str(key), inner)) != (str(key), inner):
                problems.add(f"{path}.{key}", f"the same key as {self._values[plain(str(key))][0]}")

    def __enter__(self) -> EnvoyObject:
        return self

    def __exit__(self, *_details: object) -> None:
        """Reports the remaining keys: they are unknown or unsupported, and ignoring them could grant access."""
        for name, _ in self._values.values():
            self.problems.add(
                f"{self.path}.{name}", "unknown or unsupported key; rejected, because ignoring it could grant access"
            )

    def __contains__(self, key: str) -> bool:
        return key.replace("_", "") in self._values

    def take(self, key: str, kind: type, default: Any) -> Any:
        """Removes `key` and returns its value, which must be of type `kind`; `default` without it."""
        found = self._values.pop(key.replace("_", ""), None)
        if found is None:
            return default
        name, value = found
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        self.problems.add(f"{self.path}.{name}", f"expected a value of another type, got {value!r}")
        return default

    def value(self, key: str) -> tuple[object, str]:
        """Removes `key`, which must exist, and returns its value and path."""
        name, value = self._values.pop(key.replace("_", ""))
        return value, f"{self.path}.{name}"

    def inner(self, key: str) -> EnvoyObject:
        """Removes `key`, which must exist, and returns the object in it."""
        value, path = self.value(key)
        return EnvoyObject(value, path, self.problems)

    def items(self, key: str, list_key: str) -> list[tuple[object, str]]:
        """The entries, with their paths, of the list `list_key` in the object `key`, which must exist."""
        with self.inner(key) as outer:
            values, path = outer.value(list_key) if list_key in outer else ([], outer.path)
        if not isinstance(values, list) or not values:
            self.problems.add(path, "must not be empty")
            return []
        return [(value, f"{path}[{i}]") for i, value in enumerate(values)]


def text_test(source: EnvoyObject, folds: bool = False, is_path: bool = False) -> Test:
    """A StringMatcher. `folds`: it ignores case whatever it says, as for host names. `is_path`: of a normalized path."""
    with source:
        ignores_case = source.take("ignore_case", bool, False) or folds
        for key, compare in _SIMPLE.items():
            if key in source:
                expected = source.take(key, str, "")
                if is_path:
                    expected = upper_escapes(expected)
                source.problems.require(key == "exact" or expected, f"{source.path}.{key}", "must not be empty")
                return _simple_test(compare, expected, ignores_case)
        if "safe_regex" in source:
            advice = "not valid with safe_regex; use (?i) in the expression"
            source.problems.require(folds or not ignores_case, f"{source.path}.ignore_case", advice)
            return regex_test(source.inner("safe_regex"), folds)
        source.problems.add(source.path, f"expected one of {', '.join(_SIMPLE)}, safe_regex")
    return never


def _simple_test(compare: Callable[[str, str], bool], expected: str, folds: bool) -> Test:
    if folds:
        folded = fold(expected)
        return lambda text: compare(folded, fold(text))
    return lambda text: compare(expected, text)


def regex_test(source: EnvoyObject, folds: bool = False) -> Test:
    """A RegexMatcher, for the whole text. `folds`: it ignores case."""
    with source:
        source.take("google_re2", dict, None)
        regex = source.problems.regex(f"{source.path}.regex", source.take("regex", str, ""), folds)
    return never if regex is None else lambda text: regex.found_in(to_bytes(text))


def upper_escapes(text: str) -> str:
    """`text` with the digits of percent-encoded bytes in upper case, as in normalized paths."""
    return _ESCAPE.sub(lambda found: found[0].upper(), text)


def path_readings(path: str, reading: bool) -> list[str]:
    """A normalized path; with ANY_READING, also with lower-case digits of its escapes: a regex may be written like that."""
    if reading is EVERY_READING or "%" not in path:
        return [path]
    return [path, _ESCAPE.sub(lambda found: found[0].lower(), path)]


def header_test(source: EnvoyObject) -> Condition:
    """A HeaderMatcher. A missing header only matches conditions on its absence (`present_match`, `invert_match`)."""
    with source:
        name = source.take("name", str, "").lower()
        if name == "host":
            name = ":authority"
        inverts = source.take("invert_match", bool, False)
        counts_missing = source.take("treat_missing_header_as_empty", bool, False)
        if not name.startswith(":"):
            source.problems.header(f"{source.path}.name", name)
            unseen = f"{name} is removed before filters see a request, so that no condition on it could match"
            source.problems.require(name not in UNSEEN, f"{source.path}.name", unseen)
        elif name not in (":path", ":method", ":authority"):
            source.problems.add(f"{source.path}.name", "must be :path, :method, :authority or a header")
        has_presence = "present_match" in source
        # Without any condition the header must exist.
        expected = source.take("present_match", bool, True) is not inverts
        test = None if has_presence else _value_test(source, name == ":authority")
    if test is None:
        return lambda exchange, _: (counts_missing or bool(header_values(exchange, name))) is expected
    return partial(_has_value, name, test, inverts, counts_missing)


def _has_value(name: str, test: Test, inverts: bool, counts_missing: bool, exchange: Exchange, any_reading: bool) -> bool:
    values = header_values(exchange, name)
    if not values:
        if name == ":path" and any_reading and exchange.request is not NO_REQUEST:
            return any(test(text) is not inverts for text in MISSING_PATH)
        return counts_missing and test("") is not inverts
    if any_reading is not inverts:
        return any(map(test, _possible_readings(values, name))) is not inverts
    return all(map(test, _joined_too(values, name))) is not inverts


def _joined_too(values: list[str], name: str) -> list[str]:
    """The values of a field, and all of them as one if there are several."""
    if len(values) == 1:
        return values
    # Receivers join cookies with a semicolon (RFC 9113 section 8.2.3, and servers for HTTP/1).
    cookies = ["; ".join(values), ";".join(values)] if name == "cookie" else []
    return [*values, ",".join(values), ", ".join(values), *cookies]


def _possible_readings(values: list[str], name: str) -> list[str]:
    """The values that a receiver may see: each line, all of them joined, and the elements of lists."""
    readings = _joined_too(values, name)
    if name == ":authority":
        host = split_authority(to_bytes(values[0])).host
        return [*readings, to_text(host), to_text(host.rstrip(b"."))]
    if name.startswith(":"):
        return path_readings(values[0], ANY_READING) if name == ":path" else readings
    if len(values) == 1 and "," not in values[0]:
        return readings
    elements = [text for value in values for element in value.split(",") if (text := element.strip(" \t"))]
    # Empty elements and white space around elements mean nothing in a list (RFC 9110 section 5.6.1).
    return [*readings, *elements, ",".join(elements), ", ".join(elements)]


def _value_test(source: EnvoyObject, folds: bool) -> Test | None:
    for key, compare in _SIMPLE.items():
        if f"{key}_match" in source:
            expected = source.take(f"{key}_match", str, "")
            source.problems.require(key == "exact" or expected, f"{source.path}.{key}_match", "must not be empty")
            return _simple_test(compare, expected, folds)
    if "safe_regex_match" in source:
        return regex_test(source.inner("safe_regex_match"), folds)
    if "string_match" in source:
        return text_test(source.inner("string_match"), folds)
    if "range_match" in source:
        with source.inner("range_match") as limits:
            start, end = limits.take("start", int, 0), limits.take("end", int, 0)
        return lambda text: (number := _integer(text)) is not None and start <= number < end
    return None


def _integer(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def header_values(exchange: Exchange, name: str) -> list[str]:
    """The values of a header in lower case, or of `:method`, `:authority` or `:path`."""
    request = exchange.request
    if request is NO_REQUEST:  # of a connection
        return []
    if name.startswith(":"):
        if name == ":method":
            return [request.method]
        if name == ":authority":
            return [request.host]
        return [to_text(request.raw_target())] if request.has_path() else []
    if name == "upgrade" or name == "connection":
        asked = request.upgrade
        return [] if not asked else [asked if name == "upgrade" else "upgrade"]
    return request.headers.get_all(name)
