"""Hosts with several addresses: races on a fake clock with fake sockets, and dials to real ones that do not answer."""

from __future__ import annotations

import asyncio
import errno
import heapq
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvloop
from tests.kit import certificates

from pymosn.api.network import STOP, Connection, DialReceiver, DialRule, NetworkFilter, Peer, Transport, plain_peer
from pymosn.core.addresses import write_address
from pymosn.core.clock import Clock
from pymosn.core.failure import CLOSED_LOCALLY, LOOP, Failure
from pymosn.core.log import INFO, Log
from pymosn.core.timers import TimerWheel
from pymosn.network.dialer import TcpDialer
from pymosn.network.happy_eyeballs import GOOD_NAMES, GOOD_TIME, GoodAddresses, HostDial, Race, interleave
from pymosn.network.listener import ConnectionIds
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import ClientTls

DELAY = 0.25
REFUSED, NO_ROUTE, NO_DESCRIPTOR = errno.ECONNREFUSED, errno.ENETUNREACH, errno.EMFILE


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([], []),
        (["1.1.1.1"], ["1.1.1.1"]),
        (["::1", "1.1.1.1"], ["::1", "1.1.1.1"]),
        (["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"], ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]),
        (["1.1.1.1", "1.1.1.2", "::1"], ["1.1.1.1", "::1", "1.1.1.2"]),
        (["1.1.1.2", "1.1.1.1", "1.1.1.2"], ["1.1.1.2", "1.1.1.1"]),
    ],
)
def test_families_take_turns(found: list[str], order: list[str]) -> None:
    assert interleave(found) == order


def test_a_good_address_is_first_for_a_while() -> None:
    good = GoodAddresses()
    ips = ["::1", "1.1.1.1", "::2"]
    good.note("a:80", "::2", 5.0)
    assert good.order("a:80", ips, 5.0 + GOOD_TIME - 1) == ["::2", "::1", "1.1.1.1"]
    assert good.order("a:80", ["::1", "1.1.1.1"], 6.0) == ["::1", "1.1.1.1"], "the name has lost it"
    assert good.order("b:80", ips, 6.0) == ips
    assert good.order("a:80", ips, 5.0 + GOOD_TIME) == ips
    good.note("a:80", "::2", 5.0)
    good.forget("a:80")
    assert good.order("a:80", ips, 6.0) == ips
    for number in range(GOOD_NAMES + 1):
        good.note(f"{number}:80", "::2", 5.0)
    assert good.order("0:80", ips, 6.0) == ips, "the oldest one makes room"
    assert good.order("1:80", ips, 6.0)[0] == "::2"


# ---- races on a fake clock


class FakeTime(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when it has nothing else to do, and then at once."""

    def __init__(self) -> None:
        self.present = 0.0
        super().__init__()

    def time(self) -> float:
        return self.present

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.present = max(self.present, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class FakeSocket:
    def __init__(self, net: FakeNet, ip: str) -> None:
        self._net = net
        self._ip = ip

    def close(self) -> None:
        self._net.tell(f"close {self._ip}")


class FakeNet:
    """Addresses that answer after a time: None opens, a number is an error. Addresses that it does not know are silent."""

    def __init__(self, **answers: tuple[float, int | None]) -> None:
        self._answers = answers
        self.events: list[str] = []

    def tell(self, text: str) -> None:
        self.events.append(f"{asyncio.get_running_loop().time():g} {text}")

    async def connect(self, ip: str) -> Any:
        self.tell(f"try {ip}")
        sock = FakeSocket(self, ip)
        try:
            after, error = self._answers.get(ip, (3600.0, None))
            await asyncio.sleep(after)
            if error is not None:
                raise OSError(error, os.strerror(error))
        except BaseException:
            sock.close()
            raise
        self.tell(f"open {ip}")
        return sock

    def race(self, *ips: str, limit: float = 5.0, delay: float = DELAY) -> str:
        """The address that wins, or the text of the error, or what is known when the time is over."""

        async def run() -> str:
            race = Race(list(ips), delay, self.connect)
            try:
                async with asyncio.timeout(limit):
                    won, _ = await race.run()
                found = won if not race.account() else f"{won} ({race.account()})"
            except TimeoutError:
                found = f"late: {race.account()}"
            except OSError as error:
                found = str(error)
            for _ in range(5):
                await asyncio.sleep(0)
            return found

        with asyncio.Runner(loop_factory=FakeTime) as runner:
            return runner.run(run())


def test_the_second_address_is_tried_after_the_delay_and_the_loser_is_closed_at_once() -> None:
    net = FakeNet(b=(0.01, None))
    assert net.race("a", "b", "c") == "b (a: no answer; c: not tried)"
    assert net.events == ["0 try a", "0.25 try b", "0.26 open b", "0.26 close a"]


def test_the_next_address_is_tried_at_once_after_a_failure() -> None:
    net = FakeNet(a=(0.02, REFUSED), b=(0.0, NO_ROUTE), c=(0.1, None))
    assert net.race("a", "b", "c") == "c (a: Connection refused; b: Network is unreachable)"
    assert net.events == ["0 try a", "0.02 close a", "0.02 try b", "0.02 close b", "0.02 try c", "0.12 open c"]


def test_a_slow_first_address_may_still_win() -> None:
    net = FakeNet(a=(0.6, None), b=(0.5, None))
    assert net.race("a", "b", "c") == "a (b: no answer; c: no answer)"
    assert net.events == ["0 try a", "0.25 try b", "0.5 try c", "0.6 open a", "0.6 close b", "0.6 close c"]


def test_of_two_that_open_together_the_first_wins() -> None:
    net = FakeNet(a=(0.35, None), b=(0.1, None))
    assert net.race("a", "b") == "a (b: no answer)"
    assert sorted(net.events) == sorted(["0 try a", "0.25 try b", "0.35 open a", "0.35 open b", "0.35 close b"])


def test_the_delay_is_configurable() -> None:
    net = FakeNet(c=(0.0, None))
    assert net.race("a", "b", "c", delay=0.01).startswith("c")
    assert net.events[:3] == ["0 try a", "0.01 try b", "0.02 try c"]


def test_the_time_limit_bounds_the_whole_and_everything_is_closed() -> None:
    net = FakeNet(b=(0.1, REFUSED))
    assert net.race("a", "b", "c", "d", limit=0.5) == "late: a: no answer; b: Connection refused; c: no answer; d: not tried"
    assert net.events[-2:] == ["0.5 close a", "0.5 close c"]


@pytest.mark.parametrize(
    ("errors", "number"),
    [
        ((NO_ROUTE, REFUSED, NO_ROUTE), REFUSED),
        ((REFUSED, NO_DESCRIPTOR, NO_ROUTE), NO_DESCRIPTOR),
        ((NO_ROUTE, NO_ROUTE, errno.EHOSTUNREACH), errno.EHOSTUNREACH),
    ],
)
def test_a_failure_has_all_reasons_and_the_most_telling_number(errors: tuple[int, ...], number: int) -> None:
    net = FakeNet(**{name: (0.4, error) for name, error in zip("abc", errors, strict=True)})
    texts = "; ".join(f"{name}: {os.strerror(error)}" for name, error in zip("abc", errors, strict=True))
    assert net.race("a", "b", "c") == f"[Errno {number}] {texts}"
    assert [event for event in net.events if "try" in event] == ["0 try a", "0.25 try b", "0.4 try c"]


# ---- dials over real sockets


class Names(uvloop.Loop):
    """Resolves `name.test` to some addresses."""

    addresses: tuple[str, ...] = ()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if host != "name.test":
            return await super().getaddrinfo(host, port, **options)
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in self.addresses
        ]


class Answer(DialReceiver):
    def __init__(self) -> None:
        self.result: asyncio.Future[Connection | tuple[str, str]] = asyncio.get_running_loop().create_future()

    def on_dialed(self, connection: Connection) -> None:
        self.result.set_result(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self.result.set_result((failure.reason, detail))


class Ear(NetworkFilter):
    """Counts how often the connection opens and closes."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.closed = asyncio.Event()

    def on_connection(self, connection: Connection) -> None:
        self.events.append("open")

    def on_data(self, data: bytes) -> bool:
        return STOP

    def on_close(self, failure: Failure) -> None:
        self.events.append("close")
        self.closed.set()


class Lines(Log):
    def __init__(self) -> None:
        super().__init__()
        self.level = INFO
        self.lines: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(f"{alert}: {text}")


class Ground:
    """Addresses of loopback with one port: the first is a black hole, another one listens."""

    def __init__(self, stack: ExitStack) -> None:
        self.hole = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        self.port: int = self.hole.getsockname()[1]
        self.listening = stack.enter_context(socket.create_server(("127.0.0.3", self.port)))
        # Nobody accepts: when its backlog is full, the kernel ignores further clients.
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.2", self.port))
        self.log = Lines()
        self.clock = Clock()
        self.dialer = TcpDialer(ConnectionIds(), self.clock, TimerWheel(self.clock), None, self.log)

    async def dial(
        self, timeout: float = 10.0, delay: float = 0.05, bind: str = "", transport: Transport | None = None
    ) -> Connection | tuple[str, str]:
        name = f"name.test:{self.port}"
        plain = plain_peer(name).transport
        peer = Peer(name, transport=transport or plain, server_name="localhost", bind=bind, attempt_delay=delay)
        answer, ear = Answer(), Ear()
        self.clock.tick()
        self.dialer.dial(peer, timeout, ear, answer)
        found = await answer.result
        if isinstance(found, Connection):
            assert ear.events == ["open"]
            found.abort(CLOSED_LOCALLY)
            await ear.closed.wait()
            assert ear.events == ["open", "close"]
        else:
            assert ear.events == []
        return found


@contextmanager
def ground(*addresses: str) -> Iterator[tuple[Ground, Callable[[Any], Any]]]:
    """A ground, and how to run a coroutine on a loop for which the name has those addresses."""
    loop = Names()
    loop.addresses = addresses
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        yield Ground(stack), runner.run


def test_a_second_address_is_reached_when_the_first_is_a_black_hole_and_is_remembered() -> None:
    async def twice(place: Ground) -> None:
        for delay, timeout in ((0.1, 10.0), (2.0, 1.9)):  # the second dial has no time for the first address
            connection = await place.dial(delay=delay, timeout=timeout)
            assert isinstance(connection, Connection)
            assert (connection.remote_ip, connection.remote_port) == ("127.0.0.3", place.port)
        place.dialer._good.forget(f"name.test:{place.port}")
        assert isinstance(await place.dial(delay=2.0, timeout=0.3), tuple)

    with ground("127.0.0.2", "127.0.0.3") as (place, run):
        run(twice(place))
        line = f"mosn.upstream.addresses: name.test:{place.port}: connected to 127.0.0.3 (127.0.0.2: no answer)"
        assert place.log.lines[0] == line


def test_an_address_that_became_worse_than_the_first_loses_its_preference() -> None:
    async def twice(place: Ground) -> None:
        name = f"name.test:{place.port}"
        place.dialer._good.note(name, "127.0.0.2", place.clock.now)  # it has answered, but not any more
        assert isinstance(await place.dial(), Connection)
        ips = ["127.0.0.3", "127.0.0.2"]
        assert place.dialer._good.order(name, ips, place.clock.now) == ips

    with ground("127.0.0.3", "127.0.0.2") as (place, run):
        run(twice(place))


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1", "::1", "127.0.0.1"])
def test_an_address_keeps_its_zone_because_it_is_not_resolved(host: str) -> None:
    peer = plain_peer(write_address(host, 80))
    assert asyncio.run(HostDial(peer, GoodAddresses(), Clock()).find()) == [host]


def test_no_socket_of_a_loser_is_left() -> None:
    def sockets() -> int:
        found = 0
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the one of the listing
                found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        return found

    async def many(place: Ground) -> None:
        await place.dial()
        before = sockets()
        for _ in range(5):
            place.dialer._good.forget(f"name.test:{place.port}")
            assert isinstance(await place.dial(), Connection)
        for _ in range(5):
            await asyncio.sleep(0)
        assert sockets() == before

    with ground("127.0.0.2", "127.0.0.3") as (place, run):
        run(many(place))


@pytest.mark.parametrize(
    ("addresses", "reason", "detail"),
    [
        (
            ("127.0.0.2", "127.0.0.4"),
            "connect_timeout",
            "no connection within 0.5 s: 127.0.0.2: no answer; 127.0.0.4: Connection refused",
        ),
        (
            ("127.0.0.4", "127.0.0.5"),
            "connect_refused",
            "[Errno 111] 127.0.0.4: Connection refused; 127.0.0.5: Connection refused",
        ),
        (("127.0.0.4", "ff02::1%lo"), "connect_refused", "127.0.0.4: Connection refused; ff02::1%lo: "),
        (("127.0.0.2",), "connect_timeout", "no connection within 0.5 s"),
        ((), "connect_failed", "no address for 'name.test:"),
    ],
)
def test_a_failure_lists_what_has_become_of_each_address(addresses: tuple[str, ...], reason: str, detail: str) -> None:
    with ground(*addresses) as (place, run):
        found = run(place.dial(timeout=0.5))
        assert isinstance(found, tuple)
        assert found[0] == reason
        assert detail in found[1]
        if len(addresses) > 1:
            assert place.log.lines == [f"mosn.upstream.addresses: name.test:{place.port}: {reason} ({found[1]})"]


def test_a_rule_is_asked_about_every_address_before_it_is_dialed() -> None:
    class Own(DialRule):
        def fault(self, ip: str, port: int) -> Failure | None:
            return LOOP if ip == "127.0.0.3" else None

    async def dial(place: Ground) -> tuple[str, str]:
        answer = Answer()
        place.dialer.dial(plain_peer(f"name.test:{place.port}", Own()), 5.0, Ear(), answer)
        found = await answer.result
        assert isinstance(found, tuple)
        return found

    with ground("127.0.0.3", "127.0.0.4", "127.0.0.5") as (place, run):
        reason, detail = run(dial(place))
        assert reason == "connect_refused"
        assert "127.0.0.3" not in detail
        place.listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            place.listening.accept()


def test_a_bound_address_leaves_only_its_family() -> None:
    with ground("::1", "127.0.0.2", "127.0.0.3") as (place, run):
        connection = run(place.dial(bind="127.0.0.9"))
        assert isinstance(connection, Connection)
        assert connection.local_ip == "127.0.0.9"
        assert "::1" not in place.log.lines[0]


def test_a_tls_handshake_is_made_with_the_address_that_was_reached() -> None:
    async def dial(place: Ground) -> None:
        tls = ClientTls(ClientSettings(TlsSettings()), certificates.client_context())
        served: list[str] = []

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append("client")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(greet, sock=place.listening, ssl=certificates.server_context())
        connection = await place.dial(transport=tls)
        assert isinstance(connection, Connection)
        assert connection.remote_ip == "127.0.0.3"
        assert connection.tls is not None
        assert tls.stats.handshakes.value == 1
        server.close()

    with ground("127.0.0.2", "127.0.0.3") as (place, run):
        run(dial(place))


def test_an_address_whose_handshake_fails_is_forgotten() -> None:
    async def dial(place: Ground) -> None:
        name = f"name.test:{place.port}"
        assert isinstance(await place.dial(), Connection)
        ips = ["127.0.0.2", "127.0.0.3"]
        assert place.dialer._good.order(name, ips, place.clock.now)[0] == "127.0.0.3"
        tls = ClientTls(ClientSettings(TlsSettings()), certificates.client_context())
        found = await place.dial(timeout=0.5, transport=tls)
        assert isinstance(found, tuple)
        assert found[0] == "tls_handshake_timeout"
        assert place.dialer._good.order(name, ips, place.clock.now) == ips

    with ground("127.0.0.2", "127.0.0.3") as (place, run):
        run(dial(place))


def test_a_literal_address_is_neither_resolved_nor_raced() -> None:
    class Unasked(uvloop.Loop):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("nothing is to be resolved")

        async def sock_connect(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the event loop is to connect")

    async def dial() -> str:
        with socket.create_server(("127.0.0.1", 0)) as server:
            clock = Clock()
            answer, ear = Answer(), Ear()
            dialer = TcpDialer(ConnectionIds(), clock, TimerWheel(clock))
            dialer.dial(plain_peer(f"127.0.0.1:{server.getsockname()[1]}"), 5.0, ear, answer)
            connection = await answer.result
            assert isinstance(connection, Connection)
            connection.abort(CLOSED_LOCALLY)
            await ear.closed.wait()
            return connection.remote_ip

    with asyncio.Runner(loop_factory=Unasked) as runner:
        assert runner.run(dial()) == "127.0.0.1"
