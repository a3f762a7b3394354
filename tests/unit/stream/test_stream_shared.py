"""The pool of shared connections with a made-up protocol: what every multiplexed protocol gets from it."""

import pytest
from tests.kit.pools import Caller, HandDialer, Plug, Target

from pymosn.api.stream import RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.failure import CONNECT_REFUSED, Failure
from pymosn.stream.ages import vary
from pymosn.stream.shared import SharedConnection, SharedPool


class Stream(RequestSender):
    def __init__(self, shared: "Shared") -> None:
        self.shared = shared

    def finish(self) -> None:
        self.shared.streams.remove(self)
        self.shared.close_if_done()


class Shared(SharedConnection):
    """Like HTTP/2: the peer says how many streams it allows."""

    def __init__(self, owner: "Pool") -> None:
        super().__init__(owner)
        self.streams: list[Stream] = []
        self.allowed = 100
        self.probes = 0
        self.broken = ""

    def load(self) -> int:
        return len(self.streams)

    def room(self) -> bool:
        return len(self.streams) < self.allowed and super().room()

    def open_stream(self, receiver: ResponseReceiver) -> RequestSender:
        self.served += 1
        self.streams.append(Stream(self))
        return self.streams[-1]

    def allow(self, count: int) -> None:
        self.allowed = count
        self._pool.on_room()

    def probe(self) -> None:
        self.probes += 1

    def break_off(self, failure: Failure) -> None:
        self.broken = failure.reason
        self._pool.forget(self)


class Pool(SharedPool):
    def new_connection(self) -> SharedConnection:
        return Shared(self)


class Bench:
    def __init__(self, connections: int = 0, heartbeats: bool = True) -> None:
        self.clock = Clock()
        self.clock.now = 100.0
        self.target = Target()
        self.target.max_connections = connections
        self.target.idle_timeout = 60.0
        self.dialer = HandDialer()
        self.pool = Pool(self.target, self.dialer, self.clock, heartbeats)

    def call(self) -> Caller:
        caller = Caller()
        self.pool.acquire(caller, False)
        return caller

    def connect(self) -> tuple[Plug, Shared]:
        plug, network_filter = self.dialer.answer()
        assert isinstance(network_filter, Shared)
        return plug, network_filter


def stream_of(caller: Caller) -> Stream:
    assert isinstance(caller.sender, Stream)
    return caller.sender


def test_all_share_one_connection_and_wait_for_it() -> None:
    bench = Bench()
    callers = [bench.call() for _ in range(3)]
    assert len(bench.dialer.dials) == 1
    _, shared = bench.connect()
    assert [stream_of(caller).shared for caller in callers] == [shared] * 3
    assert bench.target.open == 1


def test_the_least_loaded_connection_gets_the_request() -> None:
    bench = Bench(connections=2)
    first = bench.call()
    bench.connect()
    second = bench.call()  # the only one is busy, so another one is dialed for those to come
    third = bench.call()
    _, other = bench.connect()
    assert stream_of(first).shared is stream_of(second).shared is stream_of(third).shared
    assert stream_of(bench.call()).shared is other
    assert stream_of(bench.call()).shared is other
    assert stream_of(bench.call()).shared is other
    stream_of(first).finish()
    assert stream_of(bench.call()).shared is stream_of(second).shared
    assert bench.dialer.dials == []


def test_requests_wait_while_no_connection_has_room() -> None:
    bench = Bench()
    bench.call()
    _, shared = bench.connect()
    shared.allowed = 1
    waiting, leaving = bench.call(), bench.call()
    assert waiting.sender is None
    bench.pool.withdraw(leaving)
    shared.allow(3)
    assert stream_of(waiting).shared is shared
    assert leaving.sender is None
    shared.on_writable(False)
    blocked = bench.call()
    assert blocked.sender is None
    shared.on_writable(True)
    assert stream_of(blocked).shared is shared


def test_a_retired_connection_finishes_and_another_replaces_it() -> None:
    bench = Bench()
    caller = bench.call()
    plug, shared = bench.connect()
    shared.retire()
    assert (plug.ending, bench.target.open) == ("", 0), "its permit is free at once"
    late = bench.call()
    _, replacement = bench.connect()
    assert stream_of(late).shared is replacement
    stream_of(caller).finish()
    assert plug.ending == "close"
    shared.retire()
    assert bench.target.open == 1, "given back once"


def test_a_maximum_of_requests_per_connection() -> None:
    bench = Bench()
    bench.target.max_requests_per_connection = 2
    bench.call()
    _, shared = bench.connect()
    assert not shared.is_retired
    bench.call()
    assert shared.is_retired
    assert bench.target.open == 0


def test_a_dial_that_fails_fails_all_that_wait() -> None:
    bench = Bench()
    callers = [bench.call(), bench.call()]
    bench.dialer.dials.pop()[1].on_dial_failed(CONNECT_REFUSED, "")
    assert [caller.events for caller in callers] == [["connect_refused"]] * 2
    assert (bench.target.open, bench.target.failed) == (0, 1)


def test_silence_is_probed_and_any_byte_is_an_answer() -> None:
    bench = Bench()
    bench.target.heartbeat_failures = 2
    caller = bench.call()
    plug, shared = bench.connect()
    assert plug.idle == 15.0
    for failed in (0, 1):
        shared.on_idle()
        assert (shared.probes, plug.idle) == (failed + 1, 1.0)
        shared.on_idle()
        if failed == 0:
            assert (shared.broken, plug.idle) == ("", 15.0)
    assert shared.broken == "reset_before_response"
    answered = Bench()
    answered.call()
    plug, shared = answered.connect()
    shared.on_idle()
    shared.on_activity()
    assert (shared.is_probed, plug.idle) == (False, 15.0)
    assert caller.sender is not None


@pytest.mark.parametrize("heartbeats", [True, False])
def test_an_idle_connection_is_closed(heartbeats: bool) -> None:
    bench = Bench(heartbeats=heartbeats)
    caller = bench.call()
    plug, shared = bench.connect()
    assert plug.idle == (15.0 if heartbeats else 60.0)
    bench.clock.now += 60.0
    shared.on_idle()
    assert (plug.ending, shared.probes) == ("", int(heartbeats)), "in use"
    stream_of(caller).finish()
    shared.on_idle()
    assert plug.ending == "close"
    assert bench.target.open == 0


def test_a_closed_pool_retires_its_connections() -> None:
    bench = Bench(connections=2)
    caller = bench.call()
    busy, _ = bench.connect()
    bench.call()
    bench.pool.close()
    late, _ = bench.connect()
    assert (busy.ending, late.ending) == ("", "close")
    assert bench.target.open == 0
    assert caller.sender is not None


def test_an_old_connection_serves_until_its_successor_is_open() -> None:
    bench = Bench()
    bench.target.max_connections = 2
    bench.target.max_connection_age = 100.0
    first = bench.call()
    plug, shared = bench.connect()
    bench.clock.now += 111.0
    second = bench.call()
    assert stream_of(second).shared is shared
    assert len(bench.dialer.dials) == 1
    assert stream_of(bench.call()).shared is shared
    assert len(bench.dialer.dials) == 1, "one successor is enough"
    _, successor = bench.connect()
    assert stream_of(bench.call()).shared is successor
    assert plug.ending == ""
    for stream in list(shared.streams):
        stream.finish()
    assert plug.ending == "close"
    assert first.events == []


def test_an_old_connection_makes_room_where_only_one_is_allowed() -> None:
    bench = Bench()
    bench.target.max_connection_age = 100.0
    bench.call()
    plug, shared = bench.connect()
    bench.clock.now += 111.0
    waiting = bench.call()
    assert waiting.sender is None
    _, successor = bench.connect()
    assert stream_of(waiting).shared is successor
    shared.streams[0].finish()
    assert plug.ending == "close"


def test_an_old_connection_goes_on_if_no_other_can_be_opened() -> None:
    bench = Bench()
    bench.target.max_connections = 2
    bench.target.max_connection_age = 100.0
    bench.call()
    _, shared = bench.connect()
    bench.clock.now += 111.0
    bench.call()
    bench.dialer.refuse(CONNECT_REFUSED)
    assert stream_of(bench.call()).shared is shared


def test_ages_vary_by_a_tenth() -> None:
    ages = {vary(100.0) for _ in range(200)}
    assert len(ages) > 100
    assert min(ages) >= 90.0
    assert max(ages) <= 110.0


def test_a_connection_that_another_pool_has_opened() -> None:
    bench = Bench()
    plug = Plug()
    bench.target.open = 1
    bench.pool.adopt(plug, b"")
    [shared] = plug.filters
    assert stream_of(bench.call()).shared is shared
    assert bench.dialer.dials == []
