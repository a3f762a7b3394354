"""`async` filters up to their first wait, which runs in the same call as the plain ones, and after it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit import DATE, GET, OK, Start

from pymosn.api import Exchange, Reply, StreamFilter

pytestmark = pytest.mark.also_h2

NO = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n" + DATE + b"\r\nno"


class Asks(StreamFilter):
    """Does what it is given, in the phases of the request and of the reply."""

    def __init__(self, does: Callable[[Exchange], Awaitable[Any]]) -> None:
        super().__init__({})
        self._does = does
        self.tasks: list[asyncio.Task[Any] | None] = []

    async def on_request(self, exchange: Exchange) -> Any:
        self.tasks.append(asyncio.current_task())
        return await self._does(exchange)

    async def on_response(self, exchange: Exchange) -> Any:
        self.tasks.append(asyncio.current_task())


async def passes(exchange: Exchange) -> None:
    exchange.request.headers.add("x-seen", "yes")


async def refuses(exchange: Exchange) -> Reply:
    return Reply(403, "no")


async def raises(exchange: Exchange) -> None:
    raise ValueError("wrong")


async def answers_nonsense(exchange: Exchange) -> str:
    return "nonsense"


async def exits(exchange: Exchange) -> None:
    raise SystemExit(3)


async def cancels_itself(exchange: Exchange) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def with_waits(does: Callable[[Exchange], Awaitable[Any]], rounds: int) -> Callable[[Exchange], Awaitable[Any]]:
    async def wait(exchange: Exchange) -> Any:
        for _ in range(rounds):
            await asyncio.sleep(0)
        return await does(exchange)

    return wait


ROUNDS = pytest.mark.parametrize("rounds", [0, 1, 2])


@ROUNDS
def test_it_passes_the_exchange_on(start: Start, rounds: int) -> None:
    asks = Asks(with_waits(passes, rounds))
    talk = start(filters={"asks": asks})
    client = talk.connect()
    for _ in range(2):
        client.sends(GET)
        upstream = talk.expect_dial() if not talk.upstreams else talk.upstreams[0]
        upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-seen: yes\r\n\r\n")
        upstream.sends(OK)
        client.receives(OK)
    assert None not in asks.tasks
    assert len(set(asks.tasks)) == 4, "each call has a task of its own"
    assert all(task is not None and task.done() and task.get_name() == "asks" for task in asks.tasks)


@ROUNDS
def test_it_answers(start: Start, rounds: int) -> None:
    talk = start(filters={"asks": Asks(with_waits(refuses, rounds))})
    client = talk.connect()
    client.sends(GET)
    client.receives(NO)
    assert talk.filter_errors("asks") == 0


# In a later step the loop itself raises a SystemExit, and the worker ends: see tests/system.
@pytest.mark.parametrize(
    ("wrong", "said", "rounds"),
    [
        (raises, "failed: ValueError: wrong", 0),
        (raises, "failed: ValueError: wrong", 2),
        (answers_nonsense, "failed: it returned str, not a Reply or None", 0),
        (answers_nonsense, "failed: it returned str, not a Reply or None", 2),
        (cancels_itself, "failed: CancelledError: the filter cancelled itself", 0),
        (cancels_itself, "failed: CancelledError: the filter cancelled itself", 2),
        (exits, "failed: SystemExit: 3", 0),
    ],
)
def test_it_does_wrong(start: Start, wrong: Callable[[Exchange], Awaitable[Any]], said: str, rounds: int) -> None:
    talk = start(filters={"asks": Asks(with_waits(wrong, rounds))})
    client = talk.connect()
    client.sends(GET)
    assert client.takes().startswith(b"HTTP/1.1 500")
    assert said in "\n".join(talk.log.lines)
    assert talk.filter_errors("asks") == 1


@pytest.mark.http1_only("one call of the connection")
def test_filters_that_do_not_wait_are_asked_in_one_call(start: Start) -> None:
    order: list[str] = []

    def notes(name: str) -> Asks:
        async def note(exchange: Exchange) -> None:
            order.append(name)

        return Asks(note)

    talk = start(filters={"a": notes("a"), "b": notes("b")})
    client = talk.connect()

    def receive() -> None:
        client.transport.protocol.data_received(GET)  # type: ignore[union-attr]
        order.append("returned")

    talk.do(receive)
    assert order == ["a", "b", "returned"]
    talk.expect_dial().receives(GET)


@pytest.mark.parametrize("answer", [None, Reply(403, "no"), ValueError("late")])
@ROUNDS
def test_the_exchange_can_end_before_the_filters_first_wait(start: Start, answer: Any, rounds: int) -> None:
    ended: list[str] = []

    async def ends(exchange: Exchange) -> Any:
        talk.clients[0].transport.lose(ConnectionResetError(104, "reset"))
        try:
            for _ in range(rounds):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append("returned")
        if isinstance(answer, Exception):
            raise answer
        return answer

    talk = start(filters={"asks": Asks(ends)})
    talk.connect().sends(GET)
    talk.expect_no_dial()
    assert ended == ["returned" if rounds == 0 else "cancelled"]
    assert talk.reasons() == ["client_gone"]
    assert talk.filter_errors("asks") == 0


@ROUNDS
def test_the_client_leaves_while_it_waits(start: Start, rounds: int) -> None:
    ended: list[str] = []

    async def waits(exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    talk = start(filters={"asks": Asks(with_waits(waits, rounds))})
    client = talk.connect()
    client.sends(GET)
    assert ended == []
    client.resets()
    assert ended == ["cancelled"]
    assert talk.reasons() == ["client_gone"]


@ROUNDS
def test_its_time_runs_from_its_first_wait(start: Start, rounds: int) -> None:
    class Slow(Asks):
        timeout = 1.0

    async def waits(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    talk = start(filters={"asks": Slow(with_waits(waits, rounds))})
    client = talk.connect()
    client.sends(GET)
    talk.advance(0.9)
    client.receives_nothing()
    talk.advance(0.2)
    assert client.takes().startswith(b"HTTP/1.1 504")
    assert talk.reasons() == ["filter_timeout"]


def test_one_that_does_not_wait_sets_no_alarm(start: Start) -> None:
    class Quick(Asks):
        timeout = 1.0

    talk = start(filters={"asks": Quick(passes)})
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(2.0)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.metrics.group("filter", ("filter", "asks")).counter("timeouts").value == 0
