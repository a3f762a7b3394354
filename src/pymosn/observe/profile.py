"""Profiles: stacks with numbers, as pprof's protocol buffers, as folded lines, and as a table."""

from __future__ import annotations

import gzip
import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final, NamedTuple

import msgspec

import pymosn
from pymosn.core.proto_wire import message, varint

#: Lines of a table.
ROWS: Final = 20
_ROOTS: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(pymosn.__file__).resolve().parent.parent),
)


class Call(NamedTuple):
    """One call on a stack. `function`: with its module; `file` and `line` are empty and 0 for native code."""

    function: str
    file: str
    line: int


#: Innermost call first.
Stack = tuple[Call, ...]


class Profile(msgspec.Struct, frozen=True):
    """`values`: type and unit of the numbers of each sample. The last one is the one to show.

    `period`: type and unit of what passes between two samples, and how much. `started`: seconds since 1970; `seconds`: its
    duration. `notes`: what a reader should know, one sentence each.
    """

    values: list[tuple[str, str]]
    samples: list[tuple[Stack, tuple[int, ...]]]
    period: tuple[str, str, int]
    started: float
    seconds: float
    notes: list[str] = []

    def total(self) -> int:
        """The sum of the last numbers."""
        return sum(numbers[-1] for _, numbers in self.samples)


def module_name(file: str, roots: Iterable[str] | None = None) -> str:
    """The dotted name of the module in a file below the longest of `roots`, by default those of installed packages, of the
    standard library and of pymosn; else the file's own name.
    """
    if file.startswith("<frozen ") and file.endswith(">"):
        return file[8:-1]
    name, found = PurePath(file).stem, ""
    for root in _ROOTS if roots is None else roots:
        if root and len(root) > len(found) and file.startswith(root.rstrip("/") + "/"):
            found = root
    if found and file.endswith(".py"):
        parts = file[len(found.rstrip("/")) + 1 : -3].split("/")
        if all(part.isidentifier() for part in parts):
            name = ".".join(parts).removesuffix(".__init__")
    return name


def as_pprof(profile: Profile) -> bytes:
    """The profile as `go tool pprof` reads it: a `Profile` of pprof's profile.proto, compressed with gzip."""
    return gzip.compress(_Pprof().encode(profile), 6)


class _Pprof:
    """Writes one message. Strings, functions and locations are numbered by their first use."""

    def __init__(self) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Call, int] = {}

    def encode(self, profile: Profile) -> bytes:
        type_of_period, unit, period = profile.period
        parts = [message(1, self._value_type(*value)) for value in profile.values]
        for stack, numbers in profile.samples:
            ids = b"".join(varint(self._location(call)) for call in stack)
            parts.append(message(2, message(1, ids) + message(2, b"".join(varint(number) for number in numbers))))
        # A mapping with names, so that pprof does not search for a binary that has them.
        parts.append(
            message(3, _field(1, 1) + _field(5, self._string("python")) + _field(7, 1) + _field(8, 1) + _field(9, 1))
        )
        parts += [
            message(4, _field(1, number) + _field(2, 1) + message(4, self._line(call)))
            for call, number in self._locations.items()
        ]
        for (function, file), number in self._functions.items():
            name = self._string(function)
            parts.append(message(5, _field(1, number) + _field(2, name) + _field(3, name) + _field(4, self._string(file))))
        end = [_field(9, int(profile.started * 1e9)), _field(10, int(profile.seconds * 1e9))]
        end += [message(11, self._value_type(type_of_period, unit)), _field(12, period)]
        end += [_field(13, self._string(note)) for note in profile.notes]
        end.append(_field(14, self._string(profile.values[-1][0])))
        strings = [message(6, text.encode("utf-8", "backslashreplace")) for text in self._strings]
        return b"".join([*parts, *strings, *end])

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _value_type(self, name: str, unit: str) -> bytes:
        return _field(1, self._string(name)) + _field(2, self._string(unit))

    def _location(self, call: Call) -> int:
        self._functions.setdefault((call.function, call.file), len(self._functions) + 1)
        return self._locations.setdefault(call, len(self._locations) + 1)

    def _line(self, call: Call) -> bytes:
        return _field(1, self._functions[call.function, call.file]) + _field(2, call.line)


def _field(number: int, value: int) -> bytes:
    """A field with a number that may be 0: pprof's tables are read by index."""
    return varint(number << 3) + varint(value)


def as_folded(profile: Profile) -> str:
    """A line for each stack, outermost call first, with its last number: the input of flame graph programs."""
    sums: Counter[str] = Counter()
    for stack, numbers in profile.samples:
        sums[";".join(call.function.replace(";", ",") for call in reversed(stack))] += numbers[-1]
    return "".join(f"{line} {number}\n" for line, number in sums.most_common())


def as_table(profile: Profile) -> str:
    """The functions with the largest numbers of their own (`flat`), and with those of what they call (`cum`)."""
    flat: Counter[tuple[str, str]] = Counter()
    cumulative: Counter[tuple[str, str]] = Counter()
    for stack, numbers in profile.samples:
        if stack:
            flat[stack[0].function, stack[0].file] += numbers[-1]
        for key in {(call.function, call.file) for call in stack}:
            cumulative[key] += numbers[-1]
    total = profile.total() or 1
    unit = profile.values[-1][1]
    lines = [
        *profile.notes,
        f"{quantity(profile.total(), unit)} in {profile.seconds:.1f} s",
        f"{'flat':>10} {'':>6} {'cum':>10} {'':>6}",
    ]
    rows = sorted(cumulative, key=lambda key: (flat[key], cumulative[key]), reverse=True)[:ROWS]
    for key in rows:
        own, all_of_it = flat[key], cumulative[key]
        shares = f"{100 * own / total:5.1f}%", f"{100 * all_of_it / total:5.1f}%"
        where = f"  {key[1]}" if key[1] else ""
        lines.append(f"{quantity(own, unit):>10} {shares[0]} {quantity(all_of_it, unit):>10} {shares[1]}  {key[0]}{where}")
    return "\n".join([*lines, ""])


def quantity(number: int, unit: str) -> str:
    """A number with its unit, such as `1.25 s`, `10.0 KiB`, `3`."""
    if unit == "nanoseconds":
        return f"{number / 1e9:.2f} s"
    if unit == "bytes":
        kibibytes = number / 1024
        return (
            f"{number} B" if number < 1024 else f"{kibibytes:.1f} KiB" if kibibytes < 1024 else f"{kibibytes / 1024:.1f} MiB"
        )
    return str(number)
