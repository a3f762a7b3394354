"""Errors and warnings about a configuration, with their location, and the list that collects them."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from pymosn.core.redaction import KnownSecrets, redacted
from pymosn.core.secrets import REDACTED, names_secret

Severity = Literal["error", "warning"]

LONGEST_VALUE: Final = 60
# Longer words get no suggestion: comparison is quadratic in the length.
LONGEST_WORD: Final = 80

R = TypeVar("R")


class Place(msgspec.Struct, frozen=True):
    """The location of a key or value. Line and column start at 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0


Places = Mapping[str, Place]


def _outward(path: str) -> Iterator[str]:
    """A path, and those of the blocks around it; at last that of the whole file."""
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    yield ""


def nearest(places: Places, path: str) -> Place:
    """The location of the value at `path`, or of the nearest block around it if it is missing."""
    return next((places[outer] for outer in _outward(path) if outer in places), Place(""))


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """An error or warning about a configuration.

    `path`: its path in MOSN's keys, such as `servers[0].listeners[1].address`. `value`: the offending value as short
    JSON-like text, if any. `suggestion`: the word that was probably meant, if any.
    """

    severity: Severity = "error"
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    message: str
    value: str | None = None
    suggestion: str | None = None

    def text(self) -> str:
        """One line in the format that editors and CI systems recognise: `file:line:column: error: path: message`."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        value = f" (value {self.value})" if self.value is not None else ""
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return f"{place}: {self.severity}: {path}{self.message}{value}{hint}"

    def placed(self, places: Places, file: str) -> "Diagnostic":
        """The same with the location of its path; `file` is the default."""
        if self.file:
            return self
        place = nearest(places, self.path) if self.path else Place("")
        return msgspec.structs.replace(self, file=place.file or file, line=place.line, column=place.column)

    def as_dict(self) -> dict[str, str | int | None]:
        """The object that `pymosn check --json` prints."""
        return msgspec.structs.asdict(self)


def error_at(path: str, message: str) -> Diagnostic:
    """An error at a path whose location in a file is not known yet; see `Diagnostic.placed`."""
    return Diagnostic(path=path, message=message)


class Diagnostics:
    """Collects errors and warnings, and the location of every value. A path with an error is skipped by later checks."""

    def __init__(self, strict: bool = False) -> None:
        """`strict`: what MOSN starts with although it is a mistake is an error; see `odd`."""
        self._odd: Severity = "error" if strict else "warning"
        self.items: list[Diagnostic] = []
        #: Those of `items` that `odd` has added.
        self.oddities: list[Diagnostic] = []
        self.places: dict[str, Place] = {}
        self._bad_paths: set[str] = set()
        # Values from which entries may quote, and the secrets in them, which are searched when the first entry is added.
        self._sources: list[Callable[[], Any]] = []
        self._secrets = KnownSecrets()

    def quote_from(self, source: Callable[[], Any]) -> None:
        """The entries may quote from the JSON-like value that `source` returns; its secrets are removed from them."""
        self._sources.append(source)

    def error(
        self, path: str, message: str, value: Any = ..., known: Iterable[str] = (), *, at: Place | None = None
    ) -> None:
        """Report an error. `value`: the offending value; omit it if only the key is wrong. `known`: the valid words."""
        self.add("error", path, message, value, closest(str(value), known), at)

    def warning(
        self, path: str, message: str, value: Any = ..., known: Iterable[str] = (), *, at: Place | None = None
    ) -> None:
        """Report something that is accepted, but not with the expected effect."""
        self.add("warning", path, message, value, closest(str(value), known), at)

    def odd(self, path: str, message: str, value: Any = ..., known: Iterable[str] = ()) -> None:
        """Report a mistake that MOSN starts with, and that has MOSN's effect here; `message` names it.

        Only for what lets no request pass that would be stopped without the mistake.
        """
        before = len(self.items)
        self.add(self._odd, path, message, value, closest(str(value), known))
        self.oddities += self.items[before:]

    def refuse(self, oddity: Diagnostic) -> None:
        """Makes an error of one of `oddities`."""
        if oddity in self.items:
            self.items[self.items.index(oddity)] = msgspec.structs.replace(oddity, severity="error")
            self.mark_bad(oddity.path)

    def add(
        self,
        severity: Severity,
        path: str,
        message: str,
        value: Any = ...,
        suggestion: str | None = None,
        at: Place | None = None,
    ) -> None:
        """Report an error or a warning. `at`: its location, unless it is that of the value at `path`."""
        if self.is_bad(path):
            return
        if severity == "error":
            self.mark_bad(path)
        place = at or nearest(self.places, path)
        while self._sources:
            self._secrets.read(self._sources.pop()())
        self.items.append(
            Diagnostic(
                severity=severity,
                file=place.file,
                line=place.line,
                column=place.column,
                path=path,
                message=self._secrets.hide(message),
                value=None if value is ... else short(value, path, self._secrets),
                suggestion=suggestion,
            )
        )

    def attempt(self, path: str, make: Callable[..., R], *args: Any, value: Any = ..., prefix: str = "") -> R | None:
        """The result of `make`; a ValueError becomes an error at `path`, and the result None."""
        try:
            return make(*args)
        except ValueError as error:
            self.error(path, f"{prefix}{error}", value)
            return None

    def line(self, path: str) -> str:
        """The line of another value, for messages."""
        return f"line {nearest(self.places, path).line}"

    def mark_bad(self, path: str) -> None:
        """Suppress further reports at a path and below."""
        if path:
            self._bad_paths.add(path)

    def has_bad_within(self, path: str) -> bool:
        """Whether there is an error below a path."""
        return any(bad.startswith((f"{path}.", f"{path}[")) for bad in self._bad_paths)

    def is_bad(self, path: str) -> bool:
        """Whether there is an error at a path or in a block around it."""
        return any(outer in self._bad_paths for outer in _outward(path))

    @property
    def has_errors(self) -> bool:
        return any(fault.severity == "error" for fault in self.items)

    def in_order(self) -> list[Diagnostic]:
        """All entries, sorted by file, line and column."""
        return sorted(self.items, key=lambda fault: (fault.file, fault.line, fault.column))


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant by `word`; None without a good match."""
    if len(word) > LONGEST_WORD:
        return None
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None


def short(value: Any, path: str = "", secrets: KnownSecrets | None = None) -> str:
    """A value as one short line of JSON without secrets; `path`: its path, whose last key may name a secret."""
    key = path.rpartition(".")[2].partition("[")[0]
    if names_secret(key, value) or (secrets is not None and secrets.has(value)):
        return REDACTED
    value = redacted(value)
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError):
        text = ascii(value)
    text = text if secrets is None else secrets.hide(text)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
