"""Body filters may change the trailers of a response, or take them into the body."""

from __future__ import annotations

import pytest

from pymosn.api import Exchange, StreamFilter
from pymosn.core.headers import headers_from
from pymosn.testing import Request, Response, run


class IntoBody(StreamFilter):
    """Appends the trailers to the body."""

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        trailers = exchange.response_head.trailers
        if not last or trailers is None:
            return data
        exchange.response_head.trailers = None
        return data + b"".join(name + b"=" + value for name, value in trailers.items_raw())


class Replaced(StreamFilter):
    """Other trailers instead."""

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        if last:
            exchange.response_head.trailers = headers_from({"x-other": "1"})


def with_trailers(chunks: list[str]) -> Response:
    response = Response(200, chunks)
    response.trailers = headers_from({"x-sum": "7"})
    return response


@pytest.mark.parametrize("chunks", [[], ["ab"], ["a", "b"]])
def test_trailers_that_a_filter_takes_into_the_body(chunks: list[str]) -> None:
    result = run(IntoBody({}), Request(), upstream=with_trailers(chunks))
    assert (result.body, result.trailers, result.was_reset) == ("".join(chunks).encode() + b"x-sum=7", None, False)


@pytest.mark.parametrize("chunks", [[], ["a", "b"]])
def test_trailers_that_a_filter_replaces(chunks: list[str]) -> None:
    result = run(Replaced({}), Request(), upstream=with_trailers(chunks))
    assert result.trailers is not None
    assert result.trailers.items() == [("x-other", "1")]
    assert result.body == "".join(chunks).encode()


def test_trailers_that_no_filter_changes() -> None:
    class Reader(StreamFilter):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
            pass

    result = run(Reader({}), Request(), upstream=with_trailers(["a", "b"]))
    assert result.trailers is not None
    assert result.trailers.items() == [("x-sum", "7")]
