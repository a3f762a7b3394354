"""SOFA Bolt through layers 2 to 4: many requests on shared connections, ids, one-way, failures, retries."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit import Start
from tests.kit import bolt_frames as bolt
from tests.kit.bolt_session import BOLT, begin

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.routing.actions import DirectResponse, Forward, ForwardOptions, Mirror, RetryPolicy
from pymosn.routing.matchers import AnyRequest, Prefix, Service


@pytest.mark.parametrize(("v2", "crc"), [(False, False), (True, False), (True, True)])
def test_an_unmodified_frame_gets_another_id_and_nothing_else(start: Start, v2: bool, crc: bool) -> None:
    headers = {"Service": "a.B:1.0", "sofa_head_method_name": "call", "nothing": None, "text": "\u4e2d"}
    talk = start(**BOLT)
    client, upstream = talk.opening(bolt.request(0xFFFFFFFE, b"\x00\xff" * 50, headers, 3000, v2=v2, crc=crc))
    upstream.receives(bolt.request(1, b"\x00\xff" * 50, headers, 3000, v2=v2, crc=crc))
    upstream.sends(bolt.response(1, b"answer", {"k": "v", "n": None}, v2=v2, crc=crc))
    client.receives(bolt.response(0xFFFFFFFE, b"answer", {"k": "v", "n": None}, v2=v2, crc=crc))
    assert talk.reasons() == ["ok"]
    assert talk.counters()["request_200_total"] == 1
    exchange = talk.outcomes.exchanges[0]
    assert (exchange.protocol, exchange.bytes_received, exchange.bytes_sent) == ("bolt", 100, 6)


def test_clients_share_a_connection_and_replies_come_in_any_order(start: Start) -> None:
    talk, first, upstream = begin(start)
    second = talk.connect()
    first.sends(bolt.request(7, b"a") + bolt.request(8, b"b"))
    second.sends(bolt.request(7, b"c"))
    upstream.receives(bolt.request(2, b"a") + bolt.request(3, b"b") + bolt.request(4, b"c"))
    upstream.sends(bolt.response(4, b"C") + bolt.response(3, b"B"))
    second.receives(bolt.response(7, b"C"))
    first.receives(bolt.response(8, b"B"))
    upstream.sends(bolt.response(2, b"A"))
    first.receives(bolt.response(7, b"A"))
    talk.expect_no_dial()
    assert talk.upstream_counters()["connection_total"] == 1


def test_requests_wait_together_for_the_first_connection(start: Start) -> None:
    talk = start(**BOLT)
    client = talk.connect()
    client.sends(bolt.request(1, b"a") + bolt.request(2, b"b"))
    dial = talk.hold_dial()
    talk.expect_no_dial()
    dial.connects().receives(bolt.request(1, b"a") + bolt.request(2, b"b"))
    client.resets()
    assert talk.reasons() == ["client_gone", "client_gone"]


def test_as_many_connections_as_configured(start: Start) -> None:
    talk, client, first = begin(start, max_connections=2)
    client.sends(bolt.request(2, b"a"))
    first.receives(bolt.request(2, b"a"))
    client.sends(bolt.request(3, b"b"))
    first.receives(bolt.request(3, b"b"))  # it does not wait for the second connection
    second = talk.expect_dial()
    client.sends(bolt.request(4, b"c") + bolt.request(5, b"d"))
    second.receives(bolt.request(1, b"c") + bolt.request(2, b"d"))
    talk.expect_no_dial()
    first.sends(bolt.response(2) + bolt.response(3))
    second.sends(bolt.response(1) + bolt.response(2))
    client.receives(bolt.response(2) + bolt.response(3) + bolt.response(4) + bolt.response(5))


def test_a_connection_serves_as_many_requests_as_it_may(start: Start) -> None:
    talk, client, first = begin(start, plan={"max_requests_per_connection": 2})
    client.sends(bolt.request(2))
    first.receives(bolt.request(2))
    client.sends(bolt.request(3))
    second = talk.expect_dial()
    second.receives(bolt.request(1))
    first.sends(bolt.response(2))
    client.receives(bolt.response(2))
    assert first.is_closed()
    second.sends(bolt.response(1))
    client.receives(bolt.response(3))


class Editor(StreamFilter):
    """Changes headers both ways."""

    def on_request(self, exchange: Exchange) -> None:
        headers = exchange.request.headers
        assert headers.get("SERVICE") == "testSofa"
        assert "x-gone" in headers
        headers["x-new"] = "caf\u00e9\r\n"
        del headers["x-gone"]

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers.add("via", exchange.protocol)


@pytest.mark.parametrize(("v2", "crc"), [(False, False), (True, True)])
def test_changed_headers_are_re_encoded_and_the_rest_stays(start: Start, v2: bool, crc: bool) -> None:
    talk = start(**BOLT, filters={"editor": Editor({})})
    client = talk.connect()
    headers = {"service": "testSofa", "x-gone": "1", "Case": "Kept", "null": None}
    client.sends(bolt.request(5, b"body", headers, 100, v2=v2, crc=crc))
    upstream = talk.expect_dial()
    after = {"service": "testSofa", "Case": "Kept", "null": None, "x-new": "caf\u00e9\r\n"}
    upstream.receives(bolt.request(1, b"body", after, 100, v2=v2, crc=crc))
    upstream.sends(bolt.response(1, b"reply", {"a": "b"}, v2=v2, crc=crc))
    client.receives(bolt.response(5, b"reply", {"a": "b", "via": "bolt"}, v2=v2, crc=crc))


class Guard(StreamFilter):
    """Replies instead of the upstream."""

    def on_request(self, exchange: Exchange) -> Reply | None:
        asked = exchange.request.headers.get("ask") or ""
        return Reply(int(asked), b"from the filter", {"why": "asked"}) if asked else None


def test_a_filters_reply_is_one_of_the_protocol(start: Start) -> None:
    talk = start(**BOLT, filters={"guard": Guard({})})
    client = talk.connect()
    client.sends(bolt.request(1, headers={"ask": "200"}))
    client.receives(bolt.response(1, b"from the filter", {"why": "asked"}, class_name=b""))
    client.sends(bolt.request(2, headers={"ask": "403"}, v2=True, crc=True))
    client.receives(bolt.response(2, b"from the filter", {"why": "asked"}, 2, class_name=b"", v2=True, crc=True))
    client.sends(bolt.request(3, headers={"ask": "503"}, kind=2))
    client.receives_nothing()
    assert [exchange.response.status for exchange in talk.outcomes.exchanges if exchange.response] == [200, 403, 503]


def test_a_filter_changes_the_status(start: Start) -> None:
    class Softener(StreamFilter):
        def on_response(self, exchange: Exchange) -> None:
            assert exchange.response is not None
            assert exchange.response.status == 500
            exchange.response.status = 503

    client, upstream = start(**BOLT, filters={"softener": Softener({})}).forwarded(bolt.request(1))
    upstream.sends(bolt.response(1, status=2))
    client.receives(bolt.response(1, status=4))


def test_a_filter_lists_the_protocols_it_serves(start: Start) -> None:
    class OnlyHttp(Guard):
        protocols = ("Http1",)

    talk = start(protocols=["Http1", "bolt"], filters={"guard": OnlyHttp({})})
    client, upstream = talk.forwarded(bolt.request(1, headers={"ask": "403"}))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    browser = talk.connect()
    browser.sends(b"GET / HTTP/1.1\r\nHost: a\r\nAsk: 403\r\n\r\n")
    assert browser.takes().startswith(b"HTTP/1.1 403 ")


# ---- one-way


def test_one_way_requests_are_sent_and_over(start: Start) -> None:
    talk, client, upstream = begin(start, filters={"editor": Guard({})})
    client.sends(bolt.request(2, kind=2) + bolt.request(2, kind=2))  # ids of one-way requests mean nothing
    upstream.receives(bolt.request(2, kind=2) + bolt.request(3, kind=2))
    assert talk.reasons() == ["ok", "ok", "ok"]
    upstream.sends(bolt.response(2))
    client.receives_nothing()
    assert talk.upstream_counters()["response_stray"] == 1


def test_one_way_requests_are_neither_retried_nor_answered(start: Start) -> None:
    talk = start(**BOLT, hosts=["10.0.0.1:80", "10.0.0.2:80"], routes=with_policy())
    client = talk.connect()
    client.sends(bolt.request(2, kind=2))
    talk.refuse_dial()
    talk.expect_no_dial()
    client.receives_nothing()
    assert talk.reasons() == ["connect_refused"]
    assert client.is_open()


# ---- failures


def test_no_route(start: Start) -> None:
    routes = [Route("one", Service("other"), Forward("service", 60.0)), Route("all", Prefix("/"), Forward("service", 60.0))]
    talk = start(**BOLT, routes=routes)
    client = talk.connect()
    client.sends(bolt.request(9, headers={"service": "a\nb", "sofa_head_method_name": "m"}))
    client.receives(bolt.failure(9, 6))
    assert talk.log.lines[-1].endswith("404 no_route (everything): bolt a\\nb m")
    client.sends(bolt.request(10, v2=True, crc=True))
    client.receives(bolt.failure(10, 6, v2=True, crc=True))
    assert talk.reasons() == ["no_route", "no_route"]
    assert client.is_open()


def test_a_route_answers(start: Start) -> None:
    talk = start(**BOLT, routes=[Route("all", AnyRequest(), DirectResponse(200, "hello"))])
    client = talk.connect()
    client.sends(bolt.request(1))
    client.receives(bolt.response(1, b"hello", class_name=b""))


def test_connect_refused(start: Start) -> None:
    talk = start(**BOLT)
    client = talk.connect()
    client.sends(bolt.request(1) + bolt.request(2))
    talk.refuse_dial()
    client.receives(bolt.failure(1, 6) + bolt.failure(2, 6))
    assert talk.reasons() == ["connect_refused", "connect_refused"]
    client.sends(bolt.request(3))
    talk.expect_dial().receives(bolt.request(1))


def test_a_lost_connection_fails_all_that_wait_on_it(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.request(2) + bolt.request(3))
    upstream.receives(bolt.request(2) + bolt.request(3))
    upstream.resets()
    client.receives(bolt.failure(2, 16) + bolt.failure(3, 16))
    assert talk.reasons()[1:] == ["reset_before_response", "reset_before_response"]
    talk.expect_no_dial()  # they may have been processed, and the route does not allow sending them twice


def test_an_upstream_that_breaks_the_protocol(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.request(2))
    upstream.receives(bolt.request(2))
    upstream.sends_whole(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert upstream.is_reset()
    client.receives(bolt.failure(2, 16))
    assert talk.reasons()[1:] == ["bad_response"]


def test_the_time_in_the_frame(start: Start) -> None:
    talk, client, upstream = begin(start)
    client.sends(bolt.request(2, timeout=2000) + bolt.request(3, timeout=0))
    upstream.receives(bolt.request(2, timeout=2000) + bolt.request(3, timeout=0))
    talk.advance(1.9)
    client.receives_nothing()
    talk.advance(0.2)
    client.receives(bolt.failure(2, 7))
    upstream.sends(bolt.response(2))
    client.receives_nothing()  # too late: dropped and counted
    assert talk.upstream_counters()["response_stray"] == 1
    upstream.sends(bolt.response(3))
    client.receives(bolt.response(3))
    assert talk.reasons()[1:] == ["timeout", "ok"]


def test_minus_one_in_the_frame_is_the_routes_time(start: Start) -> None:
    talk = start(**BOLT, routes=[Route("all", AnyRequest(), Forward("service", 5.0))])
    client, _ = talk.forwarded(bolt.request(2, timeout=-1), bolt.request(1, timeout=-1))
    talk.advance(5.1)
    client.receives(bolt.failure(2, 7))


def test_another_protocol_upstream_needs_a_transcoder(start: Start) -> None:
    options = ForwardOptions(upstream_protocol="Http1")
    talk = start(**BOLT, routes=[Route("all", AnyRequest(), Forward("service", 5.0, options))])
    client = talk.connect()
    client.sends(bolt.request(2))
    client.receives(bolt.failure(2, 6))
    assert talk.reasons() == ["protocol_mismatch"]


# ---- retries


def with_policy(**policy: Any) -> list[Route]:
    options = ForwardOptions(retry_policy=RetryPolicy(True, 2, **policy))
    return [Route("all", AnyRequest(), Forward("service", 60.0, options))]


def test_retries_where_the_policy_allows(start: Start) -> None:
    talk = start(**BOLT, hosts=["10.0.0.1:80", "10.0.0.2:80"], routes=with_policy())
    client, first = talk.forwarded(bolt.request(1, b"again"), address="10.0.0.1:80")
    first.sends(bolt.response(1, status=4))
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(bolt.request(1, b"again"))
    second.resets()
    talk.advance(1.0)
    first.receives(bolt.request(2, b"again"))
    first.sends(bolt.response(2))
    client.receives(bolt.response(1))
    assert talk.upstream_counters()["request_retry"] == 2
    assert talk.reasons() == ["ok"]


@pytest.mark.whole_only
def test_a_long_call_is_retried_too(start: Start) -> None:
    talk = start(**BOLT, hosts=["10.0.0.1:80", "10.0.0.2:80"], routes=with_policy())
    client = talk.connect()
    long = bolt.request(1, b"x" * 1_000_000)
    client.sends(long)
    first = talk.expect_dial("10.0.0.1:80")
    first.receives(long)
    first.resets()
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(long)
    second.sends(bolt.response(1))
    client.receives(bolt.response(1))


def test_a_one_way_call_is_never_retried(start: Start) -> None:
    talk = start(**BOLT, hosts=["10.0.0.1:80", "10.0.0.2:80"], routes=with_policy())
    client = talk.connect()
    client.sends(bolt.request(1, kind=2))
    talk.refuse_dial("10.0.0.1:80")
    talk.expect_no_dial()
    assert talk.reasons() == ["connect_refused"]


def test_a_service_error_is_not_a_host_failure_without_a_policy(start: Start) -> None:
    talk = start(**BOLT)
    client, upstream = talk.forwarded(bolt.request(1))
    upstream.sends(bolt.response(1, b"exception", status=2))
    client.receives(bolt.response(1, b"exception", status=2))
    assert talk.reasons() == ["ok"]
    assert talk.counters()["request_500_total"] == 1


def test_without_a_policy_another_host_is_asked_only_for_a_connection(start: Start) -> None:
    talk = start(**BOLT, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    client.sends(bolt.request(1))
    talk.hold_dial("10.0.0.1:80").fails(CONNECT_REFUSED)
    talk.expect_dial("10.0.0.2:80").receives(bolt.request(1))


# ---- bodies and copies


class Upper(StreamFilter):
    """Changes both bodies, each read as a whole."""

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        assert last
        return data.upper()

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        assert last
        return data + b"!"


def test_filters_see_the_payload(start: Start) -> None:
    talk = start(**BOLT, filters={"upper": Upper({})})
    client, upstream = talk.opening(bolt.request(5, b"body", v2=True, crc=True))
    upstream.receives(bolt.request(1, b"BODY", v2=True, crc=True))
    upstream.sends(bolt.response(1, b"reply", v2=True, crc=True))
    client.receives(bolt.response(5, b"reply!", v2=True, crc=True))


class Reader(StreamFilter):
    """Reads the whole payload of the request, and makes the reply's."""

    async def on_request(self, exchange: Exchange) -> None:
        exchange.request.headers["size"] = str(len(await exchange.request.read()))

    async def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.set_body(b"made of " + await exchange.response.read())


def test_filters_read_the_payload(start: Start) -> None:
    talk = start(**BOLT, filters={"reader": Reader({})})
    client, upstream = talk.forwarded(bolt.request(5, b"body", {}), bolt.request(1, b"body", {"size": "4"}))
    upstream.sends(bolt.response(1, b"reply"))
    client.receives(bolt.response(5, b"made of reply"))


def test_headers_that_do_not_fit_are_an_error_of_the_request(start: Start) -> None:
    class Stuffer(StreamFilter):
        def on_request(self, exchange: Exchange) -> None:
            exchange.request.headers["big"] = "x" * 70_000

    talk = start(**BOLT, filters={"stuffer": Stuffer({})})
    client, upstream = talk.opening(bolt.request(5))
    upstream.receives_nothing()
    client.receives(bolt.failure(5, 3))
    assert talk.reasons() == ["unencodable_request"]


@pytest.mark.parametrize("whose", ["upstream", "filter", "stream"])
def test_headers_that_do_not_fit_are_an_error_of_the_reply(start: Start, whose: str) -> None:
    class Stuffer(StreamFilter):
        async def on_request(self, exchange: Exchange) -> Reply | None:
            async def pieces() -> AsyncIterator[bytes]:
                yield b"one"
                yield b"two"

            headers = {"big": "x" * 70_000}
            if whose == "stream":
                return Reply(200, pieces(), headers)
            return Reply(200, "text", headers) if whose == "filter" else None

        def on_response(self, exchange: Exchange) -> None:
            if exchange.response is not None:
                exchange.response.headers["big"] = "x" * 70_000

    talk = start(**BOLT, filters={"stuffer": Stuffer({})})
    client = talk.connect()
    client.sends(bolt.request(5))
    if whose == "upstream":
        upstream = talk.expect_dial()
        upstream.receives(bolt.request(1))
        upstream.sends(bolt.response(1))
    client.receives(bolt.failure(5, 3))
    assert talk.reasons() == ["internal_error"]
    client.sends(bolt.request(6, command=0))
    client.receives(bolt.response(6, b"", command=0, class_name=b""))


@pytest.mark.parametrize("kind", [1, 2])
def test_copies_for_another_cluster(start: Start, kind: int) -> None:
    options = ForwardOptions(mirrors=[Mirror("other", 100)])
    talk = start(**BOLT, routes=[Route("all", AnyRequest(), Forward("service", 60.0, options))])
    client, upstream = talk.opening(bolt.request(5, b"body", kind=kind), address="10.0.0.1:80")
    other = talk.expect_dial("10.0.1.1:80")
    upstream.receives(bolt.request(1, b"body", kind=kind))
    other.receives(bolt.request(1, b"body", kind=kind))
    if kind == 1:
        other.sends(bolt.response(1, status=1))
        upstream.sends(bolt.response(1))
        client.receives(bolt.response(5))
    assert talk.mirror_counters() == {"mirrored": 1}
    assert talk.reasons() == ["ok"]
