"""The client and the upstream of the system tests that speak HTTP/2: with each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from h2_peers import H2Client, H2Server, Message, Serving
from tests.kit import certificates
from tls_peers import client_context


def echo(end: Serving, stream: int, message: Message) -> None:
    end.respond(stream, message.body, trailers=[("sum", str(len(message.body)))])


@pytest.fixture(params=["plain", "tls"])
def port(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    secure = request.param == "tls"
    upstream = H2Server(echo, certificates.server_context() if secure else None)
    yield upstream.port, secure
    assert upstream.faults == []
    upstream.close()


def test_large_content_both_ways(port: tuple[int, bool]) -> None:
    number, secure = port
    with H2Client(number, context=client_context() if secure else None) as client:
        response = client.request("POST", "/", body=b"x" * 300_000)
        assert (response.status, len(response.body), response.trailers) == (200, 300_000, [("sum", "300000")])
        streams = [client.start("POST", "/", body=b"y" * 1000) for _ in range(5)]
        assert [client.wait(stream).body for stream in streams] == [b"y" * 1000] * 5
