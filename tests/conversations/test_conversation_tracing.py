"""Traces: contexts that are read and written upstream, and the spans of exchanges with their attempts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.kit import GET, Start, Talk
from tests.kit.tracing import Traces, ids_of

from pymosn.api import ClientError, Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import FilterContext
from pymosn.core.log import Log
from pymosn.observe.tracing.sampling import Sampling, SamplingRule
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import DirectResponse, Forward, ForwardOptions, Mirror, RetryPolicy
from pymosn.routing.matchers import AnyRequest, Prefix

pytestmark = pytest.mark.also_h2

OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = b"00f067aa0ba902b7"
PARENT = b"traceparent: 00-" + TRACE + b"-" + CALLER + b"-01\r\n"
#: The first ids of `Counted`, for a new trace, whose server span is 3 and whose first client span is 4.
NEW = b"00000000000000010000000000000002"


def get(*fields: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(fields) + b"\r\n"


def parent(trace: bytes, span: int, flags: bytes = b"01") -> bytes:
    return b"traceparent: 00-%s-%016x-%s\r\n" % (trace, span, flags)


def retrying(hosts: list[str]) -> dict[str, Any]:
    action = Forward("service", 60.0, ForwardOptions(retry_policy=RetryPolicy(True, 3)))
    return {"routes": [Route("table/all/0", AnyRequest(), action, label="shop")], "hosts": hosts}


def test_off_changes_nothing(start: Start) -> None:
    talk = start()
    client, upstream = talk.forwarded(get(PARENT))
    upstream.sends(OK)
    client.receives(OK)
    [exchange] = talk.outcomes.exchanges
    assert exchange.trace is None
    assert exchange.span.trace_id == ""
    assert exchange.variable("span_id") is None


def test_a_new_trace_is_written_upstream(start: Start) -> None:
    talk = start()
    traces = Traces(talk)
    client, upstream = talk.forwarded(GET, get(parent(NEW, 4)))
    talk.advance(0.25)
    upstream.sends(OK)
    client.receives(OK)
    record = traces.only()
    assert (record.trace_id, record.state, record.reference) == (NEW.decode(), "", {})
    assert ids_of(record.spans) == [("3", "0"), ("4", "3")]
    server, attempt = record.spans
    assert (server.kind, server.name, attempt.kind, attempt.name) == ("server", "GET", "client", "GET")
    assert 0.25 <= attempt.duration <= server.duration < 0.4
    assert server.started == attempt.started == talk.outcomes.exchanges[0].started + talk.clock.wall() - talk.clock.now
    assert talk.outcomes.exchanges[0].variable("trace_id") == NEW.decode()
    assert talk.outcomes.exchanges[0].variable("span_id") == f"{3:016x}"
    assert traces.counts() == {"traces_recorded_total": 1}


def test_a_received_trace_is_continued(start: Start) -> None:
    talk = start()
    traces = Traces(talk)
    state = b"tracestate: a=1,b=2\r\nbaggage: k=v\r\n"
    client, upstream = talk.forwarded(get(PARENT, state), get(state, parent(TRACE, 2)))
    upstream.sends(OK)
    client.receives(OK)
    record = traces.only()
    assert (record.trace_id, record.state) == (TRACE.decode(), "a=1,b=2")
    assert record.spans[0].parent_id == CALLER.decode()
    assert ids_of(record.spans)[1] == ("2", "1")


def test_attributes_of_an_exchange(start: Start) -> None:
    talk = start(**retrying(HOSTS[:1]))
    traces = Traces(talk)
    request = (
        b"POST /a/b?q=1&access_token=secret HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: u/1\r\nContent-Length: 3\r\n"
    )
    client = talk.connect()
    client.sends(request + b"\r\nabc")
    upstream = talk.expect_dial(HOSTS[0])
    upstream.receives(request + parent(NEW, 4) + b"\r\nabc")
    upstream.sends(OK)
    client.receives(OK)
    [exchange] = talk.outcomes.exchanges
    server, attempt = traces.only().spans
    version = "2" if exchange.protocol == "Http2" else "1.1"
    assert server.name == "POST shop"
    assert server.attributes == {
        "http.request.method": "POST",
        "url.path": "/a/b",
        "url.query": "q=1&access_token=***REDACTED***",
        "url.scheme": "http",
        "server.address": "shop.example",
        "user_agent.original": "u/1",
        "http.route": "shop",
        "network.protocol.name": "http",
        "network.protocol.version": version,
        "client.address": "192.0.2.7",
        "client.port": 40000,
        "http.response.status_code": 200,
        "http.request.body.size": 3,
        "http.response.body.size": 2,
        "pymosn.listener": "l",
        "pymosn.protocol": exchange.protocol,
        "pymosn.process_time": exchange.processing_time(),
        "pymosn.local_address": exchange.local_address,
        "pymosn.remote_address": "192.0.2.7:40000",
        "pymosn.cluster": "service",
        "pymosn.upstream_protocol": exchange.spoken_upstream,
    }
    assert attempt.attributes == {
        "server.address": "10.0.0.1",
        "server.port": 80,
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 80,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "pymosn.cluster": "service",
    }


def test_every_attempt_has_a_span_of_its_own(start: Start) -> None:
    talk = start(**retrying(HOSTS))
    traces = Traces(talk)
    client, first = talk.forwarded(GET, get(parent(NEW, 4)), address=HOSTS[0])
    talk.advance(0.2)
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(get(parent(NEW, 5)))
    second.sends(BUSY)
    talk.advance(0.3)
    third = talk.expect_dial(HOSTS[0])
    third.receives(get(parent(NEW, 6)))
    third.sends(OK)
    client.receives(OK)
    record = traces.only()
    assert ids_of(record.spans) == [("3", "0"), ("4", "3"), ("5", "3"), ("6", "3")]
    server, *attempts = record.spans
    assert server.failure == ""
    assert [span.failure for span in attempts] == ["reset_before_response", "", ""]
    named = [
        (span.attributes.get("http.request.resend_count"), span.attributes.get("http.response.status_code"))
        for span in attempts
    ]
    assert named == [(None, None), (1, 503), (2, 200)]
    assert [span.attributes["network.peer.address"] for span in attempts] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]


def test_an_attempt_that_sent_nothing_has_a_span(start: Start) -> None:
    talk = start(**retrying(HOSTS))
    traces = Traces(talk)
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial(HOSTS[0])
    talk.advance(0.3)
    second = talk.expect_dial(HOSTS[1])
    second.receives(get(parent(NEW, 4)))
    second.sends(OK)
    client.receives(OK)
    spans = traces.only().spans
    assert [span.failure for span in spans] == ["", "connect_refused", ""]
    assert (spans[1].span_id, spans[2].span_id) == ("f" * 16, f"{4:016x}")


def test_an_exchange_that_fails(start: Start) -> None:
    talk = start()
    traces = Traces(talk)
    client, upstream = talk.forwarded(GET, get(parent(NEW, 4)))
    upstream.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    server, attempt = traces.only().spans
    assert (server.failure, attempt.failure) == ("reset_before_response", "reset_before_response")
    assert server.attributes["error.type"] == attempt.attributes["error.type"] == "reset_before_response"
    assert server.attributes["http.response.status_code"] == 502
    assert "http.response.status_code" not in attempt.attributes


def test_a_client_that_leaves(start: Start) -> None:
    talk = start()
    traces = Traces(talk)
    client, _ = talk.forwarded(GET, get(parent(NEW, 4)))
    client.resets()
    server, attempt = traces.only().spans
    assert (server.failure, attempt.failure) == ("client_gone", "client_gone")
    assert "http.response.status_code" not in server.attributes


def test_a_local_reply_has_only_a_server_span(start: Start) -> None:
    talk = start(routes=[Route("direct", AnyRequest(), DirectResponse(204, ""))])
    traces = Traces(talk)
    client = talk.connect()
    client.sends(get(PARENT))
    assert client.takes().startswith(b"HTTP/1.1 204 ")
    [server] = traces.only().spans
    assert server.attributes["http.response.status_code"] == 204
    assert server.parent_id == CALLER.decode()


@pytest.mark.parametrize(
    "fields",
    [
        b"traceparent: 00-" + TRACE + b"-" + CALLER + b"\r\n",
        b"traceparent: 00-" + b"0" * 32 + b"-" + CALLER + b"-01\r\n",
        PARENT + PARENT,
    ],
    ids=["too short", "zeros", "twice"],
)
def test_an_invalid_context_is_not_forwarded(start: Start, fields: bytes) -> None:
    talk = start()
    traces = Traces(talk)
    client, upstream = talk.forwarded(get(fields, b"tracestate: a=1\r\n"), get(parent(NEW, 4)))
    upstream.sends(OK)
    client.receives(OK)
    assert traces.only().trace_id == NEW.decode()


# ---- sampling


def test_an_unsampled_trace_is_propagated_and_not_recorded(start: Start) -> None:
    talk = start()
    traces = Traces(talk, sampling=Sampling(0.0))
    client, upstream = talk.forwarded(GET, get(parent(NEW, 4, b"00")))
    upstream.sends(OK)
    client.receives(OK)
    assert traces.take() == []
    assert traces.counts() == {"traces_unsampled_total": 1}
    assert talk.outcomes.exchanges[0].variable("trace_id") == NEW.decode()
    assert talk.outcomes.exchanges[0].variable("span_id") is None


def test_the_callers_decision_counts(start: Start) -> None:
    talk = start()
    traces = Traces(talk, sampling=Sampling(0.0))
    client, upstream = talk.forwarded(get(PARENT), get(parent(TRACE, 2)))
    upstream.sends(OK)
    client.receives(OK)
    assert len(traces.take()) == 1
    traces.switch(["w3c"])
    unwanted = PARENT.replace(b"-01\r\n", b"-00\r\n")
    client.sends(get(unwanted))
    upstream.receives(get(unwanted))
    upstream.sends(OK)
    client.receives(OK)
    assert traces.take() == []


def test_the_callers_decision_is_replaced(start: Start) -> None:
    talk = start()
    traces = Traces(talk, sampling=Sampling(0.0, obeys_parent=False))
    client, upstream = talk.forwarded(get(PARENT), get(parent(TRACE, 2, b"00")))
    upstream.sends(OK)
    client.receives(OK)
    assert traces.take() == []


def test_a_header_demands_a_record(start: Start) -> None:
    talk = start()
    traces = Traces(talk, sampling=Sampling(0.0, header="x-trace-me"))
    client, upstream = talk.forwarded(get(b"x-trace-me: 1\r\n"), get(b"x-trace-me: 1\r\n", parent(NEW, 4)))
    upstream.sends(OK)
    client.receives(OK)
    assert len(traces.take()) == 1


def test_a_rule_for_a_route_decides_when_the_route_is_known(start: Start) -> None:
    routes = [
        Route("table/all/0", Prefix("/a"), Forward("service", 60.0), label="quiet"),
        Route("table/all/1", AnyRequest(), Forward("service", 60.0), label="loud"),
    ]
    talk = start(routes=routes)
    traces = Traces(talk, sampling=Sampling(1.0, rules=[SamplingRule(0.0, route="quiet")]))
    quiet = b"GET /a HTTP/1.1\r\nHost: a\r\n"
    client, upstream = talk.forwarded(quiet + b"\r\n", quiet + parent(NEW, 4, b"00") + b"\r\n")
    upstream.sends(OK)
    client.receives(OK)
    other = talk.connect()
    other.sends(GET)
    upstream.receives(get(parent(b"%016x%016x" % (5, 6), 8)))
    upstream.sends(OK)
    other.receives(OK)
    assert traces.only().spans[0].name == "GET loud"


def test_traces_above_the_limit_are_dropped_and_counted(start: Start) -> None:
    talk = start(routes=[Route("direct", AnyRequest(), DirectResponse(204, ""))])
    traces = Traces(talk, limit=2)
    client = talk.connect()
    for _ in range(3):
        client.sends(GET)
        client.takes()
    assert len(traces.take()) == 2
    assert traces.counts() == {"traces_recorded_total": 3, "traces_dropped_total": 1}


# ---- changes, copies, filters


def test_a_change_keeps_the_traces_in_flight(start: Start) -> None:
    talk = start()
    traces = Traces(talk)
    client, upstream = talk.forwarded(GET, get(parent(NEW, 4)))
    talk.runtime.tracer = None
    upstream.sends(OK)
    client.receives(OK)
    assert len(traces.only().spans) == 2
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert traces.take() == []


def test_copies_carry_the_context_of_the_request(start: Start) -> None:
    options = ForwardOptions(mirrors=[Mirror("other", 100)])
    talk = start(routes=[Route("all", AnyRequest(), Forward("service", 60.0, options))])
    traces = Traces(talk)
    client = talk.connect()
    client.sends(GET)
    upstream = talk.expect_dial()
    upstream.receives(get(parent(NEW, 4)))
    copy = talk.expect_dial("10.0.1.1:80")
    copy.receives(get(parent(NEW, 4)))
    copy.sends(OK)
    upstream.sends(OK)
    client.receives(OK)
    assert len(traces.only().spans) == 2


class Marking(StreamFilter):
    """Adds an attribute and a child around an await."""

    def __init__(self) -> None:
        super().__init__({})
        self.ids: list[str] = []

    async def on_request(self, exchange: Exchange) -> Reply | None:
        span = exchange.span
        self.ids.append(span.trace_id)
        span.set_attribute("tenant", "t1")
        with span.child("look-up") as part:
            part.set_attribute("rows", 3)
            await asyncio.sleep(0)
            with part.child("inner"):
                pass
        return None

    def on_complete(self, exchange: Exchange) -> None:
        exchange.span.set_attribute("late", True)


def test_filters_add_to_the_trace(start: Start) -> None:
    entry = Marking()
    talk = start(filters={"marking": entry})
    traces = Traces(talk)
    client = talk.connect()
    client.sends(GET)
    talk.pass_rounds(3)
    upstream = talk.expect_dial()
    upstream.receives(get(parent(NEW, 6)))
    upstream.sends(OK)
    client.receives(OK)
    record = traces.only()
    assert entry.ids == [NEW.decode()]
    server, _, look_up, inner = record.spans
    assert (server.attributes["tenant"], server.attributes["late"]) == ("t1", True)
    assert (look_up.kind, look_up.name, look_up.attributes) == ("internal", "look-up", {"rows": 3})
    assert (inner.name, inner.parent_id, look_up.parent_id) == ("inner", look_up.span_id, server.span_id)


def test_filters_of_an_unsampled_trace_add_nothing(start: Start) -> None:
    entry = Marking()
    talk = start(filters={"marking": entry})
    traces = Traces(talk, sampling=Sampling(0.0))
    client = talk.connect()
    client.sends(GET)
    talk.pass_rounds(3)
    upstream = talk.expect_dial()
    upstream.receives(get(parent(NEW, 4, b"00")))
    upstream.sends(OK)
    client.receives(OK)
    assert entry.ids == [NEW.decode()]
    assert traces.take() == []


def test_the_lines_about_failures_have_the_id(start: Start) -> None:
    talk = start()
    Traces(talk)
    client, upstream = talk.forwarded(GET, get(parent(NEW, 4)))
    upstream.resets()
    client.takes()
    assert any(NEW.decode() in line for line in talk.log.lines)


class Asking(StreamFilter):
    """Asks the cluster `other` about each request, as a part of its trace."""

    def __init__(self) -> None:
        super().__init__({})

    async def on_request(self, exchange: Exchange) -> Reply | None:
        with suppress(ClientError):
            await self.clusters["other"].get("/check", exchange=exchange)
        return None


def asked(*fields: bytes) -> bytes:
    return b"GET /check HTTP/1.1\r\nhost: 10.0.1.1:80\r\n" + b"".join(fields) + b"\r\n"


def asking_talk(start: Start) -> Talk:
    entry = Asking()
    talk = start(filters={"asking": entry})
    entry.context = FilterContext("asking", Log(), ClusterClients(talk.runtime))
    return talk


def test_a_request_of_a_filter_is_a_part_of_the_trace(start: Start) -> None:
    talk = asking_talk(start)
    traces = Traces(talk)
    client = talk.connect()
    client.sends(GET)
    check = talk.expect_dial("10.0.1.1:80")
    check.receives(asked(parent(NEW, 4)))
    check.sends(OK)
    talk.pass_rounds(3)
    upstream = talk.expect_dial()
    upstream.receives(get(parent(NEW, 5)))
    upstream.sends(OK)
    client.receives(OK)
    record = traces.only()
    assert ids_of(record.spans) == [("3", "0"), ("5", "3"), ("4", "3")]
    call = record.spans[2]
    assert (call.kind, call.name, call.failure) == ("client", "GET", "")
    assert call.attributes == {
        "server.address": "10.0.1.1",
        "network.peer.address": "10.0.1.1",
        "pymosn.cluster": "other",
        "pymosn.call_number": 1001,
        "http.response.status_code": 200,
    }


def test_a_request_of_a_filter_that_fails(start: Start) -> None:
    talk = asking_talk(start)
    traces = Traces(talk)
    client = talk.connect()
    client.sends(GET)
    for _ in range(2):  # it is made again, since nothing was sent
        talk.refuse_dial("10.0.1.1:80")
        talk.pass_rounds(2)
    while talk.dials and talk.dials[0].address == "10.0.1.1:80":
        talk.refuse_dial("10.0.1.1:80")
        talk.pass_rounds(2)
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    calls = traces.only().spans[2:]
    assert {(call.failure, call.attributes["error.type"]) for call in calls} == {("connect_refused", "connect_refused")}


def test_a_request_of_a_filter_in_an_unsampled_trace(start: Start) -> None:
    talk = asking_talk(start)
    traces = Traces(talk, sampling=Sampling(0.0))
    client = talk.connect()
    client.sends(GET)
    check = talk.expect_dial("10.0.1.1:80")
    check.receives(asked(parent(NEW, 4, b"00")))
    check.sends(OK)
    talk.pass_rounds(3)
    upstream = talk.expect_dial()
    upstream.receives(get(parent(NEW, 5, b"00")))
    upstream.sends(OK)
    client.receives(OK)
    assert traces.take() == []
