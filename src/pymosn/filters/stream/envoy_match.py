"""Envoy's conditions on texts and headers, for `rbac` and `jwt_authn` (envoy.type.matcher.v3, route.v3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.core.headers import to_bytes
from pymosn.filters.stream.problems import Problems

Test = Callable[[str], bool]
Condition = Callable[[Exchange], bool]

_SIMPLE: Final[dict[str, Callable[[str, str], bool]]] = {
    "exact": lambda expected, text: text == expected,
    "prefix": lambda expected, text: text.startswith(expected),
    "suffix": lambda expected, text: text.endswith(expected),
    "contains": lambda expected, text: expected in text,
}


def never(_: object) -> bool:
    """Placeholder for an invalid condition."""
    return False


class EnvoyObject:
    """A JSON object of Envoy's schema: `and_ids` and `andIds` are the same key; keys that are not read are errors."""

    def __init__(self, value: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        problems.require(isinstance(value, dict), path, "expected an object")
        items: dict[object, Any] = value if isinstance(value, dict) else {}
        self._values = {str(key).replace("_", "").lower(): (str(key), inner) for key, inner in items.items()}

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


def text_test(source: EnvoyObject) -> Test:
    """A StringMatcher."""
    with source:
        ignores_case = source.take("ignore_case", bool, False)
        for key, compare in _SIMPLE.items():
            if key in source:
                expected = source.take(key, str, "")
                source.problems.require(key == "exact" or expected, f"{source.path}.{key}", "must not be empty")
                if ignores_case:
                    folded = expected.lower()
                    return lambda text: compare(folded, text.lower())
                return lambda text: compare(expected, text)
        if "safe_regex" in source:
            advice = "not valid with safe_regex; use (?i) in the expression"
            source.problems.require(not ignores_case, f"{source.path}.ignore_case", advice)
            return regex_test(source.inner("safe_regex"))
        source.problems.add(source.path, f"expected one of {', '.join(_SIMPLE)}, safe_regex")
    return never


def regex_test(source: EnvoyObject) -> Test:
    """A RegexMatcher, for the whole text."""
    with source:
        source.take("google_re2", dict, None)
        regex = source.problems.regex(f"{source.path}.regex", source.take("regex", str, ""))
    return never if regex is None else lambda text: regex.found_in(to_bytes(text))


def header_test(source: EnvoyObject) -> Condition:
    """A HeaderMatcher. A missing header only matches conditions on its absence (`present_match`, `invert_match`)."""
    with source:
        name = source.take("name", str, "").lower()
        inverts = source.take("invert_match", bool, False)
        if not name.startswith(":"):
            source.problems.header(f"{source.path}.name", name)
        elif name not in (":path", ":method", ":authority"):
            source.problems.add(f"{source.path}.name", "must be :path, :method, :authority or a header")
        has_presence = "present_match" in source
        # Without any condition the header must exist.
        expected = source.take("present_match", bool, True) is not inverts
        test = None if has_presence else _value_test(source)
    if test is None:
        return lambda exchange: (_value(exchange, name) is not None) is expected
    return lambda exchange: (value := _value(exchange, name)) is not None and test(value) is not inverts


def _value_test(source: EnvoyObject) -> Test | None:
    for key, compare in _SIMPLE.items():
        if f"{key}_match" in source:
            expected = source.take(f"{key}_match", str, "")
            return lambda text: compare(expected, text)
    if "safe_regex_match" in source:
        return regex_test(source.inner("safe_regex_match"))
    if "string_match" in source:
        return text_test(source.inner("string_match"))
    if "range_match" in source:
        with source.inner("range_match") as limits:
            start, end = limits.take("start", int, 0), limits.take("end", int, 0)
        return lambda text: (number := _integer(text)) is not None and start <= number < end
    return None


def _integer(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _value(exchange: Exchange, name: str) -> str | None:
    request = exchange.request
    if name.startswith(":"):
        if name == ":method":
            return request.method
        if name == ":authority":
            return request.host
        return f"{request.path}?{request.query}" if request.query else request.path
    values = request.headers.get_all(name)
    return ",".join(values) if values else None
