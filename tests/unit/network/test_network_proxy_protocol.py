"""The PROXY protocol of a listener: whom it believes, and what becomes of clients that send no header or an invalid one."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from test_network_connection import HandTransport, Notes
from test_network_first_bytes import Refusals
from tests.kit import FakeClock

from pymosn.api.network import DONE, MORE_BYTES, Accepted, FirstBytes
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.first_bytes import FirstBytesPlan, FirstBytesReader
from pymosn.network.proxy_protocol import ProxyProtocol

V1 = b"PROXY TCP4 203.0.113.9 198.51.100.2 4711 443\r\n"
#: From 2001:db8::1 to ::2.
V2 = (
    bytes.fromhex("0d0a0d0a000d0a515549540a 21 21 0024 20010db8")
    + bytes(11)
    + b"\x01"
    + bytes(15)
    + b"\x02"
    + b"\x12\x67\x01\xbb"
)
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
UNIX = bytes.fromhex("0d0a0d0a000d0a515549540a 21 31 00d8") + bytes(216)


class Serve(FirstBytes):
    """The last step: needs no bytes, as a plain-text chain."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def needs_bytes(self, accepted: Accepted) -> bool:
        return False

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> int:
        accepted.filters = [self._notes]
        return DONE


class Rig:
    """A connection with this step and one after it."""

    def __init__(
        self, peer: str = "10.0.0.7", *, is_required: bool = True, timeout: float = 5.0, last: FirstBytes | None = None
    ) -> None:
        self.refusals = Refusals()
        self.stats = DownstreamStats(Metrics().group("downstream"))
        self.notes = Notes([])
        networks = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
        plan = FirstBytesPlan(
            [ProxyProtocol(networks, is_required=is_required, timeout=timeout), last or Serve(self.notes)],
            factory=self.refusals,
            stats=self.stats,
            silence_timeout=20.0,
            timeout=15.0,
            serves_undecided=False,
        )
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.connection = TcpConnection(7, [FirstBytesReader(plan)], ConnectionOwner(), self.clock, self.wheel)
        self.transport = HandTransport((peer, 1234) if peer else "")
        self.connection.connection_made(self.transport)

    def sends(self, data: bytes) -> None:
        self.connection.data_received(data)

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()

    def ends(self) -> tuple[str, int, str, int]:
        connection = self.connection
        return connection.remote_ip, connection.remote_port, connection.local_ip, connection.local_port


CLIENT = ("203.0.113.9", 4711, "198.51.100.2", 443)
OWN = ("10.0.0.7", 1234, "10.0.0.7", 1234)


@pytest.mark.parametrize("peer", ["10.0.0.7", "fd00::7", "::ffff:10.0.0.7"])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_trusted_peer_is_believed(peer: str, step: int) -> None:
    rig = Rig(peer)
    assert rig.notes.log == []
    for at in range(0, len(V1), step):
        rig.sends(V1[at : at + step])
    assert rig.ends() == CLIENT
    # The server may speak first: the filters have the connection before the client has sent anything after the header.
    assert rig.notes.log == ["open"]
    rig.sends(b"data")
    assert rig.notes.log == ["open", b"data"]


def test_an_address_that_only_begins_like_a_mapped_one() -> None:
    rig = Rig("::ffff:0:102:304")
    assert rig.connection.remote_ip == "::ffff:0:102:304"
    assert rig.notes.log == ["open"]


def test_what_follows_the_header_is_the_clients() -> None:
    rig = Rig()
    rig.sends(V2 + V1)
    assert rig.ends() == ("2001:db8::1", 0x1267, "::2", 443)
    assert rig.notes.log == ["open", V1]  # only one header is read


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_without_addresses_the_connection_keeps_its_own(header: bytes) -> None:
    rig = Rig()
    rig.sends(header + b"data")
    assert rig.ends() == OWN
    assert rig.notes.log == ["open", b"data"]


def test_a_client_of_a_unix_socket_has_no_address() -> None:
    rig = Rig()
    rig.sends(UNIX)
    assert rig.ends() == ("", 0, "", 0)


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.7", "2001:db8::7"])
def test_others_are_never_believed(peer: str) -> None:
    rig = Rig(peer)
    assert rig.notes.log == ["open"]  # nothing is awaited from them
    rig.sends(V1 + b"data")
    assert rig.notes.log == ["open", V1 + b"data"]
    assert rig.connection.remote_ip == peer


def test_every_peer_on_a_unix_socket_is_trusted() -> None:
    rig = Rig("")
    rig.sends(V1)
    assert rig.ends() == CLIENT


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize(
    "data", [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", V2[:12] + b"\x31", b"PROXY " + b"x" * 200, V1.replace(b"\r", b"")]
)
def test_an_invalid_header_is_refused(data: bytes, is_required: bool) -> None:
    rig = Rig(is_required=is_required)
    rig.sends(data)
    assert rig.refusals.reasons == ["bad_proxy_header"]
    assert rig.transport.calls[-1] == "abort"
    assert (rig.notes.log, rig.ends()) == ([], OWN)
    assert rig.stats.connection_refused.value == 1


def test_a_missing_header_is_refused() -> None:
    rig = Rig()
    rig.sends(b"G")
    assert rig.refusals.reasons == ["no_proxy_header"]
    assert rig.transport.calls[-1] == "abort"


def test_a_missing_header_is_not_refused_if_it_is_not_required() -> None:
    rig = Rig(is_required=False)
    rig.sends(b"P")
    rig.sends(b"OST / HTTP/1.1")
    assert rig.ends() == OWN
    assert rig.notes.log == ["open", b"POST / HTTP/1.1"]


@pytest.mark.parametrize("sent", [b"", b"P", V1[:-1], V2[:-1]])
def test_a_slow_header_is_refused(sent: bytes) -> None:
    rig = Rig()
    rig.passes(4.0)
    if sent:
        rig.sends(sent)  # does not restart the timeout
    rig.passes(0.9)
    assert rig.refusals.reasons == []
    rig.passes(0.2)
    assert rig.refusals.reasons == ["proxy_header_timeout"]
    assert rig.transport.calls[-1] == "abort"


def test_silence_is_no_header_if_none_is_required() -> None:
    rig = Rig(is_required=False)
    rig.passes(5.1)
    assert rig.notes.log == ["open"]
    assert rig.ends() == OWN
    beginning = Rig(is_required=False)
    beginning.sends(b"PROXY TCP4 1")
    beginning.passes(5.1)
    assert beginning.refusals.reasons == ["proxy_header_timeout"]


def test_without_a_timeout_of_its_own_those_of_the_plan_apply() -> None:
    rig = Rig(timeout=0.0)
    rig.passes(19.0)
    rig.sends(V1[:5])
    rig.passes(14.0)
    assert not rig.connection.is_closed
    rig.passes(1.1)
    assert rig.refusals.reasons == ["proxy_header_timeout"]


def test_the_end_of_the_connection_in_the_header() -> None:
    rig = Rig()
    rig.sends(V1[:9])
    rig.connection.eof_received()
    assert rig.refusals.reasons == ["bad_proxy_header"]
    silent = Rig()
    silent.connection.eof_received()  # a load balancer that checks whether the port is open
    assert silent.refusals.reasons == []
    assert silent.transport.calls[-1] == "close"


class Never(FirstBytes):
    """A step after the header that waits for a full stop."""

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> int:
        return MORE_BYTES


@pytest.mark.parametrize(("sent", "seconds"), [(V1, 20.0), (V1 + b"x", 15.0)])
def test_the_timeouts_of_the_plan_begin_after_the_header(sent: bytes, seconds: float) -> None:
    rig = Rig(last=Never())
    rig.passes(4.9)
    rig.sends(sent)
    rig.passes(seconds - 0.1)
    assert "close" not in rig.transport.calls
    assert rig.refusals.reasons == []
    rig.passes(0.2)
    assert (rig.refusals.reasons or ["closed"]) == (["detection_timeout"] if sent != V1 else ["closed"])
    assert rig.transport.calls[-1] == ("abort" if sent != V1 else "close")


def test_a_draining_worker_waits_no_longer_than_for_other_connections() -> None:
    rig = Rig()
    rig.connection.drain()
    rig.passes(1.1)
    assert rig.refusals.reasons == []
    assert rig.transport.calls[-1] == "close"
