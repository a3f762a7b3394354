"""The small parts of the proxy: protocol detection, filter chains, dates, ids, local replies."""

from typing import Any

import pytest
from tests.kit import WALL, FakeClock, Lines, Outcomes
from tests.kit.options import proxy_options

from pymosn.api import Exchange, StreamFilter
from pymosn.api.exchange import Reply
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import STOP, Connection, Dialer, NetworkFilter
from pymosn.api.protocol import MORE, NO, YES, ProtocolSpec
from pymosn.api.stream import ConnectionPool, PoolTarget, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.clock import Clock, HttpDates
from pymosn.core.counters import Metrics
from pymosn.core.failure import CLOSED_BY_PEER, NO_ROUTE, Failure
from pymosn.core.headers import HeaderError, HttpHeaders, wire_lines
from pymosn.core.registry import Registry
from pymosn.core.request_ids import RequestIds
from pymosn.core.timers import TimerWheel
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.upstream.clusters import Clusters
from pymosn.version import build


class Server(ServerStreams):
    """The server half of a made-up protocol: notes what it gets."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def on_connection(self, connection: Connection) -> None:
        self.events.append("open")

    def on_data(self, data: bytes) -> bool:
        self.events.append(data)
        return STOP

    def on_eof(self) -> None:
        self.events.append("eof")

    def on_idle(self) -> None:
        self.events.append("idle")

    def on_drain(self) -> None:
        self.events.append("drain")

    def on_writable(self, writable: bool) -> None:
        self.events.append(writable)

    def on_close(self, failure: Failure) -> None:
        self.events.append(failure.reason)


class Spec(ProtocolSpec):
    def match(self, data: bytes) -> int:  # type: ignore[override]
        magic = self.name.encode()
        if data.startswith(magic):
            return int(YES)
        return int(MORE) if magic.startswith(data) else int(NO)


class Made(StreamProtocol):
    def __init__(self, name: str) -> None:
        super().__init__(Spec(name, "", False))
        self.made: list[Server] = []

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        assert options == f"options of {self.spec.name}"
        self.made.append(Server())
        return self.made[-1]

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        raise AssertionError("nobody dials here")


class Plug(Connection):
    def __init__(self) -> None:
        super().__init__()
        self.idle = -1.0
        self.ending = ""
        self.filters: list[NetworkFilter] = []

    def replace_filters(self, filters: list[NetworkFilter]) -> None:
        self.filters = filters

    def set_idle(self, seconds: float) -> None:
        self.idle = seconds

    def now(self) -> float:
        return 0.0

    def close(self, failure: Failure) -> None:
        self.is_closed, self.ending = True, "close"

    def abort(self, failure: Failure) -> None:
        self.is_closed, self.ending = True, "abort"


class Bench:
    def __init__(self, *names: str) -> None:
        clock = Clock()
        self.log = Lines()
        self.outcomes = Outcomes()
        runtime = Runtime(clock, TimerWheel(clock), Metrics(), self.log, Registry("protocol"), Clusters())
        self.protocols = [Made(name) for name in names]
        options = proxy_options(
            protocols=list(self.protocols),
            protocol_options={name: f"options of {name}" for name in names},
            access_logs=[self.outcomes],
        )
        self.plug = Plug()
        self.plug.filters = ProxyFactory(runtime, options).create()
        self.filter.on_connection(self.plug)

    @property
    def filter(self) -> NetworkFilter:
        """The one filter that the connection has now."""
        (only,) = self.plug.filters
        return only


@pytest.mark.parametrize("cuts", [[b"AB1 rest"], [b"A", b"B", b"1 rest"], [b"AB1", b" rest"]])
def test_protocol_is_found_however_the_bytes_are_cut(cuts: list[bytes]) -> None:
    bench = Bench("AB2", "AB1")
    for cut in cuts:
        bench.filter.on_data(cut)
    assert bench.protocols[0].made == []
    server = bench.protocols[1].made[0]
    assert server.events[0] == "open"
    assert b"".join(event for event in server.events if isinstance(event, bytes)) == b"AB1 rest"
    bench.filter.on_eof()
    bench.filter.on_idle()
    bench.filter.on_writable(False)
    bench.filter.on_drain()
    bench.filter.on_close(NO_ROUTE)
    assert server.events[-5:] == ["eof", "idle", False, "drain", "no_route"]


def test_first_protocol_that_matches_gets_it() -> None:
    bench = Bench("A", "AB")
    bench.filter.on_data(b"AB")
    assert len(bench.protocols[0].made) == 1


def test_unknown_protocol_is_cut_off() -> None:
    bench = Bench("AB", "CD")
    bench.filter.on_data(b"AX\x00\x1b")
    assert bench.plug.ending == "abort"
    assert bench.outcomes.reasons() == ["protocol_unknown"]
    assert "b'AX\\x00\\x1b'" in bench.log.lines[0]


@pytest.mark.parametrize(("event", "reason"), [("on_idle", "detection_timeout"), ("on_eof", "protocol_unknown")])
def test_silence_and_eof_before_the_protocol_is_known(event: str, reason: str) -> None:
    bench = Bench("AB", "CD")
    assert bench.plug.idle == 90.0
    bench.filter.on_data(b"A")
    assert bench.plug.idle == 15.0
    getattr(bench.filter, event)()
    bench.filter.on_close(CLOSED_BY_PEER)
    assert bench.plug.ending == "abort"
    assert bench.outcomes.reasons() == [reason]


@pytest.mark.parametrize("event", ["on_idle", "on_eof"])
def test_a_silent_connection_is_not_counted_as_refused(event: str) -> None:
    bench = Bench("AB", "CD")
    getattr(bench.filter, event)()
    bench.filter.on_close(CLOSED_BY_PEER)
    assert bench.plug.ending == "close"
    assert bench.outcomes.reasons() == []


def test_peer_that_leaves_before_the_protocol_is_known() -> None:
    bench = Bench("AB", "CD")
    bench.filter.on_data(b"A")
    bench.filter.on_close(CLOSED_BY_PEER)
    assert bench.outcomes.reasons() == ["protocol_unknown"]


def test_drain_before_the_protocol_is_known() -> None:
    bench = Bench("AB", "CD")
    bench.filter.on_drain()
    assert bench.plug.ending == ""
    bench.filter.on_data(b"AB")
    assert bench.protocols[0].made[0].events == ["open", "drain", b"AB"]


def test_one_protocol_needs_no_detection() -> None:
    bench = Bench("AB")
    bench.filter.on_data(b"anything")
    assert bench.protocols[0].made[0].events == ["open", b"anything"]


class OnlyRequest(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        return None


class OnlyEnd(StreamFilter):
    def on_complete(self, exchange: Exchange) -> None:
        return None


class Inherits(OnlyRequest):
    def on_response(self, exchange: Exchange) -> None:
        return None


def test_only_filters_that_care_are_asked() -> None:
    metrics = Metrics()
    named = [FilterHandle(kind.__name__, kind({}), metrics) for kind in (OnlyRequest, OnlyEnd, Inherits, StreamFilter)]
    chain = StreamFilters(named)
    assert [step.handle.name for step in chain.on_request] == ["OnlyRequest", "Inherits"]
    assert [step.handle.name for step in chain.on_response] == ["Inherits"]
    assert [entry.handle.name for entry in chain.on_complete] == ["OnlyEnd"]


def test_date_is_made_once_a_second() -> None:
    clock = FakeClock(wall_time=WALL)
    dates = HttpDates(clock)
    assert dates.line() == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    clock.wall_time += 1
    assert dates.line().endswith(b":37 GMT\r\n")
    clock.now += 1.0
    assert dates.line().endswith(b":38 GMT\r\n")


def test_responses_with_the_same_block_share_the_dated_one() -> None:
    clock = FakeClock(wall_time=WALL)
    dates = HttpDates(clock)
    first, second = HttpHeaders(b"a: 1\r\n", 0), HttpHeaders(b"a: 1\r\n", 0)
    first.add_date(dates)
    second.add_date(dates)
    assert wire_lines(first) is wire_lines(second)
    assert second.get("date") == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert dates.append_to(b"b: 2\r\n") == b"b: 2\r\n" + dates.line()
    clock.wall_time += 1
    clock.now += 1.0
    assert dates.append_to(b"b: 2\r\n").endswith(b":38 GMT\r\n")
    assert dates.append_to(b"") == dates.line()


def test_request_ids_look_like_uuids_and_differ() -> None:
    ids = RequestIds()
    made = [ids.next_line()[len(b"x-request-id: ") : -2] for _ in range(10000)]
    assert len(set(made)) == 10000
    for text in (made[0], made[4095], made[-1]):
        assert [len(part) for part in text.split(b"-")] == [8, 4, 4, 4, 12]
        assert text[14:15] == b"4"
        assert text[19:20] == b"a"
        int(text.replace(b"-", b""), 16)


@pytest.mark.parametrize(
    ("status", "method", "body", "length"),
    [
        (200, b"GET", b"hi", 2),
        (200, b"HEAD", b"hi", 2),  # the sender drops it
        (204, b"GET", b"", None),
        (205, b"GET", b"", 0),
        (304, b"GET", b"", None),
        (404, b"POST", b"hi", 2),
    ],
)
def test_local_reply(status: int, method: bytes, body: bytes, length: int | None) -> None:
    request = HttpRequest()
    request.raw_method = method
    head = request.local_reply(status, HttpHeaders(), b"hi")
    assert request.reply_body(HttpResponse(status), b"hi") == body
    assert head.headers.get("content-length") == (None if length is None else str(length))
    assert ("content-type" in head.headers) == (length is not None)


def test_own_content_type_is_kept() -> None:
    head = HttpRequest().local_reply(200, HttpHeaders(b"Content-Type: a/b\r\n"), b"hi")
    assert head.headers.get_all("content-type") == ["a/b"]


def test_failure_text_reveals_nothing_internal() -> None:
    assert HttpRequest().failure_body(NO_ROUTE) == b"404 Not Found\n"


def test_reply_of_a_filter() -> None:
    reply = Reply(200, "ü", {"A": "1"})
    assert reply.body == "ü".encode()
    assert Reply(200, b"x", [("A", "1"), ("a", "2")]).headers.get_all("a") == ["1", "2"]
    for status in (0, 101, 199, 600):
        with pytest.raises(ValueError, match="between 200 and 599"):
            Reply(status)
    with pytest.raises(HeaderError):
        Reply(200, "", {"Content-Length": "1"})


class Misspelt(StreamFilter):
    def on_requst(self, exchange: Exchange) -> None:
        pass


class TakesNothing(StreamFilter):
    def on_request(self) -> None:  # type: ignore[override]
        pass


class TakesNoEnd(StreamFilter):
    def on_response_body(self, exchange: Exchange, data: bytes) -> None:  # type: ignore[override]
        pass


class Helpers(StreamFilter):
    """Its own methods and attributes, and a method that passes all arguments on."""

    on_requests = 3

    def on_failure(self) -> None:
        pass

    def on_request(self, *arguments: object) -> None:
        pass


class WithoutUnderscore(StreamFilter):
    def onRequest(self, exchange: Exchange) -> None:  # noqa: N802
        pass


class Yields(StreamFilter):
    def on_request(self, exchange: Exchange) -> Any:
        yield Reply(200)


class YieldsLater(StreamFilter):
    async def on_response(self, exchange: Exchange) -> Any:  # type: ignore[override]
        yield Reply(200)


class ReopensLater(StreamFilter):
    async def on_reopen(self) -> None:  # type: ignore[override]
        pass


class ReopensWhat(StreamFilter):
    def on_reopen(self, file: str) -> None:  # type: ignore[override]
        pass


class Reopens(StreamFilter):
    def on_re_open(self) -> None:
        pass


class Skipps(StreamFilter):
    on_error = "skipp"


class InWords(StreamFilter):
    timeout = "2s"  # type: ignore[assignment]


class OneName(StreamFilter):
    protocols = "Http1"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (WithoutUnderscore, "unknown phase onRequest: did you mean on_request?"),
        (Yields, "on_request must not yield; a Reply may have a generator as its body"),
        (YieldsLater, "on_response must not yield; a Reply may have a generator as its body"),
        (Skipps, "on_error must be 'fail' or 'skip', not 'skipp'"),
        (InWords, "timeout must be a number of seconds, 0 for no limit, not '2s'"),
        (OneName, "protocols must be a tuple of names, such as (\"Http1\",), not 'Http1'"),
        (Misspelt, "unknown phase on_requst: did you mean on_request?"),
        (ReopensLater, "on_reopen must be a plain method, not async"),
        (ReopensWhat, "on_reopen is called with (): missing a required argument: 'file'"),
        (Reopens, "unknown phase on_re_open: did you mean on_reopen?"),
        (TakesNothing, "on_request is called with (exchange): too many positional arguments"),
        (TakesNoEnd, "on_response_body is called with (exchange, data, last): too many positional arguments"),
    ],
)
def test_methods_that_are_never_called(kind: type[StreamFilter], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        FilterHandle("f", kind({}), Metrics())
    assert str(caught.value) == said


def test_a_filters_own_methods_are_ignored() -> None:
    chain = StreamFilters([FilterHandle("f", Helpers({}), Metrics())])
    assert len(chain.on_request) == 1


@pytest.mark.skipif(build() != "compiled", reason="of the compiled object's layout")
def test_an_exchange_is_small_enough_for_pythons_own_allocator() -> None:
    collected = 16  # what the garbage collector puts in front
    assert ExchangeDriver.__basicsize__ + collected <= 512
