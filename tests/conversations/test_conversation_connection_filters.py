"""Connection filters: before `proxy` and `tcp_proxy`, alone, waiting, holding and changing bytes, and failing."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from tests.kit import GET, Start, Talk
from tests.kit.hostile_errors import KINDS, make

from pymosn.api import CONTINUE, STOP, ConnectionFilter, FilteredConnection, SharedState
from pymosn.api.tls import TlsInfo
from pymosn.core.failure import ACCESS_DENIED, Failure

OK = b"HTTP/1.1 200 Fine\r\nDate: today\r\nContent-Length: 2\r\n\r\nhi"


class Memory(SharedState):
    """What a test needs of its filter."""

    seen: Any = None
    waiting: Any = None


class Passes(ConnectionFilter):
    """Overrides everything, and changes nothing."""

    def on_connection(self, connection: FilteredConnection) -> None:
        assert connection is self.connection

    def on_data(self, data: bytes) -> bool:
        return CONTINUE

    def on_write(self, data: bytes) -> bytes:
        return data


class Upper(ConnectionFilter):
    """Changes what is written."""

    def on_write(self, data: bytes) -> bytes:
        return data.upper()


class Lower(ConnectionFilter):
    """Changes what is read."""

    def on_data(self, data: bytes) -> bytes:
        return data.lower()


class Denies(ConnectionFilter):
    def on_connection(self, connection: FilteredConnection) -> None:
        if connection.remote_ip == "192.0.2.66":
            connection.abort()
            connection.write(b"harmless")
            connection.pass_on(b"harmless")
            connection.set_idle(5.0)
            connection.resume_reading()
            connection.close()


class Echo(ConnectionFilter):
    def on_connection(self, connection: FilteredConnection) -> None:
        connection.write(b"220 hi\n")

    def on_data(self, data: bytes) -> bool:
        self.connection.write(data)
        return STOP

    def on_eof(self) -> None:
        self.connection.close()


class Lines(ConnectionFilter):
    """Passes on whole lines, in both directions."""

    def __init__(self, shared: Any) -> None:
        super().__init__(shared)
        self.read = b""
        self.written = b""

    def on_data(self, data: bytes) -> bytes:
        self.read += data
        whole, end, self.read = self.read.rpartition(b"\n")
        return whole + end

    def on_eof(self) -> None:
        self.connection.pass_on(self.read)

    def on_write(self, data: bytes) -> bytes:
        self.written += data
        whole, end, self.written = self.written.rpartition(b"\n")
        return whole + end

    def on_write_eof(self) -> None:
        self.connection.write(self.written)


def test_filters_before_a_proxy_change_nothing_that_they_pass_on(start: Start) -> None:
    talk = start(connection_filters={"a": Passes, "b": Passes})
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    client.receives(OK)
    client.sends(GET)
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok", "ok"]


def test_filters_before_the_detection_of_protocols(start: Start) -> None:
    talk = start(connection_filters={"a": Passes}, protocols=("bolt", "Http1"))
    client, upstream = talk.forwarded(GET)
    upstream.sends(OK)
    client.receives(OK)


def test_both_directions_are_changed_before_tcp_proxy(start: Start) -> None:
    talk = start(connection_filters={"upper": Upper, "lower": Lower}, tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends(b"Hello")
    upstream.receives(b"hello")
    upstream.sends(b"World")
    client.receives(b"WORLD")
    client.shuts()
    upstream.shuts()
    assert client.is_closed()
    assert talk.counters()["bytes_read_total"] == 5


def test_held_bytes_are_passed_on_later_in_both_directions(start: Start) -> None:
    talk = start(connection_filters={"lines": Lines}, tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends(b"one\ntw")
    upstream.receives(b"one\n")
    client.sends(b"o\nrest")
    upstream.receives(b"two\n")
    upstream.sends(b"answ")
    client.receives_nothing()
    upstream.sends(b"er\nno end")
    client.receives(b"answer\n")
    client.shuts()
    upstream.receives(b"rest")
    assert upstream.has_fin()
    upstream.shuts()
    client.receives(b"no end")
    assert client.is_closed()


def test_a_refused_client_reaches_nothing(start: Start) -> None:
    talk = start(connection_filters={"denies": Denies, "passes": Passes}, tcp={})
    client = talk.connect("192.0.2.66")
    assert client.is_reset()
    talk.expect_no_dial()
    assert talk.reasons() == ["access_denied"]
    assert talk.counters()["reason_access_denied"] == 1
    other = talk.connect()
    talk.expect_dial()
    assert other.is_open()


def test_a_server_of_its_own(start: Start) -> None:
    talk = start(connection_filters={"upper": Upper, "echo": Echo}, is_alone=True)
    client = talk.connect()
    client.receives(b"220 HI\n")
    client.sends(b"abc")
    client.receives(b"ABC")
    client.shuts()
    assert client.is_closed()
    [session] = talk.outcomes.exchanges
    assert (session.protocol, session.bytes_received, session.bytes_sent) == ("tcp", 3, 10)
    assert talk.reasons() == ["ok"]


def test_an_idle_client_of_a_server_of_its_own(start: Start) -> None:
    talk = start(connection_filters={"echo": Echo}, is_alone=True)
    client = talk.connect()
    client.receives(b"220 hi\n")
    talk.advance(80.0)
    client.sends(b"a")
    client.receives(b"a")
    talk.advance(80.0)
    assert client.is_open()
    talk.advance(11.0)
    assert client.is_closed()
    assert talk.reasons() == ["idle_timeout"]


class Waits(ConnectionFilter):
    """Waits until the test says how it ends."""

    Shared = Memory
    timeout = 5.0

    async def on_connection(self, connection: FilteredConnection) -> None:
        self.shared.waiting = asyncio.get_running_loop().create_future()
        answer = await self.shared.waiting
        if answer == "deny":
            connection.abort()


def test_an_async_filter_holds_everything_meanwhile(start: Start) -> None:
    talk = start(connection_filters={"waits": Waits, "passes": Passes}, tcp={})
    client = talk.connect()
    talk.expect_no_dial()
    assert not client.is_read()
    client.sends(b"early")
    context: Any = talk.handles[0].filter
    talk.do(lambda: context.waiting.set_result("allow"))
    upstream = talk.expect_dial()
    upstream.receives(b"early")


def test_an_async_filter_refuses(start: Start) -> None:
    talk = start(connection_filters={"waits": Waits}, tcp={})
    client = talk.connect()
    context: Any = talk.handles[0].filter
    talk.do(lambda: context.waiting.set_result("deny"))
    assert client.is_reset()
    talk.expect_no_dial()


def test_an_async_filter_that_never_ends(start: Start) -> None:
    talk = start(connection_filters={"waits": Waits}, tcp={})
    client = talk.connect()
    talk.advance(4.9)
    assert client.is_open()
    talk.advance(0.3)
    assert client.is_reset()
    assert talk.reasons() == ["filter_timeout"]
    assert "did not finish within 5 s" in talk.log.lines[0]


def test_a_client_that_leaves_while_a_filter_waits(start: Start) -> None:
    talk = start(connection_filters={"waits": Waits}, tcp={})
    client = talk.connect()
    context: Any = talk.handles[0].filter
    client.resets()
    talk.pass_rounds(3)
    assert context.waiting.cancelled()
    assert talk.log.lines == []


def _at(place: str, kind: str) -> type[ConnectionFilter]:
    """A filter that raises at one place."""

    def fail(*_: Any) -> Any:
        raise make(kind)

    async def fail_later(*_: Any) -> Any:
        await asyncio.sleep(0)
        raise make(kind)

    if place == "async":
        return type("Raises", (ConnectionFilter,), {"on_connection": fail_later})
    return type("Raises", (ConnectionFilter,), {place: fail})


@pytest.mark.parametrize("place", ["__init__", "on_connection", "async", "on_data", "on_write", "on_eof", "on_close"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_whatever_a_filter_raises_resets_its_connection_only(start: Start, place: str, kind: str) -> None:
    talk = start(connection_filters={"raises": _at(place, kind), "passes": Passes}, tcp={})
    client = talk.connect()
    if place in ("on_data", "on_write", "on_eof", "on_close"):
        upstream = talk.expect_dial()
        if place == "on_data":
            client.sends_whole(b"x")
        elif place == "on_write":
            upstream.sends(b"x")
        elif place == "on_eof":
            client.shuts()
        else:
            client.resets()
    talk.pass_rounds(3)
    assert client.is_reset() or place == "on_close"
    assert talk.filter_errors("raises") == 1
    [line] = talk.log.lines
    assert "filter 'raises' failed: " + KINDS[kind][1] in line
    if place not in ("on_close",):
        assert talk.reasons() == ["filter_error"]


ODD: dict[str, dict[str, Any]] = {
    "on_connection": {"on_connection": lambda self, connection: 5},
    "on_data": {"on_data": lambda self, data: None},
    "on_data text": {"on_data": lambda self, data: "text"},
    "on_data number": {"on_data": lambda self, data: 1},
    "__new__": {"__new__": lambda cls, shared: 5},
    "pass_on": {"on_data": lambda self, data: self.connection.pass_on("text")},
    "write": {"on_data": lambda self, data: self.connection.write(bytearray(b"x"))},
    "close": {"on_data": lambda self, data: self.connection.close("because")},
}


@pytest.mark.parametrize("case", list(ODD))
def test_odd_values_are_errors(start: Start, case: str) -> None:
    talk = start(connection_filters={"odd": type("Odd", (ConnectionFilter,), ODD[case])}, is_alone=True)
    client = talk.connect()
    client.sends_whole(b"x")
    assert client.is_reset()
    assert talk.filter_errors("odd") == 1
    assert talk.reasons() == ["filter_error"]


class Text(bytes):
    def __len__(self) -> int:
        raise RuntimeError

    def upper(self) -> bytes:
        raise RuntimeError


class Odd(ConnectionFilter):
    """Subclasses of bytes everywhere."""

    def on_data(self, data: bytes) -> bytes:
        self.connection.write(Text(b"w"))
        self.connection.pass_on(Text(b"p"))
        return Text(data)

    def on_write(self, data: bytes) -> bytes:
        return Text(data)


def test_subclasses_of_bytes_are_made_plain(start: Start) -> None:
    talk = start(connection_filters={"upper": Upper, "odd": Odd}, tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends_whole(b"x")
    upstream.receives(b"px")
    client.receives(b"W")
    upstream.sends(b"y")
    client.receives(b"Y")


class Pauses(ConnectionFilter):
    """Reads one chunk, then pauses until the test resumes it."""

    Shared = Memory

    def on_connection(self, connection: FilteredConnection) -> None:
        self.shared.seen = self

    def on_data(self, data: bytes) -> bool:
        self.connection.pause_reading()
        return CONTINUE


def test_a_filter_that_pauses(start: Start) -> None:
    talk = start(connection_filters={"passes": Passes, "pauses": Pauses}, tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends_whole(b"a")
    upstream.receives(b"a")
    assert not client.is_read()
    seen: Any = talk.handles[1].filter
    first: Any = talk.handles[0].filter
    assert first is not None
    talk.do(seen.seen.connection.resume_reading)
    talk.do(seen.seen.connection.resume_reading)  # one too many is harmless
    assert client.is_read()
    client.sends_whole(b"b")
    upstream.receives(b"b")
    talk.do(seen.seen.connection.resume_reading)


class Splits(ConnectionFilter):
    """Passes on byte by byte; the end too, by itself."""

    def on_data(self, data: bytes) -> bool:
        for byte in data:
            self.connection.pass_on(bytes([byte]))
        return STOP

    def on_eof(self) -> bool:
        self.connection.pass_on(b"!")
        self.connection.pass_on_eof()
        return STOP


def test_bytes_for_a_paused_filter_are_held_in_order(start: Start) -> None:
    talk = start(connection_filters={"splits": Splits, "pauses": Pauses}, tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends_whole(b"abc")
    upstream.receives(b"a")
    seen: Any = talk.handles[1].filter
    client.shuts()
    for expected in (b"b", b"c", b"!"):
        upstream.receives_nothing()
        talk.do(seen.seen.connection.resume_reading)
        upstream.receives(expected)
    assert not upstream.has_fin()
    talk.do(seen.seen.connection.resume_reading)
    assert upstream.has_fin()


class Facts(SharedState):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.closed: list[str] = []


class Counts(ConnectionFilter):
    Shared = Facts

    def on_close(self, failure: Failure) -> None:
        self.connection.write(b"late")
        self.connection.close()
        self.connection.abort()
        self.connection.pass_on_eof()
        self.shared.closed.append(failure.reason)


def test_what_the_objects_of_a_filter_share(start: Start) -> None:
    talk = start(connection_filters={"counts": Counts}, connection_config={"a": 1}, tcp={})
    for _ in range(2):
        client = talk.connect()
        talk.expect_dial()
        client.resets()
    shared: Any = talk.handles[0].filter
    assert shared.config == {"a": 1}
    assert shared.closed == ["closed_by_peer", "closed_by_peer"]


class ByName(ConnectionFilter):
    """TLS facts."""

    def on_connection(self, connection: FilteredConnection) -> None:
        assert isinstance(connection.tls, TlsInfo)
        if connection.tls.server_name != "good.example":
            connection.abort(ACCESS_DENIED)


@pytest.mark.parametrize("is_alone", [False, True])
def test_objects_are_freed_with_their_connections(is_alone: bool) -> None:
    made: list[weakref.ref[object]] = []

    class Kept(Passes):
        def __init__(self, shared: Any) -> None:
            super().__init__(shared)
            made.append(weakref.ref(self))

    talk = Talk(connection_filters={"a": Kept, "b": Kept}, is_alone=is_alone, tcp={})
    gc.collect()
    gc.disable()
    try:
        client = talk.connect()
        if not is_alone:
            talk.expect_dial()
        client.resets()
        talk.forget()
        assert [found() for found in made] == [None, None]
    finally:
        gc.enable()


def test_draining_reaches_filters_and_proxy(start: Start) -> None:
    drained: list[str] = []

    class Drains(ConnectionFilter):
        def on_drain(self) -> None:
            drained.append("filter")

    talk = start(connection_filters={"drains": Drains})
    client, upstream = talk.forwarded(GET)
    talk.drain()
    upstream.sends(OK)
    client.takes()
    assert drained == ["filter"]
    assert client.is_lingering()


class Slow(ConnectionFilter):
    """Its own idle timeout."""

    def on_connection(self, connection: FilteredConnection) -> None:
        connection.set_idle(3.0)


def test_a_filters_own_idle_timeout(start: Start) -> None:
    talk = start(connection_filters={"slow": Slow}, tcp={})
    client = talk.connect()
    talk.expect_dial()
    talk.advance(3.1)
    assert client.is_closed()
