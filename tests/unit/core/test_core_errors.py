"""Text of foreign errors: whatever their code does, describing them does not raise."""

from __future__ import annotations

from typing import Any

import pytest

from pymosn.core.errors import LIMIT, TRACEBACK_LIMIT, describe, reason, traceback_of, with_traceback
from pymosn.filters.errors import describe as describe_in_filter


def raising(error: BaseException) -> Any:
    def text(_self: object) -> str:
        raise error

    return text


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __format__(self, spec: str) -> str:
        raise RuntimeError

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError


class Nameless(Exception, metaclass=Meta):
    pass


class Traceless(Exception):
    @property
    def __traceback__(self) -> Any:
        raise RuntimeError


def odd(base: type[BaseException] = Exception, **methods: Any) -> BaseException:
    return type("Odd", (base,), methods)()


@pytest.mark.parametrize(
    "error",
    [
        *(
            odd(__str__=raising(inner), __repr__=raising(inner))
            for inner in (ValueError(), SystemExit(), KeyboardInterrupt())
        ),
        odd(BaseException, __str__=raising(RecursionError())),
        odd(__str__=lambda self: None),
        odd(__str__=lambda self: b"bytes"),
        odd(__str__=lambda self: str(self)),
        odd(__str__=lambda self: Text("text")),
        odd(__str__=lambda self: "\ud800" + "x" * 10_000_000),
        odd(__str__=lambda self: "a\nb\0"),
        Nameless("x"),
        Traceless("x"),
        ValueError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
        KeyError("\udcff"),
        SyntaxError("\ud800", ("f\ud800", 1, 1, "")),
        ExceptionGroup("\ud800", [ValueError("x" * 100_000)]),
    ],
    ids=lambda error: type(error).__base__.__name__,
)
def test_an_odd_error_has_a_text(error: BaseException) -> None:
    for text, limit in (
        (describe(error), 2 * LIMIT + 200),
        (reason(error), LIMIT + 100),
        (describe_in_filter(error), 2 * LIMIT + 600),
        (with_traceback(error), TRACEBACK_LIMIT + 100),
    ):
        assert type(text) is str
        text.encode()
        assert len(text) <= limit
    traceback_of(error)


def test_an_ordinary_error() -> None:
    assert describe(ValueError("no good")) == "ValueError: no good"
    assert describe(ValueError()) == "ValueError"
    assert reason(ValueError("no good")) == "no good"
    with pytest.raises(ValueError, match="no good") as caught:
        raise ValueError("no good")
    error = caught.value
    assert traceback_of(error) is error.__traceback__
    assert with_traceback(error).endswith("ValueError: no good\n")
    assert describe_in_filter(error).startswith(__file__)
