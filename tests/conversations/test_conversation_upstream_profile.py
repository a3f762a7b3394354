"""Responses with harmless faults (`upstream_profile`), and the rule that a refused response has broken."""

import pytest
from tests.kit import GET, Start
from tests.kit.h2_peers import h2_upstream
from tests.kit.talk import HOST, Talk

#: What a server sends, and the rule that a strict proxy finds broken.
FAULTS = [
    (b"HTTP/1.1 200 OK\nDate: d\nX: 1\nContent-Length: 2\n\nhi", "control character in a status line"),
    (b"HTTP/1.1 200 OK\r\nDate: d\nX: 1\r\nContent-Length: 2\r\n\r\nhi", "LF without CR"),
    (b"HTTP/1.1 200 OK\r\nDate: d\r\nX : 1\r\nContent-Length : 2\r\n\r\nhi", "white space before a colon"),
    (b"HTTP/1.1 200 OK\r\nDate: d\r\nX:\r\n 1\r\nContent-Length: 2\r\n\r\nhi", "folded line"),
    (
        b"HTTP/1.1 200 OK\r\nDate: d\r\nX: 1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "more than one content-length field",
    ),
    (b"HTTP/1.1 200 OK\r\nDate: d\r\nX: 1\r\nContent-Length: 02\r\n\r\nhi", "leading zeros"),
]
REFUSED = [
    (b"HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n", "transfer-encoding with content-length"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi", "conflicting Content-Length values"),
    (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nhi", "a folded field that frames the message"),
    (b"HTTP/1.1 200 OK\r\nX y: 1\r\nContent-Length: 2\r\n\r\nhi", "white space before a colon"),
    (b"HTTP/1.1 200 OK\rContent-Length: 2\r\rhi", "CR without LF"),
    (b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nhi", "status code is outside 100 to 599"),
    (b"SSH-2.0-OpenSSH\r\n", "not a status line"),
]


def details(talk: Talk) -> list[tuple[str, str]]:
    return [
        (exchange.failure.reason if exchange.failure else "", exchange.failure_detail)
        for exchange in talk.outcomes.exchanges
    ]


@pytest.mark.parametrize(("data", "rule"), FAULTS)
def test_a_strict_cluster_names_the_broken_rule(start: Start, data: bytes, rule: str) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    upstream.sends(data)
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert upstream.is_reset()
    [(reason, detail)] = details(talk)
    assert reason == "bad_response"
    assert detail.startswith(f"{HOST}: ")
    assert rule in detail


@pytest.mark.parametrize("data", [data for data, _ in FAULTS])
def test_a_tolerant_cluster_passes_it_on_in_order(start: Start, data: bytes) -> None:
    talk = start(plan={"is_strict": False})
    client, upstream = talk.forwarded(GET)
    upstream.sends(data)
    head, _, body = client.takes().partition(b"\r\n\r\n")
    assert body == b"hi"
    assert head.lower().split(b"\r\n")[1:] in (
        [b"date: d", b"x: 1", b"content-length: 2"],
        [b"x: 1", b"date: d", b"content-length: 2"],
    )
    # The connection is in order, too.
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ncontent-length: 0\r\n\r\n")
    assert talk.reasons() == ["ok", "ok"]


@pytest.mark.parametrize(("data", "rule"), REFUSED)
@pytest.mark.parametrize("is_strict", [True, False])
def test_what_no_cluster_tolerates(start: Start, data: bytes, rule: str, is_strict: bool) -> None:
    talk = start(plan={"is_strict": is_strict})
    client, upstream = talk.forwarded(GET)
    upstream.sends(data)
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    assert upstream.is_reset()
    [(reason, detail)] = details(talk)
    assert reason == "bad_response"
    assert detail.startswith(f"{HOST}: ")
    if not is_strict:  # which stops at the first fault
        assert rule in detail


def test_an_incomplete_head_waits(start: Start) -> None:
    talk = start(plan={"is_strict": False})
    client, upstream = talk.forwarded(GET)
    upstream.sends(b"HTTP/1.1 200 OK\nDate: d\nContent-Length : 2\n")
    client.receives_nothing()
    upstream.sends(b"\nh")
    upstream.sends(b"i")
    client.receives(b"HTTP/1.1 200 OK\r\nDate: d\r\ncontent-length: 2\r\n\r\nhi")


@pytest.mark.whole_only
@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ([(b"content-length", b"x")], "content-length is not a number"),
        ([(b"connection", b"close")], "connection field"),
        ([(b"x", b"a\nb")], "control character in a field value"),
    ],
)
def test_the_broken_rule_of_http2(start: Start, fields: list[tuple[bytes, bytes]], rule: str) -> None:
    talk = start(plan={"upstream_protocol": "Http2"})
    client = talk.connect()
    client.sends(GET)
    upstream = h2_upstream(talk.expect_dial())
    stream = upstream.takes_stream()
    upstream.responds(stream, 200, fields, b"hi")
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    [(reason, detail)] = details(talk)
    assert reason == "bad_response"
    assert detail.startswith(f"{HOST}: ")
    assert rule in detail
