"""The pool of upstream connections: what conversations cannot show."""

from tests.kit.pools import Caller, HandDialer, Plug, Target

from pymosn.api.http import HttpRequest
from pymosn.api.network import NetworkFilter
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import RequestHead
from pymosn.stream.http1.client import MAX_IDLE, Http1Client, Http1Pool
from pymosn.stream.registry import protocols


def get() -> RequestHead:
    head = HttpRequest()
    head.raw_method, head.raw_path = b"GET", b"/"
    return head


class Bench:
    def __init__(self, limit: int = 0) -> None:
        self.target = Target(limit)
        self.dialer = HandDialer()
        self.pool = Http1Pool(self.target, self.dialer)

    def call(self, fresh: bool = False) -> Caller:
        caller = Caller()
        self.pool.acquire(caller, fresh)
        return caller

    def use(self) -> tuple[Caller, Plug, NetworkFilter]:
        caller = self.call()
        plug, network_filter = self.dialer.answer()
        assert caller.sender is not None
        caller.sender.send_request(get(), b"", True)
        return caller, plug, network_filter


REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_last_used_first() -> None:
    bench = Bench()
    used = [bench.use() for _ in range(3)]
    for _, plug, network_filter in used:
        network_filter.on_data(REPLY)
        assert plug.idle == 30.0
    caller = bench.call()
    assert caller.sender is not None
    assert caller.sender.connection() is used[-1][1]
    assert caller.sender.is_reused()
    assert used[-1][1].idle == 0.0


def test_fresh_replaces_the_oldest_idle_connection() -> None:
    bench = Bench(limit=2)
    used = [bench.use(), bench.use()]
    for _, _, network_filter in used:
        network_filter.on_data(REPLY)
    caller = bench.call(fresh=True)
    assert used[0][1].ending == "close"
    assert used[1][1].ending == ""
    bench.dialer.answer()
    assert caller.sender is not None
    assert not caller.sender.is_reused()
    assert bench.target.open == 2


def test_idle_connections_are_bounded() -> None:
    bench = Bench()
    used = [bench.use() for _ in range(int(MAX_IDLE) + 1)]
    for _, _, network_filter in used:
        network_filter.on_data(REPLY)
    assert [plug.ending for _, plug, _ in used].count("close") == 1
    assert bench.target.open == MAX_IDLE


def test_a_connection_is_released_exactly_once() -> None:
    bench = Bench(limit=1)
    caller, _, network_filter = bench.use()
    assert bench.call().events == ["overflow"]
    assert caller.sender is not None
    caller.sender.cancel()
    assert bench.target.open == 0, "at once, not when the socket is gone"
    second = bench.call()
    network_filter.on_close(CONNECT_REFUSED)
    assert bench.target.open == 1
    bench.dialer.answer()
    assert second.sender is not None


def test_withdrawn_dial_serves_the_next_caller() -> None:
    bench = Bench()
    first = bench.call()
    bench.pool.withdraw(first)
    plug, _ = bench.dialer.answer()
    assert first.sender is None
    second = bench.call()
    assert second.sender is not None
    assert second.sender.connection() is plug
    assert not second.sender.is_reused()


def test_dial_that_fails() -> None:
    bench = Bench()
    first, second = bench.call(), bench.call()
    bench.pool.withdraw(second)
    for _, receiver in bench.dialer.dials:
        receiver.on_dial_failed(CONNECT_REFUSED, "")
    assert first.events == ["connect_refused"]
    assert second.events == []
    assert bench.target.open == 0
    assert bench.target.failed == 2


def test_a_closed_pool_closes_released_connections() -> None:
    bench = Bench()
    _, busy_plug, busy = bench.use()
    _, idle_plug, idle = bench.use()
    withdrawn = bench.call()
    bench.pool.withdraw(withdrawn)
    idle.on_data(REPLY)
    bench.pool.close()
    assert (busy_plug.ending, idle_plug.ending) == ("", "close")
    late_plug, _ = bench.dialer.answer()
    assert late_plug.ending == "close"
    busy.on_data(REPLY)
    assert busy_plug.ending == "close"
    assert bench.target.open == 0


def test_pauses_end_with_the_stream() -> None:
    bench = Bench()
    caller, plug, network_filter = bench.use()
    assert caller.sender is not None
    caller.sender.resume()
    caller.sender.pause()
    caller.sender.pause()
    network_filter.on_data(REPLY)
    assert plug.pauses == 0
    caller.sender.pause()
    caller.sender.resume()
    assert plug.pauses == 0


def test_sender_that_is_over_sends_nothing() -> None:
    bench = Bench()
    caller, plug, network_filter = bench.use()
    network_filter.on_data(REPLY)
    sent = plug.sent
    assert caller.sender is not None
    caller.sender.send_request(get(), b"x", True)
    caller.sender.send_data(b"x", True)
    caller.sender.send_trailers(HttpHeaders(b"a: b\r\n"))
    caller.sender.cancel()
    assert plug.sent == sent
    assert plug.ending == ""


def test_chunks_and_trailers() -> None:
    bench = Bench()
    caller, _, network_filter = bench.use()
    network_filter.on_data(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na")
    network_filter.on_data(b"\r\n1\r\nb\r\n0\r\nX-T: 1\r\n\r\n")
    assert caller.events == [100, (200, b"a", False), (b"b", False), [("x-t", "1")]]


def test_back_pressure_is_passed_on() -> None:
    bench = Bench()
    caller, _, network_filter = bench.use()
    network_filter.on_writable(False)
    network_filter.on_writable(True)
    network_filter.on_data(REPLY)
    network_filter.on_writable(False)
    assert caller.events == [False, True, (200, b"", True)]


def test_protocols_by_name() -> None:
    known = protocols()
    assert known.names() == ["Http1", "Http2", "bolt", "boltv2", "dubbo", "dubbo-thrift", "tars"]
    spoken = known.get("Http1")
    assert spoken is not None
    assert spoken.spec.alpn == "http/1.1"
    assert not spoken.spec.multiplexed


def test_an_old_connection_is_not_kept() -> None:
    bench = Bench()
    bench.target.max_connection_age = 100.0
    caller, plug, network_filter = bench.use()
    assert isinstance(network_filter, Http1Client)
    plug.time = 89.0
    bench.pool.put_back(network_filter)
    assert plug.ending == ""
    plug.time = 111.0
    bench.pool.put_back(network_filter)
    assert plug.ending == "close"
    assert caller.events == []


def test_a_connection_that_another_pool_has_opened() -> None:
    bench = Bench()
    bench.target.open = 2
    plug, early = Plug(), Plug()
    bench.pool.adopt(plug, b"")
    bench.pool.adopt(early, b"HTTP/1.1 200 OK")
    assert (early.ending, bench.target.open) == ("abort", 1), "nothing has been asked for"
    caller = bench.call()
    assert caller.sender is not None
    assert caller.sender.connection() is plug
