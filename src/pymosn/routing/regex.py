"""Regular expressions with RE2 semantics, as in MOSN: linear time whatever the pattern."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from pymosn.core.regex import MEMORY, PatternError, compiled, message, options

__all__ = ["PatternError", "Regex", "RegexSet", "Replacement", "compiled", "template_parts", "whole"]

#: Additional memory per pattern of a set.
_SET_MEMORY: Final = 64 << 10


class Regex:
    """A regular expression, searched for anywhere in a text (UTF-8 bytes)."""

    def __init__(self, pattern: str) -> None:
        """Raises PatternError."""
        self.pattern = pattern
        self._regex: Any = compiled(pattern)
        self._set: RegexSet | None = None
        # A set of one is twice as fast, because it creates no match object, but some expressions do not fit into a set.
        with suppress(PatternError):
            self._set = RegexSet([pattern])

    def found_in(self, text: bytes) -> bool:
        """Whether a part of `text` matches."""
        regexes = self._set
        return self._regex.search(text) is not None if regexes is None else bool(regexes.find(text))


class RegexSet:
    """Several expressions, searched for in one pass."""

    def __init__(self, patterns: list[str]) -> None:
        """Raises PatternError, also if the set is too large."""
        import re2  # takes 4 MB and 20 ms, only where regular expressions are used

        self._set: Any = re2.Set.SearchSet(options(re2, MEMORY + _SET_MEMORY * len(patterns)))
        try:
            for pattern in patterns:
                self._set.Add(pattern.encode())
            self._set.Compile()
        except re2.error as error:
            raise PatternError(message(error)) from None

    def find(self, text: bytes) -> list[int]:
        """The indexes of the expressions that match a part of `text`, in no particular order."""
        found: list[int] | None = self._set.Match(text)
        return found or []


class Replacement:
    """Replaces every match of an expression.

    The template may refer to groups in Go's syntax (`$1`, `${1}`, `${name}`; `$$` is a dollar sign) and in Envoy's (`\\1`).
    """

    def __init__(self, pattern: str, template: str) -> None:
        """Raises PatternError, also for an unknown group."""
        self._regex: Any = compiled(pattern)
        names: dict[bytes, int] = self._regex.groupindex
        self._parts = template_parts(template, int(self._regex.groups), {name.decode(): at for name, at in names.items()})

    def apply(self, text: bytes) -> bytes:
        """Returns `text` with all matches replaced; the same object if there is no match."""
        out: list[bytes] = []
        end = 0
        for match in self._regex.finditer(text):
            if match.start() == match.end() == end and end > 0:
                continue  # as in Go: no empty match directly after another match
            out.append(text[end : match.start()])
            for part in self._parts:
                out.append(part if isinstance(part, bytes) else match.group(part) or b"")
            end = match.end()
        return b"".join([*out, text[end:]]) if out else text


def whole(pattern: str) -> str:
    """The expression that matches a text only if `pattern` matches all of it. Raises PatternError."""
    compiled(pattern)  # alone: `a)(b` is valid only inside the group
    return f"\\A(?:{pattern})\\z"


def template_parts(template: str, groups: int, names: dict[str, int]) -> list[bytes | int]:
    """Literal text and group numbers of a replacement template. Raises PatternError for an unknown group."""
    parts: list[bytes | int] = []
    at = 0
    while at < len(template):
        char = template[at]
        following = template[at + 1 : at + 2]
        if char == "\\" and following.isdigit():
            parts.append(_group(following, groups, names))
            at += 2
        elif char in "$\\" and following == char:
            parts.append(char.encode())
            at += 2
        elif char == "$" and (name := _group_name(template, at + 1)):
            parts.append(_group(name.strip("{}"), groups, names))
            at += 1 + len(name)
        else:
            parts.append(char.encode())
            at += 1
    return parts


def _group_name(template: str, at: int) -> str:
    """The `name` or `{name}` at offset `at`, or an empty text."""
    if template[at : at + 1] == "{":
        end = template.find("}", at)
        return template[at : end + 1] if end > at + 1 else ""
    end = at
    while end < len(template) and (template[end].isalnum() or template[end] == "_"):
        end += 1
    return template[at:end]


def _group(name: str, groups: int, names: dict[str, int]) -> int:
    number = int(name) if name.isdigit() else names.get(name, -1)
    if not 0 <= number <= groups:
        raise PatternError(f"the expression has no group {name!r}")
    return number
