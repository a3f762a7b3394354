"""Dubbo, dubbo-thrift and TARS through layers 2 to 4: ids, events, failures, time-outs, filters, subsets."""

from typing import Any

import pytest
from tests.kit import Peer, Start, Talk, forward
from tests.kit import dubbo_frames as dubbo
from tests.unit.protocol.rpc_frames import recorded
from tests.unit.protocol.test_dubbothrift_codec import FRAMES as THRIFT
from tests.unit.protocol.test_dubbothrift_codec import exception
from tests.unit.protocol.test_dubbothrift_codec import frame as thrift_frame
from tests.unit.protocol.test_tars_codec import FRAMES as TARS
from tests.unit.protocol.test_tars_codec import reply as tars_reply
from tests.unit.protocol.test_tars_codec import request as tars_request

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import FilterContext
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.filters.stream.dubbo_stream import DubboStreamFilter, Settings
from pymosn.routing.actions import Forward
from pymosn.routing.matchers import AllOf, Header, Prefix, RouteMatcher, Service

DUBBO: dict[str, Any] = {"protocols": ["dubbo"]}
FIRST = 2**63 - 1


def talk_to_upstream(start: Start, **wishes: Any) -> tuple[Talk, Peer, Peer]:
    """A client whose first call has been answered, and the connection that it went through; its id there was 1."""
    talk = start(**{**DUBBO, **wishes})
    client, upstream = talk.forwarded(dubbo.call(-5), dubbo.call(1))
    upstream.sends(dubbo.result(1))
    client.receives(dubbo.result(-5))
    return talk, client, upstream


@pytest.mark.parametrize("number", [0, -1, FIRST, -FIRST - 1])
def test_a_call_gets_another_id_and_nothing_else(start: Start, number: int) -> None:
    arguments = ("text", 7, {"a": [1, None]}, ("a.B", {"x": dubbo.Reference(1)}))
    talk = start(**DUBBO)
    client, upstream = talk.opening(dubbo.call(number, arguments=arguments, attachments={"group": "g"}))
    upstream.receives(dubbo.call(1, arguments=arguments, attachments={"group": "g"}))
    upstream.sends(dubbo.result(1, "answer", {"dubbo": "2.0.2"}))
    client.receives(dubbo.result(number, "answer", {"dubbo": "2.0.2"}))
    assert talk.reasons() == ["ok"]


def test_replies_come_in_any_order(start: Start) -> None:
    _, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.call(7, method="a") + dubbo.call(8, method="b"))
    upstream.receives(dubbo.call(2, method="a") + dubbo.call(3, method="b"))
    upstream.sends(dubbo.result(3, "B") + dubbo.result(2, "A"))
    client.receives(dubbo.result(8, "B") + dubbo.result(7, "A"))


def test_a_one_way_call_is_done_when_it_is_sent(start: Start) -> None:
    talk, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.call(9, one_way=True))
    upstream.receives(dubbo.call(2, one_way=True))
    client.receives_nothing()
    assert talk.reasons() == ["ok", "ok"]


def test_heartbeats_are_answered_on_both_sides(start: Start) -> None:
    _, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.heartbeat(77))
    client.receives(dubbo.heartbeat_ack(77))
    upstream.sends(dubbo.heartbeat(78))
    upstream.receives(dubbo.heartbeat_ack(78))
    upstream.sends(dubbo.heartbeat_ack(99))
    upstream.receives_nothing()
    client.receives_nothing()


def test_after_the_readonly_event_calls_go_to_another_connection(start: Start) -> None:
    talk, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.call(1))
    upstream.receives(dubbo.call(2))
    upstream.sends(dubbo.readonly())
    client.sends(dubbo.call(2))
    another = talk.expect_dial()
    another.receives(dubbo.call(1))
    upstream.sends(dubbo.result(2, "old"))
    another.sends(dubbo.result(1, "new"))
    client.receives(dubbo.result(1, "old") + dubbo.result(2, "new"))


def test_a_provider_that_cannot_be_reached(start: Start) -> None:
    talk = start(**DUBBO)
    client = talk.connect()
    client.sends(dubbo.call(4))
    while not talk.reasons():
        talk.hold_dial().fails(CONNECT_REFUSED)
    client.receives(dubbo.error(4, 60, "502|no health upstream"))
    assert talk.reasons() == ["connect_refused"]


def test_the_time_out_of_dubbo_3_counts(start: Start) -> None:
    talk, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.call(5, attachments={"timeout": "2000"}))
    upstream.receives(dubbo.call(2, attachments={"timeout": "2000"}))
    talk.advance(1.5)
    client.receives_nothing()
    talk.advance(1.0)
    client.receives(dubbo.error(5, 31, "504|timeout"))
    upstream.sends(dubbo.result(2, "late"))
    client.receives_nothing()
    assert talk.reasons()[1:] == ["timeout"]


def test_routes_by_service(start: Start) -> None:
    talk = start(routes=[Route("", Service("a.B"), Forward("service", 60.0))], **DUBBO)
    client = talk.connect()
    client.sends(dubbo.call(1, service="other"))
    client.receives(dubbo.error(1, 60, "404|router unavailable"))
    client.sends(dubbo.call(2, service="a.B"))
    talk.expect_dial().receives(dubbo.call(1, service="a.B"))


@pytest.mark.parametrize("version", ["dubbo-2.7", "dubbo-3"])
def test_routes_by_fields_that_java_sends_twice(start: Start, version: str) -> None:
    call = recorded(version)["attachment.request"]
    assert call.count(b"\x051.0.1") == 2  # in front, and as an attachment
    wanted: list[RouteMatcher] = [Header("service", "interop.EchoService"), Header("version", "1.0.1")]
    other = Route("", AllOf([Header("service", "interop.EchoService"), Header("version", "2.0")]), Forward("other", 60.0))
    talk = start(routes=[other, Route("", AllOf(wanted), Forward("service", 60.0))], **DUBBO)
    client = talk.connect()
    client.sends(call)
    talk.expect_dial("10.0.0.1:80").takes()


class Marker(StreamFilter):
    """Changes attachments both ways, and answers one method itself."""

    def on_request(self, exchange: Exchange) -> Reply | None:
        if exchange.request.method == "mine":
            return Reply(200, "from the filter")
        exchange.request.headers.set("seen", "yes")
        return None

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers.set("seen", "too")


def test_a_filter_sees_and_changes_attachments(start: Start) -> None:
    talk = start(filters={"marker": Marker({})}, **DUBBO)
    client, upstream = talk.opening(dubbo.call(1, arguments=("a",), attachments={"group": "g"}))
    upstream.receives(dubbo.call(1, arguments=("a",), attachments={"group": "g", "seen": "yes"}))
    upstream.sends(dubbo.result(1, "b", {"dubbo": "2.0.2"}))
    client.receives(dubbo.result(1, "b", {"dubbo": "2.0.2", "seen": "too"}))
    client.sends(dubbo.call(2, method="mine"))
    assert b"from the filter" in client.takes()


def test_a_broken_call_closes_its_connection_alone(start: Start) -> None:
    talk, client, upstream = talk_to_upstream(start)
    broken = talk.connect()
    broken.sends(dubbo.frame(0xC2, 0, b"\x90"))
    assert broken.is_closed() or broken.is_lingering()
    client.sends(dubbo.call(3))
    upstream.receives(dubbo.call(2))
    upstream.sends(dubbo.result(2))
    client.receives(dubbo.result(3))


def test_another_serialization_passes(start: Start) -> None:
    _, client, upstream = talk_to_upstream(start)
    client.sends(dubbo.frame(0xC0 + 23, 0, b"\xff\x00 anything", 3))
    upstream.receives(dubbo.frame(0xC0 + 23, 0, b"\xff\x00 anything", 2))
    upstream.sends(dubbo.frame(23, 20, b"\xfe", 2))
    client.receives(dubbo.frame(23, 20, b"\xfe", 3))


def test_dubbo_stream_makes_hosts_of_services_and_subsets_of_attachments(start: Start) -> None:
    seen: list[tuple[str, str | None, object]] = []

    class Spy(StreamFilter):
        def on_request(self, exchange: Exchange) -> None:
            chosen = None if exchange.overrides is None else exchange.overrides.subset
            seen.append((exchange.request.host, exchange.variable("Dubbo_method"), chosen))

    routes = [Route("", Prefix("/"), Forward("service", 60.0))]
    talk = start(
        routes=routes,
        filters={
            "dubbo_stream": DubboStreamFilter(Settings(subset="group")),
            "spy": Spy({}),
        },
        **DUBBO,
    )
    client, upstream = talk.forwarded(dubbo.call(1, service="a.B", attachments={"group": "g"}))
    client.sends(dubbo.call(2, service="a.B"))
    upstream.receives(dubbo.call(2, service="a.B"))
    assert seen == [("a.b", "m", (("group", "g"),)), ("a.b", "m", None)]


def test_dubbo_stream_counts_calls_by_service_and_method(start: Start) -> None:
    routes = [Route("", Prefix("/"), Forward("service", 60.0))]
    counts = DubboStreamFilter(Settings(max_names=2))
    talk = start(routes=routes, filters={"dubbo_stream": counts}, **DUBBO)
    counts.context = FilterContext("dubbo_stream", talk.log, {}, all_metrics=talk.metrics)
    client, upstream = talk.forwarded(dubbo.call(1, service="a.B"))
    upstream.sends(dubbo.result(1))
    client.takes()
    for number, method in enumerate(("m", "n", "o", "o"), 2):
        client.sends(dubbo.call(number, service="a.B", method=method))
        upstream.takes()
        failed = dubbo.frame(2, 80, dubbo.Hessian2(False).write("refused"), number)
        upstream.sends(dubbo.result(number) if method == "m" else failed)
        client.takes()
    client.sends(dubbo.call(9, service="a.B", method="late"))
    upstream.takes()
    upstream.resets()
    client.takes()
    counted = {
        (dict(group["labels"])["service"], dict(group["labels"])["method"]): list(group["counters"].values())
        for group in talk.metrics.snapshot()
        if group["type"] == "mosn"
    }
    assert counted == {("a.B", "m"): [2, 2, 0], ("a.B", "n"): [1, 0, 1], ("other", "other"): [3, 0, 3]}


def test_dubbo_thrift(start: Start) -> None:
    client, upstream = start(protocols=["dubbo-thrift"]).opening(THRIFT["call"] + THRIFT["one-way"])
    upstream.receives(THRIFT["call"].replace(b"\x00" * 7 + b"\x05", b"\x00" * 7 + b"\x01") + _numbered(THRIFT["one-way"], 2))
    upstream.sends(_numbered(THRIFT["reply"], 1))
    client.receives(THRIFT["reply"])
    client.sends(THRIFT["call"])
    upstream.takes()
    upstream.resets()
    client.receives(thrift_frame(exception("502|reset_before_response", 6)))


def _numbered(raw: bytes, number: int) -> bytes:
    return raw.replace(b"\x00" * 7 + b"\x05", b"\x00" * 7 + bytes((number,)))


def test_tars(start: Start) -> None:
    talk = start(protocols=["tars"])
    client, upstream = talk.forwarded(TARS["request"], tars_request(b"\x40\x01"))
    upstream.sends(tars_reply(number=b"\x30\x01"))
    client.receives(TARS["reply"])
    client.sends(TARS["tup"])
    upstream.receives(tars_request(b"\x40\x02", version=3))
    upstream.sends(tars_request(b"\x40\x02", version=3))  # the form of TUP's responses
    client.receives(TARS["tup"])
    client.sends(TARS["request"])
    upstream.takes()
    talk.advance(3.5)  # the packet's own time is 3 s
    assert b"504|timeout" in client.takes()


@pytest.mark.parametrize("protocol", ["dubbo", "dubbo-thrift", "tars"])
def test_auto_finds_each(start: Start, protocol: str) -> None:
    frames = {"dubbo": dubbo.call(1), "dubbo-thrift": THRIFT["call"], "tars": TARS["request"]}
    talk = start(protocols=["Http1", "bolt", "boltv2", "dubbo", "dubbo-thrift", "tars"], routes=forward())
    client = talk.connect()
    client.sends(frames[protocol])
    assert talk.expect_dial().takes()
    talk.connect().sends(b"\x99")
    assert talk.reasons() == ["protocol_unknown"]
