"""Which addresses may be dialed for clients: spelled in any way, on every address of this machine."""

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from tests.kit.addresses import outer_address

from pymosn.api.network import Connection, DialReceiver, DialRule, NetworkFilter, plain_peer
from pymosn.core.address_ranges import parse_network
from pymosn.core.clock import Clock
from pymosn.core.failure import DESTINATION_DENIED, LOOP, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.destinations import AllowedRange, ClientDestinations, NamedHost, OwnAddresses, is_local
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds


@pytest.mark.parametrize(
    ("ip", "port", "is_own"),
    [
        ("10.0.0.1", 80, True),
        ("::ffff:10.0.0.1", 80, True),
        ("10.0.0.2", 80, False),
        ("10.0.0.1", 8080, False),
        # The unspecified address leads to loopback.
        ("0.0.0.0", 34901, True),
        ("::", 34901, True),
        ("::ffff:0.0.0.0", 34901, True),
        ("127.0.0.1", 34901, True),
        ("::ffff:127.0.0.1", 34901, True),
        ("127.0.0.2", 34901, False),
        # Sockets on all addresses.
        *[(ip, port, True) for ip in ("127.0.0.1", "127.8.9.1", "::1", "::", "0.0.0.0") for port in (81, 82, 83)],
        ("192.0.2.77", 81, False),
        ("2001:db8::77", 83, False),
        ("127.0.0.1", 84, False),
    ],
)
def test_own_addresses(ip: str, port: int, is_own: bool) -> None:
    own = OwnAddresses()
    assert not own.has(ip, port)
    own.replace([("10.0.0.1", 80), ("0.0.0.0", 81), ("", 82)])
    own.set_services([("::ffff:127.0.0.1", 34901), ("::", 83)])
    assert own.has(ip, port) is is_own
    assert own.is_service(ip, port) is (is_own and port in (34901, 83))
    own.replace([])
    own.set_services([])
    assert not own.has(ip, port)


def test_the_machines_other_addresses_are_its_own() -> None:
    ip = outer_address()
    if not ip:
        pytest.skip("this machine has loopback only")
    assert is_local(ip)
    assert not is_local("192.0.2.1")
    own = OwnAddresses()
    own.replace([("0.0.0.0", 81), ("127.0.0.1", 82)])
    assert own.has(ip, 81)
    assert not own.has(ip, 82)


#: Addresses that lead to this machine, its network or the metadata of a cloud, also within IPv6 addresses.
SPECIAL = [
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.9", "169.254.169.254", "224.0.0.251", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%1", "febf::1", "ff02::fb", "fd00:ec2::254"),
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::169.254.169.254", "2002:7f00:1::"),
    *("::ffff:0:127.0.0.1", "64:ff9b:1::127.0.0.1"),
]
#: Those that contain an IPv4 address: listing them does not open the special address within.
EMBEDDED = [
    *("::127.0.0.1", "64:ff9b::169.254.169.254", "2002:7f00:1::", "::ffff:0:127.0.0.1", "64:ff9b:1::127.0.0.1"),
]
PLAIN = ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("ip", [*SPECIAL, *PLAIN])
def test_special_addresses_are_refused_unless_they_are_listed(ip: str) -> None:
    is_special = ip in SPECIAL
    rule = ClientDestinations(OwnAddresses(), [], True)
    assert rule.fault(ip, 80) is (DESTINATION_DENIED if is_special else None)
    kernels = ClientDestinations(OwnAddresses(), [], False)
    assert kernels.fault(ip, 80) is None
    everything = [AllowedRange("0.0.0.0/0", ()), AllowedRange("::/0", ())]
    assert ClientDestinations(OwnAddresses(), everything, True).fault(ip, 80) is (DESTINATION_DENIED if is_special else None)
    plain = ip.partition("%")[0]
    listed = ClientDestinations(OwnAddresses(), [AllowedRange(plain, ((80, 90),))], True)
    assert listed.fault(ip, 85) is (DESTINATION_DENIED if ip in EMBEDDED else None)
    assert listed.fault(ip, 91) is DESTINATION_DENIED
    assert listed.fault("203.0.113.1", 85) is DESTINATION_DENIED


def test_a_list_never_opens_this_process() -> None:
    own = OwnAddresses()
    own.set_services([("127.0.0.1", 34901)])
    rule = ClientDestinations(own, [AllowedRange("127.0.0.0/8", ())], True)
    assert rule.fault("127.0.0.1", 34901) is LOOP
    assert rule.fault("127.0.0.1", 6379) is None
    assert NamedHost(own).fault("127.0.0.1", 34901) is LOOP
    assert NamedHost(own).fault("127.0.0.1", 6379) is None


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0.1/8", "name", "10.0.0.0/8:80", "[::1]"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_network(text, is_exact=True)


class Answer(DialReceiver):
    def __init__(self) -> None:
        self.result: asyncio.Future[Connection | tuple[Failure, str]] = asyncio.get_running_loop().create_future()

    def on_dialed(self, connection: Connection) -> None:
        self.result.set_result(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self.result.set_result((failure, detail))


class Silent(NetworkFilter):
    def on_connection(self, connection: Connection) -> None:
        pass

    def on_close(self, failure: Failure) -> None:
        pass


async def dial(host: str, port: int, rule: DialRule) -> Connection | tuple[Failure, str]:
    clock = Clock()
    wheel = TimerWheel(clock)
    dialer = TcpDialer(ConnectionIds(), clock, wheel)
    answer = Answer()
    dialer.dial(plain_peer(f"{host}:{port}", rule), 5.0, Silent(), answer)
    found = await answer.result
    if isinstance(found, Connection):
        found.abort(LOOP)
        await asyncio.sleep(0)
    return found


SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "0.0.0.0",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::ffff:127.0.0.1]",
    "0",
]


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("listed", [False, True])
def test_every_spelling_of_an_own_address_is_refused_before_it_is_dialed(host: str, listed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        own = OwnAddresses()
        own.set_services([("127.0.0.1", port)])
        ranges = [AllowedRange(network, ()) for network in ("127.0.0.0/8", "::1", "0.0.0.0/8")] if listed else []
        found = uvloop.run(dial(host, port, ClientDestinations(own, ranges, True)))
        assert isinstance(found, tuple)
        # `localhost` may have another address, which is not allowed as such.
        assert found[0] is LOOP or (host == "localhost" and found[0] is DESTINATION_DENIED)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_an_allowed_address_is_dialed(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rule = ClientDestinations(OwnAddresses(), [AllowedRange("127.0.0.0/8", ((port, port),))], True)
        found = uvloop.run(dial(host, port, rule))
        assert isinstance(found, Connection)
        assert (found.remote_ip, found.remote_port) == ("127.0.0.1", port)


class Noting(DialRule):
    """Notes the addresses that are about to be dialed."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def fault(self, ip: str, port: int) -> Failure | None:
        self.seen.append(ip)
        return None


class Rebinding(asyncio.SelectorEventLoop):
    """Resolves every name to 127.0.0.3 once, and to 127.0.0.1 from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []

    async def getaddrinfo(self, host: object, port: object, **options: int) -> Any:
        self.asked.append(host)
        return await super().getaddrinfo("127.0.0.3" if len(self.asked) == 1 else "127.0.0.1", str(port), **options)


def test_the_judged_address_is_the_one_that_is_dialed() -> None:
    with socket.create_server(("127.0.0.3", 0)) as server:
        rule = Noting()
        loop = Rebinding()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            found = runner.run(dial("name.test", server.getsockname()[1], rule))
        assert isinstance(found, Connection)
        assert rule.seen == [found.remote_ip] == ["127.0.0.3"]
        assert loop.asked == ["name.test"]
