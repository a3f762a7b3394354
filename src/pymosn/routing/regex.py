"""Regular expressions with RE2 semantics, as in MOSN: time is linear in the text, whatever the pattern."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

#: Bytes that a pattern and its automaton may take; the automaton's cache starts small and is emptied when it is full.
_MEMORY: Final = 8 << 20
#: The same per pattern of a set.
_SET_MEMORY: Final = 64 << 10


class PatternError(ValueError):
    """Not a regular expression of RE2."""


class Regex:
    """One expression, searched for anywhere in a text (UTF-8 bytes)."""

    def __init__(self, pattern: str) -> None:
        """Raises PatternError."""
        self.pattern = pattern
        self._regex: Any = compiled(pattern)
        self._set: RegexSet | None = None
        # A set of one answers in half the time, for it makes no match object; but not every expression fits into one.
        with suppress(PatternError):
            self._set = RegexSet([pattern])

    def found_in(self, text: bytes) -> bool:
        """Whether some part of `text` matches."""
        regexes = self._set
        return self._regex.search(text) is not None if regexes is None else bool(regexes.find(text))


class RegexSet:
    """Many expressions, searched for in one pass."""

    def __init__(self, patterns: list[str]) -> None:
        """Raises PatternError, also when the set is too large."""
        import re2  # 4 MB and 20 ms, for those who use regular expressions

        self._set: Any = re2.Set.SearchSet(_options(re2, _MEMORY + _SET_MEMORY * len(patterns)))
        try:
            for pattern in patterns:
                self._set.Add(pattern.encode())
            self._set.Compile()
        except re2.error as error:
            raise PatternError(_message(error)) from None

    def find(self, text: bytes) -> list[int]:
        """The places of the expressions that match some part of `text`, in no certain order."""
        found: list[int] | None = self._set.Match(text)
        return found or []


class Replacement:
    """Replaces every match of an expression.

    The template may name groups as Go does (`$1`, `${1}`, `${name}`; `$$` is a dollar sign) and as Envoy does (`\\1`).
    """

    def __init__(self, pattern: str, template: str) -> None:
        """Raises PatternError, also for a group that the expression has not."""
        self._regex: Any = compiled(pattern)
        names: dict[bytes, int] = self._regex.groupindex
        self._parts = template_parts(template, int(self._regex.groups), {name.decode(): at for name, at in names.items()})

    def apply(self, text: bytes) -> bytes:
        """`text` with all matches replaced; the same object when there is none."""
        out: list[bytes] = []
        end = 0
        for match in self._regex.finditer(text):
            if match.start() == match.end() == end and end > 0:
                continue  # Go: no empty match right behind another match
            out.append(text[end : match.start()])
            for part in self._parts:
                out.append(part if isinstance(part, bytes) else match.group(part) or b"")
            end = match.end()
        return b"".join([*out, text[end:]]) if out else text


def compiled(pattern: str) -> Any:
    """A compiled expression of RE2 for bytes. Raises PatternError."""
    import re2

    try:
        return re2.compile(pattern.encode(), _options(re2, _MEMORY))
    except re2.error as error:
        raise PatternError(_message(error)) from None


def template_parts(template: str, groups: int, names: dict[str, int]) -> list[bytes | int]:
    """Literal text and group numbers of a replacement template. Raises PatternError for a group that is not there."""
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
    """The `name` or `{name}` that stands at `at`; empty when there is none."""
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


def _options(re2: Any, memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    return options


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else "not a regular expression"
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
