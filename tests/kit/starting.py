"""The fixture `start` and its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from tests.kit.talk import Talk

P = ParamSpec("P")
R = TypeVar("R")


def _with_parameters_of(
    model: Callable[P, Any],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Gives a method the parameters of `model`, so that type checkers and editors know them."""
    return lambda method: method


class Start:
    """Begins talks for one test: `start(...)` takes the keywords of `Talk`."""

    def __init__(self, one_byte: bool, is_secure: bool = False, over: tuple[str, str] | None = None) -> None:
        """The keywords of `Talk` that the way of a conversation decides."""
        self._one_byte = one_byte
        self._is_secure = is_secure
        self._over = over
        self._talks: list[Talk] = []

    @_with_parameters_of(Talk)
    def __call__(self, *args: Any, **options: Any) -> Talk:
        talk = Talk(*args, one_byte=self._one_byte, is_secure=self._is_secure, over=self._over, **options)
        self._talks.append(talk)
        return talk

    def end(self) -> None:
        """Ends each talk: nothing may have leaked."""
        for talk in self._talks:
            talk.end()
