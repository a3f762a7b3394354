"""gRPC exchanges without connections: deadlines, retries by the status of the call, and what counts against hosts."""

import asyncio
from collections.abc import Mapping

import pytest
from exchange_ends import Client, Protocol, Sender
from tests.kit.options import proxy_options

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.exchange import AccessLog
from pymosn.api.grpc import GrpcRequest
from pymosn.api.http import HttpResponse
from pymosn.api.network import Dialer
from pymosn.api.routing import Route, RouteAction
from pymosn.api.stream import ResponseReceiver, StreamProtocol
from pymosn.core.counters import Metrics
from pymosn.core.failure import CLIENT_GONE, CONNECT_REFUSED, RATE_LIMITED, RESET_AFTER_RESPONSE, RESET_BEFORE_RESPONSE
from pymosn.core.headers import headers_from
from pymosn.core.log import Log
from pymosn.core.message import UNKNOWN_LENGTH
from pymosn.core.registry import Registry
from pymosn.core.timers import TimerWheel
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.routing.actions import DirectResponse, Forward, ForwardOptions, Redirect, RetryPolicy
from pymosn.routing.matchers import AnyRequest
from pymosn.routing.retries import conditions_of
from pymosn.routing.table import RouteTable, TableSlot, VirtualHost
from pymosn.testing.fakes import PROTOCOL, FakeClock, rounds
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan

MESSAGE = b"\0\0\0\0\2hi"


class Ends(AccessLog):
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.statuses: list[int] = []

    def log(self, exchange: Exchange) -> None:
        self.reasons.append("" if exchange.failure is None else exchange.failure.reason)
        self.statuses.append(exchange.call_status)


class Scene:
    """One gRPC exchange on a listener with one route; the test has its upstream streams."""

    def __init__(self, action: RouteAction | None = None, filters: list[StreamFilter] | None = None) -> None:
        self.waiting: list[ResponseReceiver] = []
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.ends = Ends()
        protocols: Registry[StreamProtocol] = Registry("protocol")
        protocols.add(PROTOCOL, Protocol(self.waiting))
        kind = balancers().get("LB_ROUNDROBIN")
        assert kind is not None
        plan = ClusterPlan("service", (HostPlan("a:80"), HostPlan("b:80"), HostPlan("c:80")))
        self.cluster = Cluster(plan, kind, PoolMaker(protocols, Dialer(), self.wheel), self.metrics, None)
        clusters = Clusters()
        clusters.activate({"service": self.cluster})
        slot = TableSlot("table")
        slot.table = RouteTable("table")
        slot.table.add(VirtualHost("v", ["*"], [Route("r", AnyRequest(), action or Forward("service", 60.0))]))
        handles = [FilterHandle(type(entry).__name__, entry, self.metrics) for entry in filters or []]
        options = proxy_options(slot=slot, filters=StreamFilters(handles), access_logs=[self.ends])
        runtime = Runtime(self.clock, self.wheel, self.metrics, Log(), protocols, clusters)
        self.client = Client()
        self.driver = ExchangeDriver(runtime, options, self.client, PROTOCOL)
        self.sender = Sender()
        self.receiver: ResponseReceiver | None = None

    def call(self, timeout: bytes = b"", end: bool = True) -> None:
        """The client calls `/pkg.Echo/Say`."""
        head = GrpcRequest()
        head.raw_method, head.raw_path, head.raw_host = b"POST", b"/pkg.Echo/Say", b"a"
        head.content_length = UNKNOWN_LENGTH
        if timeout:
            head.headers.set("grpc-timeout", timeout.decode())
            head.adopt_timeout(timeout)
        self.driver.on_request(head, MESSAGE, end)

    def give_stream(self) -> ResponseReceiver:
        """The attempt gets its stream."""
        self.sender = Sender()
        receiver = self.receiver = self.waiting.pop()
        receiver.on_sender(self.sender)
        return receiver

    def answer_only(self, status: int) -> None:
        """The host answers with trailers only."""
        assert self.receiver is not None
        self.receiver.on_response(HttpResponse(200, b"", headers_from({"grpc-status": str(status)})), b"", True)

    def answer_head(self) -> None:
        assert self.receiver is not None
        self.receiver.on_response(HttpResponse(200), b"", False)

    def answer_trailers(self, status: int) -> None:
        assert self.receiver is not None
        self.receiver.on_trailers(headers_from({"grpc-status": str(status)}))

    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()

    def host_counts(self) -> Mapping[str, int]:
        found = {"response_success": 0, "response_failed": 0}
        for host in self.cluster.hosts:
            for key in found:
                found[key] += int(getattr(host.stats, key).value)
        return found


def retrying(*names: str, retries: int = 2, per_try: float = 0.0) -> Forward:
    policy = RetryPolicy(True, retries, per_try, conditions=conditions_of(list(names), frozenset()))
    return Forward("service", 60.0, ForwardOptions(retry_policy=policy))


def status_of(scene: Scene) -> str | None:
    """The gRPC status that the client got."""
    assert scene.client.head is not None
    if scene.client.trailers is not None:
        return scene.client.trailers.get("grpc-status")
    return scene.client.head.headers.get("grpc-status")


# ---- local replies


def test_a_failure_is_trailers_only() -> None:
    scene = Scene(Forward("unknown", 60.0))
    scene.call()
    assert scene.client.head is not None
    assert (scene.client.head.status, status_of(scene), scene.client.chunks) == (200, "12", [])
    assert scene.client.has_ended
    assert (scene.ends.reasons, scene.ends.statuses) == (["cluster_unknown"], [12])


@pytest.mark.parametrize(("action", "status"), [(DirectResponse(503, "later"), "14"), (Redirect(302, "", "b", ""), "2")])
def test_routes_that_answer(action: RouteAction, status: str) -> None:
    scene = Scene(action)
    scene.call()
    assert status_of(scene) == status
    assert scene.client.chunks == []


class Answers(StreamFilter):
    def __init__(self, reply: Reply, limits: bool = False) -> None:
        super().__init__({})
        self._reply = reply
        self._limits = limits

    def on_request(self, exchange: Exchange) -> Reply:
        if self._limits:
            exchange.failure = RATE_LIMITED
        return self._reply


def test_a_filter_that_records_a_failure_means_its_status() -> None:
    for limits, status in ((True, "8"), (False, "14")):
        scene = Scene(filters=[Answers(Reply(429, "slow down"), limits)])
        scene.call()
        assert status_of(scene) == status
        assert scene.client.head is not None
        assert scene.client.head.headers.get("grpc-message") == "slow down"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_filter_may_reply_with_messages(is_streamed: bool) -> None:
    async def check() -> None:
        body: bytes | list[bytes] = [MESSAGE, MESSAGE] if is_streamed else MESSAGE + MESSAGE
        fields = {"content-type": "application/grpc", "grpc-status": "0"}
        scene = Scene(filters=[Answers(Reply(200, body, fields))])
        scene.call()
        await rounds()
        assert b"".join(scene.client.chunks) == MESSAGE + MESSAGE
        assert scene.client.has_ended
        assert scene.client.trailers is not None
        assert scene.client.trailers.items() == [("grpc-status", "0")]
        assert scene.ends.statuses == [0]

    asyncio.run(check())


def test_trailers_that_a_filter_takes_away_still_have_the_status() -> None:
    class Takes(StreamFilter):
        def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
            if last:
                exchange.response_head.trailers = None
            return data

    scene = Scene(filters=[Takes({})])
    scene.call()
    receiver = scene.give_stream()
    scene.answer_head()
    receiver.on_data(MESSAGE, False)
    scene.answer_trailers(5)
    assert (scene.client.trailers, scene.ends.statuses) == (None, [5])


# ---- deadlines


def test_a_deadline_ends_the_wait_for_the_head() -> None:
    scene = Scene()
    scene.call(b"2S")
    scene.give_stream()
    scene.advance(1.9)
    assert scene.client.head is None
    scene.advance(0.2)
    assert (status_of(scene), scene.sender.is_cancelled) == ("4", True)
    assert scene.ends.reasons == ["deadline_exceeded"]
    assert scene.host_counts() == {"response_success": 0, "response_failed": 1}


def test_a_deadline_ends_a_response_that_has_begun() -> None:
    scene = Scene()
    scene.call(b"2S")
    receiver = scene.give_stream()
    scene.answer_head()
    for _ in range(3):
        scene.advance(0.5)
        receiver.on_data(MESSAGE, False)
    assert not scene.client.was_reset
    scene.advance(0.6)
    assert (scene.client.was_reset, scene.sender.is_cancelled) == (True, True)
    assert (scene.ends.reasons, scene.ends.statuses) == (["deadline_exceeded"], [4])


def test_a_deadline_ends_a_request_that_never_ends() -> None:
    scene = Scene()
    scene.call(b"2S", end=False)
    scene.give_stream()
    scene.advance(2.1)
    assert (status_of(scene), scene.ends.reasons) == ("4", ["deadline_exceeded"])


def test_a_deadline_also_counts_while_filters_wait() -> None:
    class Waits(StreamFilter):
        async def on_request(self, exchange: Exchange) -> None:
            await asyncio.get_running_loop().create_future()

    async def check() -> None:
        scene = Scene(filters=[Waits({})])
        scene.call(b"2S")
        await rounds()
        scene.advance(2.1)
        assert status_of(scene) == "4"

    asyncio.run(check())


def test_a_deadline_of_now_has_expired() -> None:
    scene = Scene()
    scene.call(b"0n")
    scene.advance(0.01)
    assert status_of(scene) == "4"


def test_without_a_deadline_a_stream_may_last() -> None:
    scene = Scene()
    scene.call(end=False)
    receiver = scene.give_stream()
    scene.answer_head()
    for _ in range(10):
        scene.advance(200.0)
        receiver.on_data(MESSAGE, False)
        scene.driver.on_data(MESSAGE, False)
    assert scene.ends.reasons == []
    scene.advance(301.0)
    assert (scene.client.was_reset, scene.ends.reasons) == (True, ["stream_idle_timeout"])


def test_the_next_host_learns_what_is_left() -> None:
    scene = Scene(retrying("unavailable"))
    scene.call(b"10S")
    scene.give_stream()
    assert scene.sender.head is not None
    assert scene.sender.head.headers.get("grpc-timeout") == "10S"
    scene.advance(4.0)
    scene.answer_only(14)
    scene.give_stream()
    assert scene.sender.head is not None
    assert scene.sender.head.headers.get("grpc-timeout") == "6000001u"
    assert scene.sender.sent == [MESSAGE]


# ---- retries


def test_trailers_only_may_be_retried() -> None:
    scene = Scene(retrying("unavailable"))
    scene.call()
    scene.give_stream()
    scene.answer_only(14)
    assert scene.client.head is None
    scene.give_stream()
    scene.answer_only(0)
    assert (status_of(scene), scene.driver.exchange.attempts) == ("0", 2)


def test_trailers_right_after_the_head_may_be_retried() -> None:
    scene = Scene(retrying("unavailable"))
    scene.call()
    scene.give_stream()
    scene.answer_head()
    assert scene.client.head is None
    scene.answer_trailers(14)
    receiver = scene.give_stream()
    scene.answer_head()
    receiver.on_data(MESSAGE, False)
    scene.answer_trailers(0)
    assert (status_of(scene), scene.client.chunks) == ("0", [MESSAGE])


def test_nothing_is_retried_after_the_first_message() -> None:
    scene = Scene(retrying("unavailable"))
    scene.call()
    receiver = scene.give_stream()
    scene.answer_head()
    receiver.on_data(MESSAGE, False)
    assert scene.client.chunks == [MESSAGE]
    scene.answer_trailers(14)
    assert (status_of(scene), scene.waiting) == ("14", [])


@pytest.mark.parametrize("status", [0, 3, 5, 13])
def test_other_statuses_are_passed_on(status: int) -> None:
    scene = Scene(retrying("unavailable", "resource-exhausted"))
    scene.call()
    scene.give_stream()
    scene.answer_head()
    scene.answer_trailers(status)
    assert (status_of(scene), scene.waiting, scene.ends.statuses) == (str(status), [], [status])


def test_the_last_answer_is_passed_on() -> None:
    scene = Scene(retrying("unavailable", retries=1))
    scene.call()
    for _ in range(2):
        scene.give_stream()
        scene.answer_head()
        scene.answer_trailers(14)
    assert (status_of(scene), scene.driver.exchange.attempts) == ("14", 2)
    assert scene.client.trailers is not None


def test_a_head_is_held_only_where_a_retry_is_possible() -> None:
    for action, end in ((Forward("service", 60.0), True), (retrying("unavailable"), False)):
        scene = Scene(action)
        scene.call(end=end)
        scene.give_stream()
        scene.answer_head()
        assert scene.client.head is not None


def test_a_response_of_http_counts_as_the_status_that_clients_make_of_it() -> None:
    for http, attempts in ((503, 2), (404, 1)):
        scene = Scene(retrying("unavailable"))
        scene.call()
        receiver = scene.give_stream()
        receiver.on_response(HttpResponse(http), b"", False)
        assert scene.driver.exchange.attempts == attempts


def test_a_held_head_is_sent_before_the_route_gives_up() -> None:
    scene = Scene(retrying("unavailable"))
    scene.call()
    receiver = scene.give_stream()
    scene.answer_head()
    scene.advance(61.0)
    assert scene.client.head is not None
    assert scene.ends.reasons == []
    receiver.on_data(MESSAGE, False)
    assert scene.client.chunks == [MESSAGE]


@pytest.mark.parametrize("has_head", [False, True])
def test_a_reset_counts_as_unavailable(has_head: bool) -> None:
    scene = Scene(retrying("unavailable"))
    scene.call()
    receiver = scene.give_stream()
    if has_head:
        scene.answer_head()
    receiver.on_reset(RESET_AFTER_RESPONSE if has_head else RESET_BEFORE_RESPONSE)
    scene.give_stream()
    scene.answer_only(0)
    assert status_of(scene) == "0"


def test_a_reset_is_not_repeated_without_the_condition() -> None:
    scene = Scene(retrying("internal"))
    scene.call()
    scene.give_stream().on_reset(RESET_BEFORE_RESPONSE)
    assert (status_of(scene), scene.ends.reasons) == ("14", ["reset_before_response"])


def test_a_connection_that_failed_is_always_replaced() -> None:
    scene = Scene(retrying("internal"))
    scene.call()
    scene.waiting.pop().on_no_sender(CONNECT_REFUSED)
    scene.give_stream()
    scene.answer_only(0)
    assert status_of(scene) == "0"


def test_a_timeout_of_an_attempt_counts_as_deadline_exceeded() -> None:
    for name, attempts in (("deadline-exceeded", 2), ("unavailable", 1)):
        scene = Scene(retrying(name, per_try=1.0))
        scene.call()
        scene.give_stream()
        scene.advance(1.1)
        assert scene.driver.exchange.attempts == attempts


def test_a_client_that_leaves_cancels() -> None:
    scene = Scene(retrying("cancelled"))
    scene.call()
    scene.give_stream()
    scene.answer_head()
    scene.driver.on_reset(CLIENT_GONE)
    assert (scene.sender.is_cancelled, scene.ends.statuses) == (True, [1])


# ---- hosts


@pytest.mark.parametrize("trailers_only", [False, True])
@pytest.mark.parametrize(("status", "failed"), [(0, 0), (5, 0), (14, 1), (13, 1), (2, 1), (12, 1)])
def test_the_status_of_the_call_is_the_outcome_of_the_host(status: int, failed: int, trailers_only: bool) -> None:
    scene = Scene()
    scene.call()
    scene.give_stream()
    if trailers_only:
        scene.answer_only(status)
    else:
        scene.answer_head()
        scene.answer_trailers(status)
    assert scene.host_counts() == {"response_success": 1 - failed, "response_failed": failed}
