"""Envoy's conditions on texts and headers, as `rbac` and `jwt_authn` have them (envoy.type.matcher.v3, route.v3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.core.headers import to_bytes
from pymosn.filters.stream.problems import Problems

Test = Callable[[str], bool]
Condition = Callable[[Exchange], bool]

_SIMPLE: Final[dict[str, Callable[[str, str], bool]]] = {
    "exact": lambda wanted, text: text == wanted,
    "prefix": lambda wanted, text: text.startswith(wanted),
    "suffix": lambda wanted, text: text.endswith(wanted),
    "contains": lambda wanted, text: wanted in text,
}


def never(_: object) -> bool:
    """Stands for a condition that could not be read."""
    return False


class Fields:
    """A JSON object of Envoy's schema: `and_ids` and `andIds` are the same key; what nobody asks for is a problem."""

    def __init__(self, value: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        self._values: dict[str, tuple[str, Any]] = {}
        if isinstance(value, dict):
            self._values = {str(key).replace("_", "").lower(): (str(key), inner) for key, inner in value.items()}
        else:
            problems.add(path, "an object is expected")

    def __contains__(self, key: str) -> bool:
        return key.replace("_", "") in self._values

    def take(self, key: str, kind: type, default: Any) -> Any:
        """The value of `key`, which must be of a kind, or `default`; it is taken out."""
        found = self._values.pop(key.replace("_", ""), None)
        if found is None:
            return default
        name, value = found
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        self.problems.add(f"{self.path}.{name}", f"another kind of value is expected, not {value!r}")
        return default

    def value(self, key: str) -> tuple[object, str]:
        """What stands under `key`, which is there, and its path; it is taken out."""
        name, value = self._values.pop(key.replace("_", ""))
        return value, f"{self.path}.{name}"

    def inner(self, key: str) -> Fields:
        """The object under `key`, which is there; it is taken out."""
        value, path = self.value(key)
        return Fields(value, path, self.problems)

    def items(self, key: str, list_key: str) -> list[tuple[object, str]]:
        """The entries of the list `list_key` in the object `key`, which is there, with their paths."""
        outer = self.inner(key)
        values, path = outer.value(list_key) if list_key in outer else ([], outer.path)
        outer.end()
        if not isinstance(values, list) or not values:
            self.problems.add(path, "at least one entry is needed")
            return []
        return [(value, f"{path}[{place}]") for place, value in enumerate(values)]

    def end(self) -> None:
        """What is still there is not known, or not built: going on without it might let in whom it keeps out."""
        for name, _ in self._values.values():
            self.problems.add(f"{self.path}.{name}", "unknown here, or not built: refused, for it might keep somebody out")


def text_test(fields: Fields) -> Test:
    """A StringMatcher."""
    test = _text_test(fields, fields.take("ignore_case", bool, False))
    fields.end()
    return test


def _text_test(fields: Fields, ignores_case: bool) -> Test:
    for key, compare in _SIMPLE.items():
        if key in fields:
            wanted = fields.take(key, str, "")
            if key != "exact" and not wanted:
                fields.problems.add(f"{fields.path}.{key}", "must not be empty")
            if ignores_case:
                folded = wanted.lower()
                return lambda text: compare(folded, text.lower())
            return lambda text: compare(wanted, text)
    if "safe_regex" in fields:
        if ignores_case:
            fields.problems.add(f"{fields.path}.ignore_case", "not with safe_regex; write (?i) into the expression")
        return regex_test(fields.inner("safe_regex"))
    fields.problems.add(fields.path, f"one of {', '.join(_SIMPLE)} and safe_regex is needed")
    return never


def regex_test(fields: Fields) -> Test:
    """A RegexMatcher: the whole of the text."""
    fields.take("google_re2", dict, None)
    regex = fields.problems.regex(f"{fields.path}.regex", fields.take("regex", str, ""))
    fields.end()
    return never if regex is None else lambda text: regex.found_in(to_bytes(text))


def header_test(fields: Fields) -> Condition:
    """A HeaderMatcher. A header that is not there meets only its absence (`present_match` and `invert_match`)."""
    name = fields.take("name", str, "").lower()
    inverts = fields.take("invert_match", bool, False)
    if not name.startswith(":"):
        fields.problems.header(f"{fields.path}.name", name)
    elif name not in (":path", ":method", ":authority"):
        fields.problems.add(f"{fields.path}.name", "must be :path, :method, :authority or a header")
    if "present_match" in fields:
        wanted = fields.take("present_match", bool, True) is not inverts
        fields.end()
        return lambda exchange: (_value(exchange, name) is not None) is wanted
    test = _value_test(fields)
    fields.end()
    if test is None:  # the name alone: it must be there
        return lambda exchange: (_value(exchange, name) is not None) is not inverts
    final = test

    def is_met(exchange: Exchange) -> bool:
        value = _value(exchange, name)
        return value is not None and final(value) is not inverts

    return is_met


def _value_test(fields: Fields) -> Test | None:
    for key, compare in _SIMPLE.items():
        if f"{key}_match" in fields:
            wanted = fields.take(f"{key}_match", str, "")
            return lambda text: compare(wanted, text)
    if "safe_regex_match" in fields:
        return regex_test(fields.inner("safe_regex_match"))
    if "string_match" in fields:
        return text_test(fields.inner("string_match"))
    if "range_match" in fields:
        limits = fields.inner("range_match")
        start, end = limits.take("start", int, 0), limits.take("end", int, 0)
        limits.end()
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
