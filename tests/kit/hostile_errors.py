"""Errors of every kind that handlers tend to miss: outside `Exception`, without text, and of hostile classes.

Only pymosn and the standard library are imported: tests of the real program copy this file into its import path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pymosn.api import BodyTooLarge


class Panic(BaseException):
    """What extensions in Rust raise."""


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class BadText(Exception):
    def __str__(self) -> Any:
        return 5


class Text(str):
    """Text whose every method fails."""

    def __str__(self) -> str:
        raise Panic

    def __format__(self, spec: str) -> str:
        raise Panic

    def __len__(self) -> int:
        raise Panic

    def __hash__(self) -> int:
        raise Panic

    def __eq__(self, other: object) -> bool:
        raise Panic

    def encode(self, *_: Any) -> Any:
        raise Panic


class OddText(Exception):
    def __str__(self) -> str:
        return Text("\ud800")


class Lies(Exception):
    """Whatever it is asked, it raises."""

    def _refuse(self) -> Any:
        raise Panic("do not ask")

    __class__ = property(_refuse)
    __traceback__ = property(_refuse)
    __cause__ = property(_refuse)
    __context__ = property(_refuse)
    args = property(_refuse)


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise Panic


class Nameless(Exception, metaclass=Meta):
    pass


class TooOdd(BodyTooLarge):
    """A rejection without a failure."""

    def __init__(self) -> None:
        Exception.__init__(self, "odd")  # compiled code would refuse its own constructor

    @property
    def failure(self) -> Any:  # type: ignore[override]
        raise Panic

    def __str__(self) -> str:
        raise Panic


class Slow(TimeoutError):
    """Not a timeout of the proxy's."""


#: By name: what makes the error, and how it is described.
KINDS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "panic": (lambda: Panic("in Rust"), "Panic: in Rust"),
    "generator-exit": (GeneratorExit, "GeneratorExit"),
    "interrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "cancelled": (asyncio.CancelledError, "CancelledError"),
    "no-text": (NoText, "NoText: its text cannot be read"),
    "bad-text": (BadText, "BadText: its text cannot be read"),
    "odd-text": (OddText, r"OddText: \ud800"),
    "lies": (lambda: Lies("a"), "Lies: a"),
    "nameless": (lambda: Nameless("b"), "Nameless: b"),
    "group": (lambda: BaseExceptionGroup("several", [Panic("p")]), "BaseExceptionGroup: several (1 sub-exception)"),
    "too-odd": (TooOdd, "TooOdd: its text cannot be read"),
    "timeout": (lambda: Slow("own"), "Slow: own"),
}


def make(kind: str) -> BaseException:
    """An error of that kind."""
    return KINDS[kind][0]()
