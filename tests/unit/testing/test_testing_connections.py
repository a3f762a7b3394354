"""`ConnectionWorld`, and the connection filters of `examples/`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pymosn.api import ConnectionFilter, FilteredConnection, SharedState, StreamFilter
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.loading import load_connection_filter
from pymosn.testing import ConnectionWorld, InvalidTest, Response, tls_facts

FILE = Path(__file__).parents[3] / "examples" / "connection_filters" / "guards.py"
CALLERS = {"allow": ["spiffe://example.org/ns/shop/", "spiffe://example.org/ns/jobs/sa/nightly"], "rate": 2, "burst": 3}
SHOP = tls_facts(uris=("spiffe://example.org/ns/shop/sa/cart",))


def example(name: str, config: dict[str, object] | None = None) -> Any:
    """A filter of the example."""
    return load_connection_filter(FILE, name, config or {})[0]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("uris", "is_verified", "passes"),
    [
        (("spiffe://example.org/ns/shop/sa/cart",), True, True),
        (("spiffe://example.org/ns/jobs/sa/nightly",), True, True),
        (("https://other", "spiffe://example.org/ns/jobs/sa/nightly"), True, True),
        (("spiffe://example.org/ns/jobs/sa/nightly2",), True, False),
        (("spiffe://example.org/ns/shopping/sa/cart",), True, False),
        (("spiffe://example.org/ns/shop/sa/cart",), False, False),
        ((), True, False),
    ],
)
def test_callers_by_their_id(uris: tuple[str, ...], is_verified: bool, passes: bool) -> None:
    async def test() -> None:
        async with ConnectionWorld((example("AllowCallers", CALLERS), CALLERS)) as world:
            client = await world.connect(tls=tls_facts("shop.example", uris=uris, is_verified=is_verified))
            await client.send(b"hello")
            assert client.is_known == passes
            assert client.was_reset != passes
            assert client.passed_on == (b"hello" if passes else b"")
            assert client.reason == ("" if passes else "access_denied")
            assert world.counter("AllowCallers", "refused") == (0 if passes else 1)

    run(test)


def test_callers_without_tls_are_refused() -> None:
    async def test() -> None:
        async with ConnectionWorld((example("AllowCallers", CALLERS), CALLERS)) as world:
            assert (await world.connect()).was_reset

    run(test)


def test_callers_that_connect_too_often() -> None:
    async def test() -> None:
        async with ConnectionWorld((example("AllowCallers", CALLERS), CALLERS)) as world:
            known = [(await world.connect("192.0.2.1", SHOP)).is_known for _ in range(4)]
            assert known == [True, True, True, False]
            assert (await world.connect("192.0.2.2", SHOP)).is_known
            await world.advance(0.5)
            assert (await world.connect("192.0.2.1", SHOP)).is_known
            assert world.counter("AllowCallers", "limited") == 1

    run(test)


@pytest.mark.parametrize("each", [0, 1, 7])
def test_cards_are_hidden_however_the_lines_are_cut(each: int) -> None:
    async def test() -> None:
        async with ConnectionWorld(example("RedactCards")) as world:
            client = await world.connect()
            text = b"order 4111 1111 1111 1111 ok\nshort 1234\nlast 5500000000000004"
            for start in range(0, len(text), each or len(text)):
                await client.reply(text[start : start + (each or len(text))])
            assert client.received == b"order [card] ok\nshort 1234\n"
            await client.hang_up()
            assert client.received.endswith(b"last [card]")
            assert b"1111" not in client.received
            assert client.is_closed

    run(test)


def test_a_line_that_does_not_end() -> None:
    async def test() -> None:
        async with ConnectionWorld(example("RedactCards")) as world:
            client = await world.connect()
            await client.reply(b"x" * 70_000)
            assert client.was_reset
            assert client.received == b""

    run(test)


@pytest.mark.parametrize("each", [0, 1])
def test_a_server_of_its_own(each: int) -> None:
    async def test() -> None:
        async with ConnectionWorld(example("Banner"), is_last=True) as world:
            client = await world.connect()
            await client.send(b"one\r\ntwo\r\nquit\r\nlate\r\n", each)
            assert client.received == b"220 ready\r\n250 one\r\n250 two\r\n221 bye\r\n"
            assert client.is_closed
            assert not client.was_reset

    run(test)


class Asks(ConnectionFilter):
    """Asks a cluster whether a client may connect."""

    async def on_connection(self, connection: FilteredConnection) -> None:
        answer = await self.context.clusters["authz"].get(f"/{connection.remote_ip}")
        if answer.status != 200:
            connection.abort()


def test_an_async_filter_with_a_subrequest() -> None:
    async def test() -> None:
        def authz(request: Any) -> Response:
            return Response(200 if request.path == "/192.0.2.1" else 403)

        async with ConnectionWorld(Asks, clusters={"authz": authz}) as world:
            assert (await world.connect("192.0.2.1")).is_known
            assert (await world.connect("192.0.2.9")).was_reset

    run(test)


class Fails(ConnectionFilter):
    def on_data(self, data: bytes) -> bool:
        raise ValueError("bad bytes")


def test_errors_of_filters_are_results() -> None:
    async def test() -> None:
        async with ConnectionWorld(Fails) as world:
            client = await world.connect()
            await client.send(b"x")
            assert client.was_reset
            assert client.reason == "filter_error"
            assert world.counter("Fails", "errors") == 1
            assert "ValueError: bad bytes" in world.log[0]

    run(test)


class NeverStarts(SharedState):
    async def start(self) -> None:
        raise OSError("no file")


def test_mistakes_are_reported() -> None:
    class Unstartable(ConnectionFilter):
        Shared = NeverStarts

    class Wrong(ConnectionFilter):
        def onData(self) -> None:  # noqa: N802 - a mistake
            pass

    async def test() -> None:
        for wrong in (5, StreamFilter, ConnectionFilter):
            with pytest.raises(InvalidTest, match="expected a class of connection filters"):
                ConnectionWorld(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidTest, match="must be a dict"):
            ConnectionWorld((Fails, 5))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="did you mean on_data"):
            ConnectionWorld(Wrong)
        with pytest.raises(FilterConfigError, match="burst"):
            ConnectionWorld((example("AllowCallers", CALLERS), {"allow": [], "burst": 0}))
        with pytest.raises(InvalidTest, match="`start` of NeverStarts failed"):
            async with ConnectionWorld(Unstartable):
                pass
        async with ConnectionWorld(example("Banner"), is_last=True) as world:
            with pytest.raises(InvalidTest, match="IP address"):
                await world.connect("here")
            client = await world.connect()
            with pytest.raises(InvalidTest, match="does not know this connection"):
                await client.reply(b"x")

    run(test)
    assert "guards" not in sys.modules
