"""Spans in tests of filters."""

import asyncio

from pymosn.api import Exchange, StreamFilter
from pymosn.testing import Request, Response, World, make, run


class Audit(StreamFilter):
    """Records what it does."""

    async def on_request(self, exchange: Exchange) -> None:
        exchange.span.set_attribute("tenant", "t1")
        with exchange.span.child("audit"):
            await asyncio.sleep(0)


def test_spans_of_a_request() -> None:
    result = run(make(Audit), Request("GET", "/a"), tracing=True)
    server, attempt, audit = result.spans
    assert (server.name, server.kind, server.attributes["tenant"]) == ("GET", "server", "t1")
    assert (attempt.kind, attempt.attributes["http.response.status_code"]) == ("client", 200)
    assert (audit.name, audit.parent_id) == ("audit", server.span_id)
    assert result.upstream[0].headers["traceparent"].split("-")[2] == attempt.span_id


def test_traces_of_a_world() -> None:
    async def scenario() -> None:
        async with World(make(Audit), lambda request: Response(204), tracing=True) as world:
            await world.send(Request("GET", "/a"))
            await world.send(Request("GET", "/b"))
            assert [trace.spans[0].attributes["url.path"] for trace in world.traces] == ["/a", "/b"]

    asyncio.run(scenario())


def test_without_tracing_there_are_none() -> None:
    result = run(make(Audit), Request("GET", "/a"))
    assert result.spans == []
    assert "traceparent" not in result.upstream[0].headers
