"""gRPC, by clients and hosts that speak HTTP/2: what arrives on the wire when calls end, in time or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from tests.kit import GET, Start
from tests.kit.fakes import FakeClock
from tests.kit.h2_end import Stream
from tests.kit.h2_peers import H2Client, H2Upstream, h2_client, h2_upstream, request
from tests.kit.talk import Talk

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.api.stream_filter import FilterContext
from pymosn.assembly.local_replies import local_replies
from pymosn.config.schema import Listener
from pymosn.config.schema.local_replies import LocalReplies
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.log import WARN, Log
from pymosn.filters.stream.grpc_call import CallError, call
from pymosn.protocol.http2 import frames
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.retries import conditions_of

MESSAGE = b"\0\0\0\0\2hi"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]
HEAD = ((b"content-type", b"application/grpc"),)


def grpc_talk(start: Start, *conditions: str, filters: Sequence[StreamFilter] = ()) -> tuple[Talk, H2Client]:
    """A listener for HTTP/2 whose calls are repeated under these conditions, and a client."""
    policy = RetryPolicy(True, 2, conditions=conditions_of(list(conditions), frozenset())) if conditions else None
    action = Forward("service", 60.0, ForwardOptions(retry_policy=policy))
    named = {type(entry).__name__: entry for entry in filters}
    talk = start(routes=[Route("all", AnyRequest(), action)], hosts=HOSTS, protocols=("Http2",), filters=named)
    return talk, h2_client(talk)


def calls(client: H2Client, *fields: tuple[bytes, bytes], end: bool = True) -> Stream:
    head = request(b"POST", b"/pkg.Echo/Say", b"a", (b"te", b"trailers"), *HEAD, *fields)
    return client.requests(head, MESSAGE, end)


def answers(upstream: H2Upstream, stream: Stream, status: bytes, body: bytes = MESSAGE) -> None:
    upstream.responds(stream, 200, HEAD, body, end=False)
    upstream.sends_trailers(stream, [(b"grpc-status", status)])


def test_a_call_without_messages_ends_with_an_empty_data_frame(start: Start) -> None:
    """grpc-go's server does not answer one that ends with its head."""
    talk, client = grpc_talk(start)
    head = request(b"POST", b"/pkg.Echo/Say", b"a", (b"te", b"trailers"), *HEAD)
    stream = client.requests(head, b"", True)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    assert (got.data, got.is_done, got.ends_with_data) == (b"", True, True)
    answers(upstream, got, b"0", b"")
    assert client.result(stream)[0] == 200


def test_a_call_and_its_status(start: Start) -> None:
    talk, client = grpc_talk(start)
    stream = calls(client, (b"grpc-timeout", b"5S"), (b"x-raw-bin", b"AAE="))
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    assert (got.fields[b":path"], got.data, got.is_done) == (b"/pkg.Echo/Say", MESSAGE, True)
    assert got.fields[b"te"] == b"trailers"
    assert (got.fields[b"grpc-timeout"], got.fields[b"x-raw-bin"]) == (b"5S", b"AAE=")
    answers(upstream, got, b"0")
    assert client.result(stream) == (200, MESSAGE)
    assert stream.trailers == [(b"grpc-status", b"0")]
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [0]


def test_messages_go_to_and_fro(start: Start) -> None:
    talk, client = grpc_talk(start)
    stream = calls(client, end=False)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    upstream.responds(got, 200, HEAD, end=False)
    assert stream.status == 200
    for number in range(3):
        upstream.sends_data(got, b"answer %d" % number)
        assert stream.data.endswith(b"answer %d" % number)
        client.sends_data(stream, b"question %d" % number)
        assert got.data.endswith(b"question %d" % number)
    client.sends_data(stream, b"", end=True)
    assert got.is_done
    upstream.sends_trailers(got, [(b"grpc-status", b"0")])
    assert stream.trailers == [(b"grpc-status", b"0")]


def test_a_local_reply_is_one_head(start: Start) -> None:
    talk, client = grpc_talk(start)
    stream = calls(client)
    for host in HOSTS:
        talk.hold_dial(host).fails(CONNECT_REFUSED)
    assert (stream.has_end, stream.status, stream.data, stream.trailers) == (True, 200, b"", None)
    assert stream.fields[b"content-type"] == b"application/grpc"
    assert (stream.fields[b"grpc-status"], stream.fields[b"grpc-message"]) == (b"14", b"502 Bad Gateway: connect_refused")
    assert b"content-length" not in stream.fields
    assert talk.reasons() == ["connect_refused"]


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_deadline_cancels_both_sides(start: Start, has_begun: bool) -> None:
    talk, client = grpc_talk(start)
    talk.log.level = WARN
    stream = calls(client, (b"grpc-timeout", b"2S"))
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    if has_begun:
        upstream.responds(got, 200, HEAD, MESSAGE, end=False)
    talk.advance(2.5)
    upstream.settle()
    client.settle()
    if has_begun:
        assert (stream.data, stream.has_end) == (MESSAGE, True)
        assert stream.trailers == [(b"grpc-status", b"4"), (b"grpc-message", b"504 Gateway Timeout: deadline_exceeded")]
    else:
        assert stream.fields[b"grpc-status"] == b"4"
    assert got.code == frames.CANCEL
    assert talk.reasons() == ["deadline_exceeded"]
    assert not talk.log.lines  # clients choose deadlines, and could fill the log
    assert client.is_open()
    assert upstream.is_open()


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_host_gives_up_at_the_deadline_before_the_proxy_does(start: Start, has_begun: bool) -> None:
    """As grpc-go does, which resets the stream. The timers of the proxy have not run yet."""
    talk, client = grpc_talk(start, "unavailable")
    stream = calls(client, (b"grpc-timeout", b"2S"))
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    if has_begun:
        upstream.responds(got, 200, HEAD, MESSAGE, end=False)
    talk.clock.now += 2.0
    assert not stream.is_done
    upstream.resets_stream(got)
    client.settle()
    if has_begun:
        assert (stream.data, stream.has_end) == (MESSAGE, True)
        assert stream.trailers == [(b"grpc-status", b"4"), (b"grpc-message", b"504 Gateway Timeout: deadline_exceeded")]
    else:
        assert stream.fields[b"grpc-status"] == b"4"
    assert talk.reasons() == ["deadline_exceeded"]


def test_a_client_that_cancels_cancels_the_host(start: Start) -> None:
    talk, client = grpc_talk(start)
    stream = calls(client, end=False)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    client.resets_stream(stream)
    upstream.settle()
    assert got.code == frames.CANCEL
    assert talk.reasons() == ["client_gone"]


@pytest.mark.parametrize("has_head", [False, True])
def test_an_unavailable_host_is_replaced_before_the_first_message(start: Start, has_head: bool) -> None:
    talk, client = grpc_talk(start, "unavailable")
    stream = calls(client)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    if has_head:
        answers(upstream, got, b"14", b"")
    else:
        upstream.responds(got, 200, [*HEAD, (b"grpc-status", b"14")])
    other = h2_upstream(talk.expect_dial(HOSTS[1]))
    again = other.takes_stream()
    assert (again.data, again.is_done) == (MESSAGE, True)
    answers(other, again, b"0")
    assert client.result(stream) == (200, MESSAGE)
    assert stream.trailers == [(b"grpc-status", b"0")]
    assert talk.outcomes.exchanges[0].attempts == 2


def test_a_host_that_answers_early_ends_the_call(start: Start) -> None:
    talk, client = grpc_talk(start)
    stream = calls(client, end=False)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    upstream.responds(got, 200, [*HEAD, (b"grpc-status", b"7")])
    client.settle()
    assert (stream.fields[b"grpc-status"], stream.has_end) == (b"7", True)
    assert stream.code in (-1, frames.NO_ERROR)
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [7]


def begins(
    start: Start, *fields: tuple[bytes, bytes], filters: Sequence[StreamFilter] = ()
) -> tuple[Talk, H2Client, Stream, H2Upstream, Stream]:
    """A call whose response has begun with a message; `fields`: of its head."""
    talk, client = grpc_talk(start, "unavailable", filters=filters)
    stream = calls(client, end=False)
    upstream = h2_upstream(talk.expect_dial(HOSTS[0]))
    got = upstream.takes_stream()
    upstream.responds(got, 200, fields, MESSAGE, end=False)
    client.settle()
    return talk, client, stream, upstream, got


def test_a_host_that_goes_down_in_a_stream_is_unavailable(start: Start) -> None:
    """As without a proxy: clients take INTERNAL, which they make of a reset, for an error of the service."""
    talk, client, stream, upstream, _ = begins(start, *HEAD)
    upstream.resets()
    client.settle()
    assert (stream.data, stream.has_end) == (MESSAGE, True)
    assert stream.trailers == [(b"grpc-status", b"14"), (b"grpc-message", b"502 Bad Gateway: reset_after_response")]
    assert talk.reasons() == ["reset_after_response"]
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [14]
    assert client.is_open()


class Handles(StreamFilter):
    """Changes content, except that with `!`, where it fails."""

    def __init__(self) -> None:
        super().__init__({})
        self.was_told_of_the_end = False

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        if b"!" in data:
            raise ValueError("cannot be converted")
        self.was_told_of_the_end = self.was_told_of_the_end or last
        return data.upper()


def test_trailers_also_report_a_lost_host_where_a_filter_handles_the_body(start: Start) -> None:
    """The filter is not told that the body is complete, which it might keep as such."""
    handles = Handles()
    talk, client, stream, upstream, _ = begins(start, *HEAD, filters=[handles])
    upstream.resets()
    client.settle()
    assert (stream.data, stream.has_end) == (MESSAGE.upper(), True)
    assert stream.trailers == [(b"grpc-status", b"14"), (b"grpc-message", b"502 Bad Gateway: reset_after_response")]
    assert not handles.was_told_of_the_end
    assert talk.reasons() == ["reset_after_response"]
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [14]


def test_trailers_report_a_filter_that_fails_in_a_stream(start: Start) -> None:
    talk, client, stream, upstream, got = begins(start, *HEAD, filters=[Handles()])
    upstream.sends_data(got, b"!")
    client.settle()
    assert (stream.data, stream.has_end) == (MESSAGE.upper(), True)
    assert stream.trailers == [(b"grpc-status", b"13"), (b"grpc-message", b"500 Internal Server Error: filter_error")]
    upstream.settle()
    assert got.code == frames.CANCEL
    assert talk.reasons() == ["filter_error"]


class Streams(StreamFilter):
    """Streams a reply, and fails after its first message."""

    def on_request(self, exchange: Exchange) -> Reply:
        async def messages() -> AsyncIterator[bytes]:
            yield MESSAGE
            raise ValueError("nothing is left")

        return Reply(200, messages(), {"content-type": "application/grpc", "grpc-status": "0"})


def test_trailers_report_a_filter_whose_own_stream_fails(start: Start) -> None:
    talk, client = grpc_talk(start, filters=[Streams({})])
    stream = calls(client)
    client.settle()
    assert (stream.data, stream.has_end) == (MESSAGE, True)
    assert stream.trailers == [(b"grpc-status", b"13"), (b"grpc-message", b"500 Internal Server Error: filter_error")]
    assert talk.reasons() == ["filter_error"]
    assert [exchange.call_status for exchange in talk.outcomes.exchanges] == [13]


@pytest.mark.parametrize("fields", [((b"content-type", b"text/html"),), (*HEAD, (b"content-length", b"100"))])
def test_other_responses_are_broken_off(start: Start, fields: tuple[tuple[bytes, bytes], ...]) -> None:
    talk, client, stream, upstream, _ = begins(start, *fields)
    upstream.resets()
    client.settle()
    assert (stream.has_end, stream.trailers, stream.code) == (False, None, frames.INTERNAL_ERROR)
    assert talk.reasons() == ["reset_after_response"]


def test_a_client_that_leaves_gets_no_trailers(start: Start) -> None:
    talk, client, stream, upstream, got = begins(start, *HEAD)
    client.resets_stream(stream)
    upstream.settle()
    assert (stream.trailers, got.code) == (None, frames.CANCEL)
    assert talk.reasons() == ["client_gone"]


class Calls(StreamFilter):
    """Calls a service by gRPC before each request."""

    def __init__(self) -> None:
        super().__init__({})

    async def on_request(self, exchange: Exchange) -> Reply:
        try:
            answer = await call(self.clusters["other"], "/pkg.Echo/Say", b"hi", 5.0, "say.example", [("x-key", "k")])
        except CallError as error:
            return Reply(503, str(error))
        return Reply(200, answer)


@pytest.mark.parametrize(
    ("trailers", "body", "expected"),
    [
        ([(b"grpc-status", b"0")], MESSAGE, b"hi"),
        ([(b"grpc-status", b"7"), (b"grpc-message", b"no%20way")], b"", b"gRPC status 7: no way"),
        ([(b"x-end", b"1")], MESSAGE, b"no gRPC status"),
        ([(b"grpc-status", b"0")], MESSAGE * 2, b"2 messages in the response, expected one"),
        ([(b"grpc-status", b"0")], MESSAGE[:-1], b"0 messages in the response, expected one"),
    ],
)
def test_a_filter_calls_a_service(start: Start, trailers: list[tuple[bytes, bytes]], body: bytes, expected: bytes) -> None:
    filter_ = Calls()
    talk = start(filters={"calls": filter_})
    filter_.context = FilterContext("calls", Log(), ClusterClients(talk.runtime))
    client = talk.connect()
    client.sends(GET)
    upstream = h2_upstream(talk.expect_dial("10.0.1.1:80"))
    stream = upstream.takes_stream()
    assert (stream.fields[b":path"], stream.fields[b":authority"], stream.data) == (
        b"/pkg.Echo/Say",
        b"say.example",
        MESSAGE,
    )
    assert (stream.fields[b"te"], stream.fields[b"x-key"]) == (b"trailers", b"k")
    assert stream.fields[b"grpc-timeout"].endswith(b"u")
    upstream.responds(stream, 200, HEAD, body, end=False)
    upstream.sends_trailers(stream, trailers)
    assert client.takes().partition(b"\r\n\r\n")[2] == expected


@pytest.mark.parametrize(
    ("config", "trailers"),
    [
        ({"mappers": [{"status": 404, "body": "gone"}]}, (b"12", b"gone")),
        ({"format": {"text": "<%local_reply_body%>"}}, (b"14", b"<502 Bad Gateway: connect_refused>")),
        ({"format": {"html": "<%local_reply_body%>"}}, (b"14", b"502 Bad Gateway: connect_refused")),
        ({"formats": [{"text": "t"}, {"html": "h"}]}, (b"14", b"502 Bad Gateway: connect_refused")),
        ({"mappers": [{"filter": {"reasons": ["connect_refused"]}, "body": "by reason"}]}, (b"14", b"by reason")),
    ],
)
def test_the_form_of_local_replies(start: Start, config: dict[str, Any], trailers: tuple[bytes, bytes]) -> None:
    """The status of a mapped reply is that of HTTP, and the body is the message of the call, which never has a page.

    `local_reply_body` does not concern it.
    """
    form = local_replies(msgspec.convert(config, LocalReplies), FakeClock(), Listener(name="l"))
    talk = start(protocols=("Http2",), local_replies=form, empty_failures=True)
    client = h2_client(talk)
    stream = calls(client)
    talk.hold_dial().fails(CONNECT_REFUSED)
    assert client.result(stream)[0] == 200
    assert (stream.fields[b"grpc-status"], stream.fields[b"grpc-message"]) == trailers
