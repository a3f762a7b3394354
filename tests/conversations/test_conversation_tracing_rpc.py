"""Traces of calls: contexts in gRPC, in the headers of Bolt and in the attachments of Dubbo."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.kit import Start
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.h2_peers import h2_client, h2_upstream, request
from tests.kit.tracing import Traces, ids_of
from tests.unit.protocol.test_dubbothrift_codec import FRAMES as THRIFT
from tests.unit.protocol.test_dubbothrift_codec import frame as thrift_frame
from tests.unit.protocol.test_dubbothrift_codec import message as thrift_message
from tests.unit.protocol.test_tars_codec import FRAMES as TARS

from pymosn.api.routing import Route
from pymosn.api.tracing import TraceRecord
from pymosn.observe.tracing.sampling import Sampling, SamplingRule
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest

MESSAGE = b"\0\0\0\0\2hi"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]
BOLT: dict[str, Any] = {"protocols": ["bolt"]}
DUBBO: dict[str, Any] = {"protocols": ["dubbo"]}
SOFA = {"rpc_trace_context.sofaTraceId": "0a0fe8ba1575371398127100018846", "rpc_trace_context.sofaRpcId": "0.1"}
HEADERS = {"service": "a.B:1.0", "sofa_head_method_name": "call", "nothing": None}


def below(number: int) -> dict[str, str]:
    return {**SOFA, "rpc_trace_context.sofaRpcId": f"0.1.{number}"}


def retrying() -> dict[str, Any]:
    action = Forward("service", 60.0, ForwardOptions(retry_policy=RetryPolicy(True, 3)))
    return {"routes": [Route("table/all/0", AnyRequest(), action)], "hosts": HOSTS}


def test_a_grpc_call(start: Start) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http2")
    traces = Traces(talk)
    client = h2_client(talk)
    head = request(b"POST", b"/pkg.Echo/Say", b"a", (b"te", b"trailers"), (b"content-type", b"application/grpc"))
    stream = client.requests(head, MESSAGE, True)
    upstream = h2_upstream(talk.expect_dial())
    got = upstream.takes_stream()
    assert dict(got.heads[-1])[b"traceparent"] == b"00-%016x%016x-%016x-01" % (1, 2, 4)
    upstream.responds(got, 200, ((b"content-type", b"application/grpc"),), MESSAGE, end=False)
    upstream.sends_trailers(got, [(b"grpc-status", b"5")])
    assert client.result(stream)[0] == 200
    server, attempt = traces.only().spans
    assert server.name == attempt.name == "pkg.Echo/Say"
    found = {key: value for key, value in server.attributes.items() if key.startswith("rpc.")}
    assert found == {
        "rpc.system": "grpc",
        "rpc.service": "pkg.Echo",
        "rpc.method": "Say",
        "rpc.grpc.status_code": 5,
    }


def test_the_names_of_a_call_are_cut(start: Start) -> None:
    talk = start(protocols=("Http2",), upstream_protocol="Http2")
    traces = Traces(talk)
    client = h2_client(talk)
    path = b"/" + b"s" * 3000 + b"/" + b"m" * 3000
    client.requests(request(b"POST", path, b"a", (b"content-type", b"application/grpc")), MESSAGE, True)
    upstream = h2_upstream(talk.expect_dial())
    upstream.responds(
        upstream.takes_stream(), 200, ((b"content-type", b"application/grpc"), (b"grpc-status", b"0")), end=True
    )
    [finished] = traces.buffer.take(1)
    assert (len(finished.service), len(finished.rpc_method)) == (2048, 2048)


def test_a_bolt_call_whose_names_are_not_utf_8(start: Start) -> None:
    talk = start(**BOLT)
    traces = Traces(talk, "sofa")
    headers: dict[str, str | None] = {
        "service": "s??",
        "sofa_head_method_name": "m??",
        "rpc_trace_context.sofaPenAttrs": "p??",
    }
    client, upstream = talk.opening(bolt.request(7, b"a", {**SOFA, **headers}).replace(b"??", b"\xff\xfe"))
    upstream.receives(bolt.request(1, b"a", {**headers, **below(1)}).replace(b"??", b"\xff\xfe"))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(7))
    record = traces.only()
    assert record.spans[0].attributes["rpc.service"] == "s??"
    assert record.reference["sofa.baggage"] == "p\ufffd\ufffd"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=TraceRecord) == record


@pytest.mark.parametrize(("v2", "crc"), [(False, False), (True, False), (True, True)])
def test_a_bolt_call_without_a_context(start: Start, v2: bool, crc: bool) -> None:
    """New fields follow those of the frame; everything else is unchanged."""
    talk = start(**BOLT)
    traces = Traces(talk, "sofa")
    client, upstream = talk.opening(bolt.request(7, b"\x00\xff", HEADERS, v2=v2, crc=crc))
    trace_id = str(talk.runtime.stamps.trace_id())
    number = trace_id[-4:]  # the counter: the stamps of a test have no process
    own = trace_id[:-4] + str(int(number) - 1)
    sent = {**HEADERS, "rpc_trace_context.sofaTraceId": own, "rpc_trace_context.sofaRpcId": "0.1"}
    upstream.receives(bolt.request(1, b"\x00\xff", sent, v2=v2, crc=crc))
    upstream.sends(bolt.response(1, v2=v2, crc=crc))
    client.receives(bolt.response(7, v2=v2, crc=crc))
    record = traces.only()
    assert record.trace_id == own.rjust(32, "0")
    called = {"sofa.service": "a.B:1.0", "sofa.method": "call"}
    assert record.reference == {"sofa.trace_id": own, "sofa.rpc_id": "0", **called}
    server, attempt = record.spans
    assert server.name == attempt.name == "a.B:1.0/call"
    assert server.attributes["rpc.system"] == server.attributes["network.protocol.name"] == "bolt"
    assert talk.outcomes.exchanges[0].variable("trace_id") == own


def test_bolt_attempts_are_numbered_below_the_callers_id(start: Start) -> None:
    talk = start(**BOLT, **retrying())
    traces = Traces(talk, "sofa")
    more = {"rpc_trace_context.sofaCallerApp": "shop", "rpc_trace_context.sofaPenAttrs": "k=v&"}
    client, first = talk.opening(bolt.request(7, b"a", {**SOFA, **HEADERS, **more}), HOSTS[0])
    first.receives(bolt.request(1, b"a", {**HEADERS, **more, **below(1)}))
    first.resets()
    talk.advance(0.3)
    second = talk.expect_dial(HOSTS[1])
    second.receives(bolt.request(1, b"a", {**HEADERS, **more, **below(2)}))
    second.sends(bolt.response(1))
    client.receives(bolt.response(7))
    record = traces.only()
    assert record.reference == {
        "sofa.trace_id": SOFA["rpc_trace_context.sofaTraceId"],
        "sofa.rpc_id": "0.1",
        "sofa.parent_rpc_id": "0.1",
        "sofa.service": "a.B:1.0",
        "sofa.method": "call",
        "sofa.caller_app": "shop",
        "sofa.baggage": "k=v&",
    }
    assert len(record.spans) == 3


def test_headers_without_room_for_a_context_are_forwarded_unchanged(start: Start) -> None:
    talk = start(**BOLT)
    traces = Traces(talk, "sofa", "w3c", "b3")
    headers = {**HEADERS, "long": "x" * 65_400}
    client, upstream = talk.opening(bolt.request(7, b"a", headers))
    upstream.receives(bolt.request(1, b"a", headers))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(7))
    assert len(traces.only().spans) == 2


@pytest.mark.parametrize("formats", [["sofa"], ["w3c", "jaeger"]])
def test_calls_that_cannot_carry_a_context_are_forwarded_unchanged(start: Start, formats: list[str]) -> None:
    talk = start(protocols=["dubbo-thrift"])
    traces = Traces(talk, *formats)
    client, upstream = talk.opening(THRIFT["call"])
    upstream.receives(thrift_frame(thrift_message(1), 1))
    client.resets()
    assert traces.only().spans[0].attributes["rpc.system"] == "dubbo-thrift"
    upstream.resets()


def test_a_call_of_tars(start: Start) -> None:
    talk = start(protocols=["tars"])
    traces = Traces(talk, "b3")
    client, upstream = talk.opening(TARS["request"])
    assert b"\x06\x02b3\x16D" in upstream.takes()
    client.resets()
    assert traces.only().spans[1].failure == "client_gone"


def test_a_one_way_call_of_bolt(start: Start) -> None:
    talk = start(**BOLT)
    traces = Traces(talk, "w3c")
    _, upstream = talk.opening(bolt.request(7, b"a", HEADERS, kind=2))
    context = {"traceparent": f"00-{1:016x}{2:016x}-{4:016x}-01"}
    upstream.receives(bolt.request(1, b"a", {**HEADERS, **context}, kind=2))
    assert ids_of(traces.only().spans) == [("3", "0"), ("4", "3")]


def test_a_dubbo_call(start: Start) -> None:
    arguments = ("text", 7, {"a": [1, None]})
    talk = start(**DUBBO)
    traces = Traces(talk, "sofa")
    client, upstream = talk.opening(dubbo.call(5, arguments=arguments, attachments={"group": "g", **SOFA}))
    upstream.receives(dubbo.call(1, arguments=arguments, attachments={"group": "g", **below(1)}))
    upstream.sends(dubbo.result(1))
    client.receives(dubbo.result(5))
    record = traces.only()
    assert record.trace_id == SOFA["rpc_trace_context.sofaTraceId"].rjust(32, "0")
    attributes = record.spans[0].attributes
    assert attributes["rpc.system"] == "dubbo"
    assert record.spans[0].name == f"{attributes['rpc.service']}/{attributes['rpc.method']}"


def test_other_formats_are_attachments_of_dubbo_too(start: Start) -> None:
    """Read by a second proxy, because Hessian has more than one way to write a long text."""
    first, second = start(**DUBBO), start(**DUBBO)
    traces, further = Traces(first, "w3c", "b3"), Traces(second, "b3")
    _, upstream = first.opening(dubbo.call(5, attachments={"group": "g"}))
    frame = upstream.takes()
    assert b"traceparent" in frame
    _, next_upstream = second.opening(frame)
    assert b"traceparent" in next_upstream.takes()
    for talk in (first, second):
        talk.clients[0].resets()
    [ours], [theirs] = traces.take(), further.take()
    assert ours.trace_id == theirs.trace_id
    assert theirs.spans[0].parent_id == ours.spans[1].span_id


def test_a_rule_for_a_service(start: Start) -> None:
    talk = start(**BOLT)
    traces = Traces(talk, "w3c", sampling=Sampling(1.0, rules=[SamplingRule(0.0, service="a.B:1.0")]))
    client, upstream = talk.opening(bolt.request(7, b"a", HEADERS))
    context = {"traceparent": f"00-{1:016x}{2:016x}-{4:016x}-00"}
    upstream.receives(bolt.request(1, b"a", {**HEADERS, **context}))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(7))
    assert traces.take() == []
