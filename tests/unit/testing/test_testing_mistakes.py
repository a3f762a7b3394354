"""Mistakes of tests: the kit reports each at once, with its line, and never waits for what cannot come."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pymosn.api import ClientError, Exchange, Reply, StreamFilter
from pymosn.testing import Down, InvalidTest, Request, Response, World, make, messages, run

pytestmark = pytest.mark.usefixtures("at_once")


class Passes(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["x-seen"] = "1"


class Asks(StreamFilter):
    """A mistake in a cluster that a filter asks is not taken for the filter's error."""

    async def on_request(self, exchange: Exchange) -> Reply | None:
        try:
            await self.clusters["auth"].get("/check")
        except ClientError as error:
            return Reply(503, error.reason)
        return None


def raises(request: Request) -> Response:
    raise ValueError("wrong")


async def raises_later(request: Request) -> Response:
    await asyncio.sleep(0)
    raise KeyError("wrong")


def exits(request: Request) -> Response:
    raise SystemExit(3)


async def is_cancelled(request: Request) -> Response:
    raise asyncio.CancelledError


def raises_inside(request: Request) -> Response:
    return Response(200, str(int("no number")))


def not_awaited(request: Request) -> Any:
    async def inner() -> Any:
        return raises_later(request)

    return inner()


def chunks_of_numbers(request: Request) -> Response:
    return Response(200, [1, 2])  # type: ignore[list-item]


def breaks_in_the_middle(request: Request) -> Response:
    def body() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("wrong")

    return Response(200, body())


async def yields_numbers(request: Request) -> Response:
    async def body() -> AsyncIterator[Any]:
        yield b"one"
        yield 2

    return Response(200, body())


def status_of_text(request: Request) -> Response:
    response = Response()
    response.status = "200"  # type: ignore[assignment]
    return response


def trailers_of_dict(request: Request) -> Response:
    response = Response()
    response.trailers = {"x-a": "1"}  # type: ignore[assignment]
    return response


def unknown_reason(request: Request) -> Response:
    raise Down("connection_refused")


def header_with_a_number(request: Request) -> Response:
    return Response(200, "", {"x-count": 1})  # type: ignore[dict-item]


def header_with_a_line_end(request: Request) -> Response:
    return Response(200, "", {"x-a": "1\r\nx-b: 2"})


class Upstream:
    def __call__(self, request: Request) -> Any:
        return "text"


#: Functions of upstreams, what the test is told, and the name of the function that it names.
WRONG_UPSTREAMS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "raises": (raises, "raised ValueError: wrong", "raises"),
    "raises in a coroutine": (raises_later, "raised KeyError: 'wrong'", "raises_later"),
    "exits": (exits, "raised SystemExit: 3", "exits"),
    "is cancelled": (is_cancelled, "raised CancelledError", "is_cancelled"),
    "raises inside a call": (raises_inside, "raised ValueError: invalid literal", "raises_inside"),
    "returns None": (lambda request: None, "returned None, not a Response", "<lambda>"),
    "returns text": (lambda request: "ok", r"returned str \('ok'\), not a Response", "<lambda>"),
    "returns bytes": (lambda request: b"ok", "returned bytes", "<lambda>"),
    "returns a Reply": (lambda request: Reply(200), "returned Reply", "<lambda>"),
    "returns a tuple": (lambda request: (200, "ok"), "returned tuple", "<lambda>"),
    "returns the class": (lambda request: Response, "returned type", "<lambda>"),
    "returns a coroutine in a coroutine": (not_awaited, "returned coroutine", "not_awaited"),
    "is an object that returns text": (Upstream(), r"returned str \('text'\)", "__call__"),
    "is a partial that raises": (functools.partial(raises), "raised ValueError: wrong", "raises"),
    "has chunks of numbers": (chunks_of_numbers, "a chunk of a body must be bytes or text, not int", "chunks_of_numbers"),
    "has a body that raises": (breaks_in_the_middle, "the body of a response raised RuntimeError: wrong", "body"),
    "has a body that yields a number": (yields_numbers, "a chunk of a body must be bytes or text, not int", ""),
    "has a status of text": (status_of_text, "status of a response must be from 200 to 599, not '200'", ""),
    "has trailers of a dict": (trailers_of_dict, "trailers must be HttpHeaders or None, not dict", ""),
    "is down for no known reason": (unknown_reason, "'connection_refused' is not a reason word", "unknown_reason"),
    "has a header with a number": (header_with_a_number, "must be text, not", "header_with_a_number"),
    "has a header with a line end": (header_with_a_line_end, "raised HeaderError", "header_with_a_line_end"),
    "sends an interim response": (lambda request: Response(100), "from 200 to 599, not 100", "<lambda>"),
}


@pytest.mark.parametrize("case", WRONG_UPSTREAMS)
@pytest.mark.parametrize("cluster", ["service", "auth"])
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_upstreams(case: str, cluster: str) -> None:
    function, text, name = WRONG_UPSTREAMS[case]
    filters = make(Passes) if cluster == "service" else make(Asks)
    with pytest.raises(InvalidTest, match=text) as caught:
        run(filters, Request("POST", "/", body="hello"), clusters={cluster: function})
    if name:
        assert f" in {name})" in str(caught.value)
        assert f"(at {__file__}:" in str(caught.value)


def test_the_line_is_the_one_that_raises() -> None:
    line = raises_inside.__code__.co_firstlineno + 1
    with pytest.raises(InvalidTest, match=rf"test_testing_mistakes\.py:{line} in raises_inside\)") as caught:
        run(make(Passes), Request(), upstream=raises_inside)
    assert isinstance(caught.value.__cause__, ValueError)


def test_assertions_and_the_outcomes_of_pytest_stay_what_they_are() -> None:
    def asserts(request: Request) -> Response:
        assert request.path == "/other"
        return Response()

    def fails(request: Request) -> Response:
        pytest.fail("as the test says")

    def interrupts(request: Request) -> Response:
        raise KeyboardInterrupt

    with pytest.raises(AssertionError, match="/other"):
        run(make(Passes), Request(), upstream=asserts)
    with pytest.raises(pytest.fail.Exception, match="as the test says"):
        run(make(Passes), Request(), upstream=fails)
    with pytest.raises(KeyboardInterrupt):
        run(make(Passes), Request(), upstream=interrupts)


def test_down_in_the_middle_is_no_mistake() -> None:
    def breaks(request: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield b"one"
            raise Down("reset_after_response")

        return Response(200, body())

    result = run(make(Passes), Request(), upstream=breaks)
    assert (result.status, result.body, result.was_reset, result.reason) == (200, b"one", True, "reset_after_response")


async def streams(request: Request) -> Response:
    async def body() -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(0)
        yield "two"

    return Response(200, body())


def test_bodies_that_are_made_while_they_are_sent() -> None:
    assert run(make(Passes), Request(), upstream=streams).chunks == [b"one ", b"two"]
    assert run(make(Passes), Request(), upstream=Response(200, iter(["a", "b"]))).chunks == [b"a", b"b"]


def test_an_iterator_serves_one_request() -> None:
    async def talk() -> None:
        world = World(make(Passes), Response(200, iter(["a", "b"])))
        assert (await world.send(Request())).text == "ab"
        await world.send(Request())

    with pytest.raises(InvalidTest, match="is an iterator that was already sent"):
        asyncio.run(talk())


def test_a_body_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000

    monkeypatch.setattr(messages, "MOST_BYTES", 1 << 20)
    with pytest.raises(InvalidTest, match=r"has no end within 1 MiB \(at .* in endless\)"):
        run(make(Passes), Request(), upstream=Response(200, endless()))


def refuses(*arguments: Any, **options: Any) -> InvalidTest:
    """What `World` says about arguments; it names the line of this function."""
    with pytest.raises(InvalidTest) as caught:
        World(*arguments, **options)
    return caught.value


ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "a class": ((Passes,), {}, "expected an object, not the class Passes: use make(Passes, config)"),
    "a class in a list": (([make(Passes), Asks],), {}, "expected an object, not the class Asks"),
    "no filter": (("Passes",), {}, "expected a filter or a list of filters, not 'Passes'"),
    "None": ((None,), {}, "expected a filter or a list of filters, not None"),
    "an upstream of text": (([],), {"upstream": "ok"}, "expected a Response or a function of the Request, not 'ok'"),
    "an upstream of a status": (([],), {"upstream": 200}, "not 200"),
    "an upstream that is a Reply": (([],), {"upstream": Reply(200)}, "not <pymosn"),
    "an upstream that is a class": (([],), {"upstream": Response}, "not <class"),
    "a cluster of None": (([],), {"clusters": {"auth": None}}, "cluster 'auth': expected a Response"),
    "clusters in a list": (([],), {"clusters": [Response()]}, "clusters must be a dict by name, not list"),
    "a cluster without a name": (([],), {"clusters": {None: Response()}}, "the name of a cluster must be text, not None"),
    "the upstream twice": (([], Response()), {"clusters": {"service": Response()}}, "are defined twice"),
    "no parameter": (([],), {"upstream": lambda: Response()}, "is called with one argument, the Request"),
    "two parameters": (([],), {"upstream": lambda request, more: Response()}, "missing a required argument: 'more'"),
    "a named parameter": (([],), {"upstream": lambda *, request: Response()}, "is called with one argument"),
    "a generator": (([],), {"upstream": lambda request: (yield)}, "not yield"),
    "on_error": (([],), {"on_error": "ignore"}, "on_error must be 'fail' or 'skip', not 'ignore'"),
    "timeout": (([],), {"timeout": "1s"}, "timeout must be a number of seconds, not '1s'"),
    "workers": (([],), {"workers": 0}, "workers must be a positive number, not 0"),
    "route_config": (([],), {"route_config": ["reads"]}, "route_config must be a dict"),
    "client_ip": (([],), {"client_ip": "localhost"}, "client_ip must be an IP address"),
    "an unknown setting": (([],), {"http1": {"trusts": True}}, "http1: unknown setting 'trusts'"),
    "a setting of another type": (([],), {"http1": {"max_header_size": "8k"}}, "http1: "),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_of_a_world(case: str) -> None:
    arguments, options, text = ARGUMENTS[case]
    assert text in str(refuses(*arguments, **options))


def test_the_line_of_an_argument() -> None:
    line = refuses.__code__.co_firstlineno + 3
    assert f"(at {__file__}:{line} in refuses)" in str(refuses(Passes))
    with pytest.raises(InvalidTest, match=rf"in {test_the_line_of_an_argument.__name__}\)"):
        Request("GET", None)  # type: ignore[arg-type]


def test_the_same_object_twice() -> None:
    passes = make(Passes)
    assert "is in the chain twice" in str(refuses([passes, passes]))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("GET", b"/"), "the target of a request must be one line of text"),
        (("GET", "/a\r\nx-b: 1"), "the target of a request must be one line of text"),
        ((None, "/"), "the method of a request must be one line of text, not None"),
        (("GET", "/", "x-a: 1"), "headers must be a dict or a list of pairs, not str"),
        (("GET", "/", {"x-a": 1}), "names and values of headers must be text"),
        (("GET", "/", [("x-a",)]), "names and values of headers must be text"),
        (("GET", "/", [["x-a", "1"]]), "names and values of headers must be text"),
        (("POST", "/", None, {"a": 1}), "a body must be bytes, text or chunks of them, not dict"),
        (("POST", "/", None, None), "a body must be bytes, text or chunks of them, not None"),
        (("POST", "/", None, 5), "a body must be bytes, text or chunks of them, not int"),
        (("POST", "/", None, [b"a", None]), "a chunk of a body must be bytes or text, not None"),
    ],
)
def test_arguments_of_a_request(arguments: Any, text: str) -> None:
    with pytest.raises(InvalidTest, match=text):
        Request(*arguments)


@pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding"])
def test_headers_that_frame_a_body(name: str) -> None:
    with pytest.raises(ValueError, match=f"header {name} is written by the kit"):
        Request("POST", "/", {name: "5"})


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("method", None),
        ("path", b"/"),
        ("query", "a\n"),
        ("headers", {"x-a": "1"}),
        ("chunks", ["text"]),
        ("chunks", b"bytes"),
        ("trailers", {"x": "y"}),
    ],
)
def test_attributes_of_a_request(attribute: str, value: Any) -> None:
    request = Request("POST", "/", body="hello")
    setattr(request, attribute, value)
    with pytest.raises(InvalidTest, match=attribute):
        run(make(Passes), request)


@pytest.mark.parametrize("wrong", ["GET /", None, Request])
def test_what_is_not_a_request(wrong: Any) -> None:
    with pytest.raises(InvalidTest, match="expected a Request, not"):
        run(make(Passes), wrong)


def test_make() -> None:
    with pytest.raises(InvalidTest, match="expected the class of a filter"):
        make(make(Passes))  # type: ignore[arg-type]
    with pytest.raises(InvalidTest, match="must be a dict"):
        make(Passes, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", ["1", None, -1, float("nan"), float("inf")])
def test_time_that_does_not_pass(seconds: Any) -> None:
    async def advances() -> None:
        await World(make(Passes)).advance(seconds)

    with pytest.raises(InvalidTest, match=r"the clock advances by a number of seconds, not by .* in advances\)"):
        asyncio.run(advances())


def test_a_counter_of_no_filter() -> None:
    assert World(make(Passes)).counter("Passes", "calls") == 0
    with pytest.raises(InvalidTest, match="there is no filter 'Pases', only Passes"):
        World(make(Passes)).counter("Pases", "calls")
