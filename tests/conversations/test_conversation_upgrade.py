"""WebSocket and other upgrades: a tunnel only after the upstream's 101, and never for bytes without an agreement."""

import asyncio
from collections.abc import Callable

import pytest
from tests.kit import DATE, GET, OK, Peer, Start, Talk, forward
from tests.kit.options import http_options

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import Path

pytestmark = pytest.mark.also_tls

FIELDS = b"Sec-Key: k\r\n"
ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n" + FIELDS + b"\r\n"
ASKED = b"GET /chat HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
NOT_ASKED = b"GET /chat HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"\r\n"
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-Accept: a\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nSec-Accept: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
SORRY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 16\r\n" + DATE
SORRY += b"\r\n502 Bad Gateway\n"


def asked(talk: Talk) -> tuple[Peer, Peer]:
    """A client has asked, and the upstream thinks about it."""
    client, upstream = talk.forwarded(ASK, ASKED)
    return client, upstream


def tunnel(talk: Talk) -> tuple[Peer, Peer]:
    """A client and an upstream with an open tunnel between them."""
    client, upstream = asked(talk)
    upstream.sends(AGREE)
    client.receives(AGREED)
    assert talk.counters()["tunnel_active"] == 1
    return client, upstream


# ---- bytes both ways


def test_bytes_are_forwarded_unchanged_both_ways(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    for data in (b"\x81\x02hi", GET, bytes(range(256)) * 3, b"0\r\n\r\n"):
        client.sends(data)
        assert upstream.takes() == data
        upstream.sends(data[::-1])
        assert client.takes() == data[::-1]
    talk.expect_no_dial()
    assert talk.reasons() == []


def test_bytes_that_arrive_with_the_agreement(start: Start) -> None:
    talk = start()
    client, upstream = asked(talk)
    upstream.sends(AGREE + b"\x81\x05hello")
    assert client.takes() == AGREED + b"\x81\x05hello"
    client.sends(b"\x81\x02hi")
    assert upstream.takes() == b"\x81\x02hi"


def test_early_bytes_wait_for_the_agreement(start: Start) -> None:
    client, upstream = start().forwarded(ASK + GET + b"\x00\x01", ASKED)
    assert not client.is_read()
    upstream.sends(AGREE)
    client.receives(AGREED)
    assert upstream.takes() == GET + b"\x00\x01"
    assert client.is_read()
    client.sends(b"more")
    assert upstream.takes() == b"more"


def test_agreement_on_a_pooled_connection_which_never_goes_back(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    client.receives(OK)
    client.sends(ASK)
    upstream.receives(ASKED)
    upstream.sends(AGREE)
    client.receives(AGREED)
    other = talk.connect()
    other.sends(GET)
    talk.expect_dial().receives(GET)
    client.shuts()
    upstream.shuts()
    assert client.is_closed()
    assert upstream.is_closed()
    third = talk.connect()
    third.sends(GET)
    talk.expect_dial().receives(GET)
    assert talk.reasons() == ["ok", "ok"]


def test_stale_pooled_connection_is_replaced(start: Start) -> None:
    talk = start()
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    client.sends(ASK)
    upstream.receives(ASKED)
    upstream.resets()
    fresh = talk.expect_dial()
    fresh.receives(ASKED)
    fresh.sends(AGREE)
    client.receives(AGREED)


def test_a_tunnel_counts_as_a_connection_and_a_request_of_its_host(start: Start) -> None:
    talk = start(max_connections=1)
    client, upstream = tunnel(talk)
    other = talk.connect()
    other.sends(GET)
    assert other.takes().startswith(b"HTTP/1.1 503 ")
    assert talk.upstream_counters()["request_active"] == 1
    client.resets()
    assert upstream.is_reset()
    other.sends(GET)
    talk.expect_dial().receives(GET)


# ---- the end


@pytest.mark.parametrize("order", ["client first", "upstream first"])
def test_half_closes_are_passed_on(start: Start, order: str) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    first, second = (client, upstream) if order == "client first" else (upstream, client)
    first.sends(b"last words")
    first.shuts()
    assert second.takes() == b"last words"
    assert second.has_fin()
    assert first.is_open()
    second.sends(b"and then")
    assert first.takes() == b"and then"
    talk.advance(500)
    second.sends(b" some")
    talk.advance(500)
    assert first.takes() == b" some"
    second.shuts()
    assert client.is_closed()
    assert upstream.is_closed()
    assert talk.reasons() == ["ok"]


def test_early_bytes_and_a_half_close_before_the_agreement(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends_whole(ASK + b"early")
    client.shuts()
    upstream = talk.expect_dial()
    upstream.receives(ASKED)
    upstream.sends(AGREE + b"x")
    assert client.takes() == AGREED + b"x"
    assert upstream.takes() == b"early"
    assert upstream.has_fin()
    talk.advance(5)
    upstream.sends(b"y")
    upstream.shuts()
    assert client.takes() == b"y"
    assert client.is_closed()


def test_a_half_close_before_the_agreement(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(ASK)
    client.shuts()
    upstream = talk.expect_dial()
    upstream.receives(ASKED)
    upstream.sends(AGREE)
    client.receives(AGREED)
    assert upstream.has_fin()
    talk.advance(5)
    upstream.sends(b"y")
    upstream.shuts()
    assert client.takes() == b"y"
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize(
    ("who", "reason"), [("client", "client_gone"), ("upstream", "reset_after_response"), ("drain", "draining")]
)
def test_resets_are_passed_on(start: Start, who: str, reason: str) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    if who == "drain":
        talk.drain()
        talk.advance(30)
        assert talk.reasons() == []
        talk.do(talk.listener.abort_all)
        assert client.is_reset()
        assert upstream.is_reset()
    else:
        leaves, other = (client, upstream) if who == "client" else (upstream, client)
        leaves.resets()
        assert other.is_reset()
    assert talk.reasons() == [reason]
    assert talk.counters()[f"reason_{reason}"] == 1
    assert "tunnel_active" not in talk.counters()


def test_idle_tunnel_is_ended_on_both_sides(start: Start) -> None:
    talk = start(tunnel_idle_timeout=40.0)
    client, upstream = tunnel(talk)
    for _ in range(3):
        talk.advance(30)
        client.sends(b"\x89\x00")
        assert upstream.takes() == b"\x89\x00"
        talk.advance(30)
        upstream.sends(b"\x8a\x00")
        assert client.takes() == b"\x8a\x00"
    talk.advance(39)
    assert client.is_open()
    talk.advance(2)
    assert client.is_closed()
    assert upstream.is_closed()
    assert talk.reasons() == ["tunnel_idle_timeout"]


def test_ten_minutes_of_pings_by_default(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    for _ in range(30):
        talk.advance(20)
        upstream.sends(b"\x89\x00")
        client.sends(b"\x8a\x00")
    assert client.takes() == b"\x89\x00" * 30
    assert upstream.takes() == b"\x8a\x00" * 30
    talk.advance(590)
    assert client.is_open()


def test_a_draining_worker_lets_tunnels_live(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    talk.drain()
    talk.advance(100)
    client.sends(b"a")
    upstream.sends(b"b")
    assert (client.takes(), upstream.takes()) == (b"b", b"a")
    late, second = talk.forwarded(ASK, ASKED)
    second.sends(AGREE)
    late.receives(AGREED)


def test_replaced_clusters_let_tunnels_live(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    talk.do(lambda: talk.clusters.activate({}))
    client.sends(b"a")
    upstream.sends(b"b")
    assert (client.takes(), upstream.takes()) == (b"b", b"a")


# ---- back-pressure


def test_back_pressure_both_ways(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    client.stalls()
    upstream.stalls()
    client.sends_whole(b"c" * 300_000)
    upstream.sends_whole(b"u" * 300_000)
    assert not client.is_read()
    assert not upstream.is_read()
    client.sends_whole(b"C" * 1000)
    upstream.sends_whole(b"U" * 1000)
    client.receives_nothing()
    upstream.receives_nothing()
    upstream.reads_on()
    assert client.is_read()
    assert not upstream.is_read()
    client.reads_on()
    assert upstream.is_read()
    assert client.takes() == b"u" * 300_000 + b"U" * 1000
    assert upstream.takes() == b"c" * 300_000 + b"C" * 1000


def test_stalled_side_gets_all_before_the_end(start: Start) -> None:
    talk = start()
    client, upstream = tunnel(talk)
    client.stalls()
    upstream.sends_whole(b"u" * 300_000)
    upstream.shuts()
    client.shuts()
    client.reads_on()
    assert client.takes() == b"u" * 300_000
    assert client.is_closed()


# ---- what is counted


def test_counters_and_access_log(start: Start) -> None:
    talk = start()
    client, upstream = asked(talk)
    talk.advance(2)
    upstream.sends(AGREE + b"12345")
    client.takes()
    client.sends(b"123")
    upstream.takes()
    during = talk.counters()
    assert (during["tunnel_total"], during["tunnel_active"], during["request_active"]) == (1, 1, 1)
    assert during["bytes_read_total"] == len(ASK) + 3
    assert talk.upstream_counters()["connection_bytes_write"] == len(ASKED) + 3
    talk.advance(300)
    client.shuts()
    upstream.shuts()
    (exchange,) = talk.outcomes.exchanges
    assert (exchange.bytes_received, exchange.bytes_sent) == (3, 5)
    assert exchange.response is not None
    assert exchange.response.status == 101
    assert 2 <= exchange.response_received - exchange.started < 3
    assert exchange.request_received == exchange.started
    assert exchange.finished - exchange.started > 300
    after = talk.counters()
    assert "tunnel_active" not in after
    assert after["tunnel_total"] == 1
    assert after["bytes_write_total"] == len(AGREED) + 5
    assert talk.upstream_counters()["response_success"] == 1
    assert talk.upstream_counters()["connection_bytes_read_total"] == len(AGREE) + 5
    times = talk.metrics.group("upstream", ("cluster", "service")).data()["histograms"]["request_duration_time"]
    assert times["max"] < 3, "the host is judged by the time until its reply"


# ---- refused


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"426 Upgrade Required"])
def test_bytes_after_a_refused_upgrade_are_requests(start: Start, status: bytes) -> None:
    """CVE-2026-2833: they would be tunnelled past every rule."""
    talk = start(routes=[Route("private", Path("/private"), DirectResponse(403, "no")), *forward()])
    client, upstream = talk.forwarded(ASK + b"GET /private HTTP/1.1\r\nHost: a\r\n\r\n" + GET, ASKED)
    reply = b"HTTP/1.1 " + status + b"\r\nDate: d\r\nContent-Length: 2\r\n\r\nno"
    upstream.sends(reply)
    upstream.receives(GET)
    upstream.sends(OK)
    got = client.takes()
    assert got.startswith(reply + b"HTTP/1.1 403 Forbidden\r\n")
    assert got.endswith(OK)


def test_frames_after_a_refused_upgrade_are_not_forwarded(start: Start) -> None:
    client, upstream = start().forwarded(ASK + b"\x81\x85\x00\x00\x00\x00hello", ASKED)
    upstream.sends(OK)
    assert client.takes().startswith(OK + b"HTTP/1.1 400 Bad Request\r\n")
    assert client.is_closed() or client.is_lingering()
    upstream.receives_nothing()


@pytest.mark.parametrize(
    "reply",
    [
        AGREE.replace(b"Upgrade: websocket\r\n", b""),
        AGREE.replace(b"Connection: Upgrade\r\n", b""),
        AGREE.replace(b": websocket", b": h2c"),
        AGREE.replace(b": websocket", b": websocket, h2c"),
        AGREE.replace(b"Upgrade: websocket\r\n", b"Upgrade: websocket\r\nUpgrade: x\r\n"),
        AGREE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_agreement_to_something_else(start: Start, reply: bytes) -> None:
    talk = start()
    client, upstream = asked(talk)
    upstream.sends(reply)
    client.receives(SORRY)
    assert upstream.is_reset()
    assert client.is_open()
    assert talk.reasons() == ["bad_response"]


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 4", b"Transfer-Encoding: chunked", b"Content-Length: 4\r\nTransfer-Encoding: chunked"],
)
def test_an_agreement_ends_at_its_empty_line_whatever_it_declares(start: Start, framing: bytes) -> None:
    """RFC 9112 section 6.3: the tunnel's bytes follow."""
    client, upstream = asked(start())
    upstream.sends(AGREE.replace(b"Sec-Accept: a", framing) + b"\x81\x01a")
    found = client.takes()
    assert found.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert found.endswith(b"\r\n\r\n\x81\x01a")
    assert b"content-length" not in found.lower()
    assert b"transfer-encoding" not in found.lower()
    client.sends(b"\x81\x81\0\0\0\0b")
    upstream.receives(b"\x81\x81\0\0\0\0b")


@pytest.mark.parametrize("agreement", [AGREE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
@pytest.mark.parametrize("request_bytes", [GET, ASK.replace(b"WebSocket", b"h2c")])
def test_agreement_that_was_not_requested(start: Start, request_bytes: bytes, agreement: bytes) -> None:
    talk = start()
    client, upstream = talk.opening(request_bytes)
    assert b"pgrade" not in upstream.takes()
    upstream.sends(agreement + b"poison")
    client.receives(SORRY)
    assert upstream.is_reset()
    client.sends(GET)
    talk.expect_dial().receives(GET)
    assert talk.reasons() == ["bad_response"]


CONTENT = b"Content-Length: 2\r\nSec"


@pytest.mark.parametrize(
    ("request_bytes", "forwarded"),
    [
        (ASK.replace(b"GET", b"POST"), NOT_ASKED.replace(b"GET", b"POST")),
        (ASK.replace(b"GET", b"HEAD"), NOT_ASKED.replace(b"GET", b"HEAD")),
        (ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), NOT_ASKED),
        (ASK.replace(b"Connection: Upgrade\r\n", b""), NOT_ASKED),
        (ASK.replace(b"Connection: Upgrade", b"Connection: keep-alive"), NOT_ASKED),
        (ASK.replace(b"Connection: Upgrade", b"Connection: upgrades"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"h2c"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"websocket, h2c"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"h2c, websocket"), NOT_ASKED),
        (ASK.replace(b"Upgrade: WebSocket", b"Upgrade: websocket\r\nUpgrade: websocket"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"websocket/13"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"chat"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b""), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"web socket"), NOT_ASKED),
        (ASK.replace(b"WebSocket", b"\"websocket\""), NOT_ASKED),
        (ASK.replace(b"Sec", CONTENT) + b"hi", NOT_ASKED.replace(b"Sec", CONTENT) + b"hi"),
    ],
)  # fmt: skip
def test_request_that_cannot_or_may_not_upgrade(start: Start, request_bytes: bytes, forwarded: bytes) -> None:
    """It is served as if it had not asked."""
    client, upstream = start().opening(request_bytes)
    assert upstream.takes() == forwarded
    upstream.sends(OK)
    assert client.takes().startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("ask", [b"Connection: keep-alive, Upgrade", b"Connection: x\r\nConnection: UPGRADE,close"])
def test_spellings_of_an_upgrade(start: Start, ask: bytes) -> None:
    talk = start()
    client, upstream = talk.opening(ASK.replace(b"Connection: Upgrade", ask).replace(b"WebSocket", b"  websocket\t"))
    upstream.receives(ASKED)
    upstream.sends(AGREE.replace(b"websocket", b"WebSocket").replace(b"n: U", b"n: keep-alive , u"))
    client.receives(AGREED)
    client.sends(b"x")
    assert upstream.takes() == b"x"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_another_protocol_where_it_is_allowed(start: Start, method: bytes) -> None:
    talk = start(http1=http_options(upgrades=frozenset((b"spdy/3.1", b"websocket"))))
    client, upstream = talk.opening(ASK.replace(b"GET", method).replace(b"WebSocket", b"SPDY/3.1"))
    upstream.receives(ASKED.replace(b"GET", method).replace(b"websocket", b"spdy/3.1"))
    upstream.sends(AGREE.replace(b"websocket", b"SPDY/3.1"))
    client.receives(AGREED.replace(b"websocket", b"spdy/3.1"))
    client.sends(b"x")
    assert upstream.takes() == b"x"


def test_no_upgrade_where_none_is_allowed(start: Start) -> None:
    talk = start(http1=http_options(upgrades=frozenset()))
    client = talk.connect()
    client.sends(ASK)
    talk.expect_dial().receives(NOT_ASKED)


def test_time_without_an_answer(start: Start) -> None:
    talk = start(routes=forward(timeout=5.0))
    client, upstream = asked(talk)
    talk.advance(6)
    assert client.takes().startswith(b"HTTP/1.1 504 ")
    assert upstream.is_reset()


# ---- filters


class Sees(StreamFilter):
    """Records what it sees, and changes the reply as the test requires."""

    def __init__(self, change: Callable[[Exchange], Reply | None]) -> None:
        super().__init__({})
        self._change = change
        self.seen: list[tuple[str, int]] = []

    def on_response(self, exchange: Exchange) -> Reply | None:
        assert exchange.response is not None
        self.seen.append((exchange.request.tunnel, exchange.response.status))
        return self._change(exchange)


def add_field(exchange: Exchange) -> None:
    assert exchange.response is not None
    exchange.response.headers["x-seen"] = "yes"


def test_filters_see_the_agreement(start: Start) -> None:
    see = Sees(add_field)
    talk = start(filters={"see": see})
    client, upstream = asked(talk)
    upstream.sends(AGREE)
    client.receives(AGREED.replace(b"connection", b"x-seen: yes\r\nconnection"))
    assert see.seen == [("websocket", 101)]
    client.sends(b"x")
    assert upstream.takes() == b"x"


def test_a_filter_refuses_an_upgrade_that_the_upstream_accepted(start: Start) -> None:
    talk = start(filters={"see": Sees(lambda exchange: Reply(403, "no", {"content-type": "text/plain"}))})
    client, upstream = talk.forwarded(ASK + GET, ASKED)
    upstream.sends(AGREE + b"secret")
    forbidden = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n" + DATE + b"\r\nno"
    client.receives(forbidden)
    assert upstream.is_reset()
    second = talk.expect_dial()
    second.receives(GET)
    second.sends(OK)
    client.receives(forbidden)


class Thinks(StreamFilter):
    """Holds the agreement until the test opens the gate."""

    gate: asyncio.Future[None]

    async def on_response(self, exchange: Exchange) -> None:  # type: ignore[override]
        self.gate = asyncio.get_running_loop().create_future()
        await self.gate


def test_all_that_comes_while_a_filter_thinks_about_the_agreement(start: Start) -> None:
    thinks = Thinks({})
    talk = start(filters={"thinks": thinks})
    client, upstream = asked(talk)
    upstream.sends_whole(AGREE + b"one")
    client.sends_whole(b"early")
    upstream.sends_whole(b"two")
    upstream.shuts()
    client.receives_nothing()
    upstream.receives_nothing()
    talk.do(lambda: thinks.gate.set_result(None))
    assert client.takes() == AGREED + b"onetwo"
    assert upstream.takes() == b"early"
    assert client.has_fin()
    client.shuts()
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


def test_upstream_that_ends_at_once_while_a_filter_thinks(start: Start) -> None:
    thinks = Thinks({})
    talk = start(filters={"thinks": thinks})
    client, upstream = asked(talk)
    upstream.sends_whole(AGREE)
    upstream.shuts()
    talk.do(lambda: thinks.gate.set_result(None))
    client.receives(AGREED)
    assert client.has_fin()
    client.sends(b"x")
    assert upstream.takes() == b"x"


class Bodies(StreamFilter):
    """Gives bodies to a request or a reply, and records the chunks it saw."""

    changes_length = True

    def __init__(self, to_request: bytes | None, to_response: bytes | None) -> None:
        super().__init__({})
        self.to_request = to_request
        self.to_response = to_response
        self.seen: list[bytes] = []

    def on_request(self, exchange: Exchange) -> None:
        if self.to_request is not None:
            exchange.request.set_body(self.to_request)

    def on_response(self, exchange: Exchange) -> None:
        if self.to_response is not None and exchange.response is not None:
            exchange.response.set_body(self.to_response)

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        self.seen.append(data)
        return data

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        self.seen.append(data)
        return data


def test_a_tunnel_is_not_a_body(start: Start) -> None:
    bodies = Bodies(None, None)
    talk = start(filters={"bodies": bodies})
    client, upstream = tunnel(talk)
    client.sends(b"to")
    upstream.sends(b"fro")
    assert (client.takes(), upstream.takes()) == (b"fro", b"to")
    assert bodies.seen == []


def test_a_request_that_a_filter_gives_a_body_asks_for_no_tunnel(start: Start) -> None:
    client, upstream = start(filters={"bodies": Bodies(b"body", None)}).opening(ASK)
    assert upstream.takes() == NOT_ASKED[:-2] + b"content-length: 4\r\n\r\nbody"
    upstream.sends(AGREE)
    assert client.takes().startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert upstream.is_reset()


def test_a_reply_that_opens_a_tunnel_gets_no_body(start: Start) -> None:
    talk = start(filters={"bodies": Bodies(None, b"body")})
    client, upstream = asked(talk)
    upstream.sends(AGREE)
    assert client.takes().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert upstream.is_reset()
    assert talk.reasons() == ["filter_error"]


@pytest.mark.parametrize(("reply", "status"), [(AGREE, 200), (AGREE, 103), (OK, 101), (OK, 103)])
def test_a_filter_cannot_make_or_unmake_an_agreement(start: Start, reply: bytes, status: int) -> None:
    def change(exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.status = status

    talk = start(filters={"see": Sees(change)})
    client, upstream = asked(talk)
    upstream.sends(reply)
    assert client.takes().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert talk.reasons() == ["filter_error"]
