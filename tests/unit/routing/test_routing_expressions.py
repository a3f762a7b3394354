"""Errors of the library for expressions: an expression that it cannot read is a fault of the configuration."""

import pytest

from pymosn.routing.expressions import Expression, ExpressionError

celpy = pytest.importorskip("celpy")


def test_an_invalid_expression() -> None:
    with pytest.raises(ExpressionError):
        Expression("1 +")


@pytest.mark.parametrize("error", [RecursionError("too deep"), KeyError("x"), ZeroDivisionError()])
def test_whatever_else_the_library_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(celpy.Environment, "compile", fails)
    with pytest.raises(ExpressionError, match=type(error).__name__):
        Expression("true")
