"""Recorded exchanges as fixtures of tests of filters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from pymosn.api import Exchange, StreamFilter
from pymosn.recording import Body, Recorded, RecordedRequest, RecordedResponse
from pymosn.recording.files import RecordingWriter
from pymosn.testing import InvalidTest, World, recorded, run


def exchange(number: int, protocol: str = "Http1", rpc: bool = False, size: int = 3) -> Recorded:
    return Recorded(
        number=number,
        rpc=rpc,
        story={"time": float(number), "protocol": protocol},
        request=RecordedRequest(
            method="POST",
            target="/orders?token=***REDACTED***",
            host="shop.example",
            headers=[["x-tenant", "a"], ["content-length", "3"], ["authorization", "***REDACTED***"]],
            size=size,
            body=Body(size=size, data=b"abc", complete=size == 3),
        ),
        response=RecordedResponse(
            status=200,
            headers=[["content-type", "application/json"], ["date", "yesterday"], ["content-length", "7"]],
            size=7,
            body=Body(size=7, data=b'{"a":1}', complete=True),
        ),
    )


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    writer = RecordingWriter(str(tmp_path / "day.tape"), 1 << 20)
    for one in (exchange(1), exchange(2, "Http2"), exchange(3, "bolt", rpc=True), exchange(4, size=9)):
        writer.add(msgspec.json.encode(one))
    writer.finish()
    return tmp_path / "day.tape"


class Other(StreamFilter):
    """What the new version of a filter changes."""

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers["x-new"] = "yes"
        exchange.response_head.set_json({"a": 2})


def test_an_exchange_is_sent_and_compared(tape: Path) -> None:
    for one in recorded(tape)[:2]:
        result = run(StreamFilter(None), one.request(), upstream=one.upstream, client_protocol=one.protocol)
        assert result.upstream[0].body == b"abc"
        assert result.upstream[0].headers["x-tenant"] == "a"
        assert result.upstream[0].headers["host"] == "shop.example"
        assert one.differences(result) == []
        result = run(Other(None), one.request(), upstream=one.upstream, client_protocol=one.protocol)
        assert [found.text() for found in one.differences(result)] == [
            "header x-new: absent, now 'yes'",
            "body $.a: 1, now 2",
        ]


def test_several_exchanges_of_one_world(tape: Path) -> None:
    async def scenario() -> None:
        [one, *_] = recorded(tape)
        async with World(StreamFilter(None), upstream=one.upstream) as world:
            for _ in range(3):
                assert one.differences(await world.send(one.request())) == []

    asyncio.run(scenario())


def test_what_cannot_be_sent(tape: Path) -> None:
    *_, call, cut = recorded(tape)
    assert str(cut) == "4 POST shop.example/orders?token=***REDACTED***"
    with pytest.raises(InvalidTest, match="no RPC"):
        call.request()
    with pytest.raises(InvalidTest, match="no response of HTTP"):
        call.upstream(recorded(tape)[0].request())
    with pytest.raises(InvalidTest, match="not recorded as a whole"):
        cut.request()
