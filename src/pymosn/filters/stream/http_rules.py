"""Path templates of `google.api.http`, and which of them matches a request.

    Template = "/" Segments [ ":" LITERAL ];   Segments = Segment { "/" Segment };
    Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}";

`*` is one segment. `**` is any number of them, also none, and must be the last. Literals are compared with the path in its
normal form, which is percent-encoded.
"""

from __future__ import annotations

import re
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")

#: The kinds of segments, in the order in which they are tried.
_LITERAL: Final = 0
_ONE: Final = 1
_MANY: Final = 2

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_TEXT: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()+,;=@%]+")
_VERB: Final = re.compile(r":([A-Za-z0-9\-._~!$&'()+,;=@%]+)\Z")
_ENCODED_SLASH: Final = re.compile(rb"(%2[Ff])")


class Variable(NamedTuple):
    """A variable of a template. `has_many`: it may contain slashes, and leaves `%2F` as it is."""

    path: str
    has_many: bool


class Template:
    """A path template."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, with the reason, for anything else."""
        self.text = text
        self.variables: list[Variable] = []
        verb = _VERB.search(text)
        self.verb = verb.group(1) if verb and "}" not in verb.group(1) else ""
        body = text[: verb.start()] if verb and self.verb else text
        if not body.startswith("/") or body == "/":
            raise ValueError(f"not a path template: {text!r}")
        self._kinds: list[int] = []
        self._literals: list[str] = []
        self._at = 1
        self._text = body
        pattern = self._segments("")
        if self._at != len(body):
            raise self._fault()
        if len({variable.path for variable in self.variables}) != len(self.variables):
            raise ValueError(f"a variable occurs twice in {text!r}")
        suffix = re.escape(f":{self.verb}") if self.verb else ""
        self._regex = re.compile((pattern + suffix).encode())
        #: Templates are tried in this order: verbs first, then literals, `*` and `**`, segment by segment.
        self.rank = (not self.verb, self._kinds)
        #: The first segment; empty if that is not a literal.
        self.first = self._literals[0] if self._kinds[0] == _LITERAL else ""

    def _fault(self) -> ValueError:
        return ValueError(f"not a path template: {self.text!r}, at {self._text[self._at :]!r}")

    def _segments(self, end: str) -> str:
        """The pattern of segments, each with its slash; of a variable up to `end`."""
        parts: list[str] = []
        while True:
            parts.append(self._segment(is_inner=bool(end)))
            if not self._text.startswith("/", self._at):
                return "".join(parts)
            if self._kinds[-1] == _MANY:
                raise ValueError(f"`**` must be the last segment of {self.text!r}")
            self._at += 1

    def _segment(self, is_inner: bool) -> str:
        text = self._text
        if text.startswith("{", self._at) and not is_inner:
            return self._variable()
        for word, kind, pattern in (("**", _MANY, "(?:/.*)?"), ("*", _ONE, "/[^/]+")):
            if text.startswith(word, self._at):
                self._at += len(word)
                self._add(kind, "")
                return pattern
        found = _TEXT.match(text, self._at)
        if found is None:
            raise self._fault()
        self._at = found.end()
        self._add(_LITERAL, found.group())
        return "/" + re.escape(found.group())

    def _add(self, kind: int, literal: str) -> None:
        self._kinds.append(kind)
        self._literals.append(literal)

    def _variable(self) -> str:
        name = _IDENTIFIER.match(self._text, self._at + 1)
        if name is None:
            raise self._fault()
        self._at = name.end()
        before = len(self._kinds)
        if self._text.startswith("=", self._at):
            self._at += 1
            pattern = self._segments("}")
        else:
            self._add(_ONE, "")
            pattern = "/[^/]+"
        if not self._text.startswith("}", self._at):
            raise self._fault()
        self._at += 1
        kinds = self._kinds[before:]
        self.variables.append(Variable(name.group(), len(kinds) > 1 or kinds[0] == _MANY))
        return f"({pattern})"

    def match(self, path: bytes) -> list[bytes] | None:
        """The values of the variables in a path, percent-encoded; None if it does not match."""
        found = self._regex.fullmatch(path)
        return None if found is None else [(value or b"")[1:] for value in found.groups()]


def decoded(value: bytes, has_many: bool) -> str:
    """The value of a variable. ValueError unless it is UTF-8."""
    if has_many:
        value = b"".join(p if i % 2 else unquote_to_bytes(p) for i, p in enumerate(_ENCODED_SLASH.split(value)))
    else:
        value = unquote_to_bytes(value)
    return value.decode()


class Match(NamedTuple, Generic[T]):
    """What a request matched. `values`: of the template's variables, in their order."""

    target: T
    template: Template
    values: list[bytes]


class HttpRules(Generic[T]):
    """Finds the target of a request by its method and path."""

    def __init__(self) -> None:
        self._rules: dict[str, list[tuple[Template, T]]] = {}
        self._found: dict[tuple[str, str], list[tuple[Template, T]]] = {}

    def add(self, method: str, template: Template, target: T) -> None:
        """`method`: `*` for any."""
        self._rules.setdefault(method, []).append((template, target))

    def prepare(self) -> None:
        """Sorts the rules, after the last `add`: by method and first segment."""
        for method, rules in self._rules.items():
            rules.sort(key=lambda rule: rule[0].rank)
            for first in {template.first for template, _ in rules}:
                self._found[method, first] = [rule for rule in rules if rule[0].first in (first, "")]

    def find(self, method: str, path: bytes) -> Match[T] | None:
        """The rule for a request. `path`: in normal form."""
        first = path[1:].partition(b"/")[0].decode("latin-1")
        for kind in (method, "*"):
            rules = self._found.get((kind, first))
            if rules is None:
                # The verb belongs to the segment if there is only one.
                rules = self._found.get((kind, first.partition(":")[0])) or self._found.get((kind, ""), [])
            for template, target in rules:
                values = template.match(path)
                if values is not None:
                    return Match(target, template, values)
        return None

    def methods_of(self, path: bytes) -> list[str]:
        """The methods, sorted, for which a rule matches the path."""
        found = [
            kind for kind, rules in self._rules.items() if any(template.match(path) is not None for template, _ in rules)
        ]
        return sorted(set(found))
