"""Errors of filters other than raising: replies that cannot be sent, streams that break, errors in on_complete."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.kit import DATE, GET, Start, Talk

from pymosn.api import Exchange, Reply, StreamFilter

pytestmark = pytest.mark.also_h2

OK = b"HTTP/1.1 200 Fine\r\nDate: today\r\nContent-Length: 2\r\n\r\nhi"
HERE = "test_conversation_filter_wrongs.py:"


class Panic(BaseException):
    """What extensions in Rust raise: no Exception."""


class Changes(StreamFilter):
    def __init__(self, change: Callable[[Exchange], Any]) -> None:
        super().__init__({})
        self._change = change

    def on_response(self, exchange: Exchange) -> Any:
        return self._change(exchange)


class Ends(Changes):
    def on_response(self, exchange: Exchange) -> Any:
        return None

    def on_complete(self, exchange: Exchange) -> Any:
        return self._change(exchange)


class Answers(StreamFilter):
    def __init__(self, pieces: Callable[[], Any]) -> None:
        super().__init__({})
        self._pieces = pieces

    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(200, self._pieces())


def reply_through(start: Start, stream_filter: StreamFilter) -> tuple[Talk, bytes]:
    """A conversation in which the upstream answered OK, and what the client got."""
    talk = start(filters={"bad": stream_filter})
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    return talk, client.takes()


def sets_status(status: int) -> Changes:
    def change(exchange: Exchange) -> None:
        exchange.response_head.status = status

    return Changes(change)


def takes_reply_away(exchange: Exchange) -> None:
    exchange.response = None


@pytest.mark.http1_only("reason phrase")
def test_a_reason_goes_with_its_status(start: Start) -> None:
    assert reply_through(start, sets_status(200))[1].startswith(b"HTTP/1.1 200 Fine\r\n")
    assert reply_through(start, sets_status(503))[1].startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert reply_through(start, sets_status(599))[1].startswith(b"HTTP/1.1 599 ")


@pytest.mark.http1_only("spelling")
def test_a_reply_that_becomes_a_204_has_no_length(start: Start) -> None:
    _, got = reply_through(start, sets_status(204))
    assert got == b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (sets_status(600), "a filter set an invalid status: 600"),
        (Changes(takes_reply_away), "a filter removed the response"),
    ],
)
def test_a_reply_that_cannot_be_sent(start: Start, bad: StreamFilter, said: str) -> None:
    talk, got = reply_through(start, bad)
    assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert talk.reasons() == ["filter_error"]
    assert [line for line in talk.log.lines if said in line]


class Unasked:
    """What lazy objects of frameworks do outside of a request: they have no class to tell."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a request")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise RuntimeError("outside of a request")


class Pretends(Unasked):
    __class__ = Reply  # type: ignore[assignment]


class OddBytes(bytes):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class ChangesBody(Changes):
    def on_response(self, exchange: Exchange) -> Any:
        return None

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> Any:
        return self._change(exchange)


@pytest.mark.parametrize("answer", [Unasked, Pretends])
def test_an_answer_that_does_not_tell_its_class(start: Start, answer: Callable[[], Any]) -> None:
    for kind in (Changes, ChangesBody):
        talk, got = reply_through(start, kind(lambda exchange: answer()))
        assert got.startswith(b"HTTP/1.1 500 ")
        assert talk.filter_errors("bad") == 1


def test_a_chunk_that_overrides_bytes_is_its_bytes(start: Start) -> None:
    talk, got = reply_through(start, ChangesBody(lambda exchange: OddBytes(b"yo")))
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nyo" in got
    assert talk.filter_errors("bad") == 0


@pytest.mark.parametrize("status", [0, 101, 204, 304, 503, 1000])
def test_a_status_set_while_the_body_is_filtered_is_an_error(start: Start, status: int) -> None:
    def change(exchange: Exchange) -> None:
        exchange.response_head.status = status

    talk, got = reply_through(start, ChangesBody(change))
    assert got.startswith(b"HTTP/1.1 500 ")
    assert talk.reasons() == ["filter_error"]


def raises_panic(exchange: Exchange) -> None:
    raise Panic("index out of bounds")


def test_a_base_exception_fails_only_its_exchange(start: Start) -> None:
    talk, got = reply_through(start, Changes(raises_panic))
    assert got.startswith(b"HTTP/1.1 500 ")
    assert talk.filter_errors("bad") == 1
    assert [line for line in talk.log.lines if "Panic: index out of bounds" in line and HERE in line]


def test_a_wrong_return_value_is_reported_with_the_methods_line(start: Start) -> None:
    talk, _ = reply_through(start, Changes(lambda exchange: 5))
    (line,) = [line for line in talk.log.lines if "it returned int" in line]
    assert HERE in line
    assert "in on_response)" in line


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda exchange: sys.exit(1), "SystemExit: 1"),
        (raises_panic, "Panic: index out of bounds"),
        (lambda exchange: 5, "it returned int, not None"),
    ],
)
def test_an_error_in_on_complete_harms_no_exchange(start: Start, end: Callable[[Exchange], Any], said: str) -> None:
    talk = start(filters={"bad": Ends(end)})
    client, upstream = talk.opening(GET)
    for number in (1, 2):
        if number == 2:
            client.sends(GET)
        upstream.takes()
        upstream.sends(OK)
        assert client.takes().endswith(b"hi")
        assert talk.filter_errors("bad") == number
    assert len([line for line in talk.log.lines if said in line and HERE in line]) == 2


def text() -> Iterator[Any]:
    yield b"one"
    yield "two"


async def raises() -> AsyncIterator[bytes]:
    yield b"one"
    raise LookupError("no more")


async def exits() -> AsyncIterator[bytes]:
    yield b"one"
    sys.exit(3)


async def cancels_itself() -> AsyncIterator[bytes]:
    yield b"one"
    raise asyncio.CancelledError


def closes_itself() -> Iterator[bytes]:
    yield b"one"
    raise GeneratorExit


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (closes_itself, "GeneratorExit"),
        (text, "a chunk of its reply is str, not bytes"),
        (raises, f"LookupError: no more (at .*{HERE}.* in raises)"),
        (exits, f"SystemExit: 3 (at .*{HERE}.* in exits)"),
        (cancels_itself, "CancelledError"),
    ],
)
def test_an_error_in_a_streamed_body_is_its_filters_error(start: Start, pieces: Callable[[], Any], said: str) -> None:
    talk = start(filters={"bad": Answers(pieces)})
    client = talk.connect()
    client.sends(GET)
    got = client.takes()
    assert got == b"HTTP/1.1 200 OK\r\n" + DATE + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n"
    assert not client.is_open()
    assert talk.filter_errors("bad") == 1
    first, _, rest = said.partition(".*")
    assert [line for line in talk.log.lines if "'bad'" in line and first in line and rest.partition(".*")[0] in line]
    assert talk.reasons() == ["filter_error"]
