"""Clusters whose hosts are where the clients want to go: from a header, or from the kernel for a redirected connection."""

import pytest
from tests.kit import GET, OK, Peer, Start, Talk
from tests.kit.options import http_options

from pymosn.api.upstream import Selection
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.message import CONNECT_HERE
from pymosn.upstream import original_dst
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.plan import AllowedPlan, LimitPlan, OriginalPlan


def begin(start: Start, header: str = "", replace_local: bool = False, **plan: object) -> Talk:
    return start(hosts=[], plan={"original": OriginalPlan(header, replace_local), **plan})


def redirected(talk: Talk, destination: str) -> Peer:
    """A client whose connection the kernel redirected here on its way to `destination`."""
    client = talk.connect()
    connection = client.transport.protocol
    assert connection is not None
    connection.original_destination = destination
    return client


def get(*fields: bytes) -> bytes:
    return b"".join([b"GET / HTTP/1.1\r\n", *(field + b"\r\n" for field in fields), b"\r\n"])


def addresses(talk: Talk) -> list[str]:
    return [host.address for host in talk.clusters.by_name["service"].hosts]


def test_each_connection_goes_where_its_client_wanted_to(start: Start) -> None:
    talk = begin(start)
    for destination in ("192.0.2.1:81", "192.0.2.2:82", "192.0.2.1:81"):
        client = redirected(talk, destination)
        client.sends(get(b"Host: any"))
        upstream = talk.expect_dial(destination) if talk.dials else talk.upstreams[0]
        upstream.receives(get(b"Host: any"))
        upstream.sends(OK)
        client.receives(OK)
        assert talk.outcomes.exchanges[-1].upstream_address == destination
    assert addresses(talk) == ["192.0.2.1:81", "192.0.2.2:82"]
    assert talk.upstream_counters()["request_total"] == 3


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"192.0.2.7:8080", "192.0.2.7:8080"),
        (b"192.0.2.7", "192.0.2.7:80"),
        (b"Name.Test:81", "name.test:81"),
        (b"[2001:db8::1]", "[2001:db8::1]:80"),
        (b"[2001:db8::1]:81", "[2001:db8::1]:81"),
    ],
)
def test_a_header_overrides_the_connections_destination(start: Start, value: bytes, address: str) -> None:
    talk = begin(start, "x-to")
    client = redirected(talk, "192.0.2.1:80")
    client.sends(get(b"Host: any", b"X-To: " + value))
    talk.hold_dial(address).connects().takes()
    other = redirected(talk, "192.0.2.1:80")
    other.sends(get(b"Host: any"))
    talk.expect_dial("192.0.2.1:80").takes()


@pytest.mark.parametrize("value", [b"a b", b"a,b", b"/etc/x", b"unix:/run/x", b"unix:80", b"a:0", b"user@a:80", b"a:b:80"])
def test_a_header_without_an_address_is_not_a_destination(start: Start, value: bytes) -> None:
    talk = begin(start, "x-to")
    client = redirected(talk, "192.0.2.1:80")
    client.sends(get(b"Host: any", b"X-To: " + value))
    assert client.takes()[9:12] == b"502"
    assert talk.reasons() == ["no_hosts"]
    talk.expect_no_dial()


def test_the_host_header_and_this_machine(start: Start) -> None:
    talk = begin(start, "host", replace_local=True)
    talk.forwarded(get(b"Host: www.test:8081"), address="127.0.0.1:8081")


def test_no_destination(start: Start) -> None:
    talk = begin(start)
    client = talk.connect()
    client.sends(get(b"Host: any"))
    assert client.takes()[9:12] == b"502"
    assert talk.reasons() == ["no_hosts"]


@pytest.mark.parametrize("header", ["host", ""])
@pytest.mark.parametrize(
    ("own", "services", "asked", "fails"),
    [
        ([("192.0.2.9", 80)], [], "192.0.2.9:80", True),
        ([("192.0.2.9", 80)], [], "192.0.2.9:81", False),
        ([], [("192.0.2.9", 34901)], "192.0.2.9:34901", True),  # the admin API
        ([], [("192.0.2.9", 34901)], "name.test:34901", True),
        ([], [("192.0.2.9", 34901)], "other.test:34901", False),
    ],
)
def test_a_request_does_not_come_back_to_this_process(
    start: Start, header: str, own: list[tuple[str, int]], services: list[tuple[str, int]], asked: str, fails: bool
) -> None:
    talk = begin(start, header)
    talk.names["name.test"] = ["192.0.2.9"]
    talk.maker.own.replace(own)
    talk.maker.own.set_services(services)
    client = redirected(talk, asked)
    client.sends(get(b"Host: " + asked.encode()))
    if fails:
        talk.expect_no_dial()
        talk.run_later()
        assert client.takes()[9:12] == b"502"
        assert talk.reasons() == ["loop"]
        assert talk.counters()["reason_loop"] == 1
    else:
        talk.expect_dial(asked).takes()


SPECIAL = ["127.0.0.1:6379", "169.254.169.254", "[::1]:80", "[::ffff:127.0.0.1]:80", "[fe80::1]", "0.0.0.0:80", "224.0.0.1"]


@pytest.mark.parametrize("asked", [*SPECIAL, "inside.test"])
def test_a_header_does_not_lead_to_this_machine_or_to_cloud_metadata(start: Start, asked: str) -> None:
    talk = begin(start, "x-to")
    talk.names["inside.test"] = ["169.254.169.254", "127.0.0.1"]
    client = talk.connect()
    client.sends(get(b"Host: a", b"X-To: " + asked.encode()))
    talk.run_later()
    assert client.takes()[9:12] == b"403"
    assert talk.reasons() == ["destination_denied"]
    talk.expect_no_dial()


def test_a_name_with_several_addresses_is_dialed_at_the_allowed_ones(start: Start) -> None:
    talk = begin(start, "host")
    talk.names["both.test"] = ["127.0.0.1", "192.0.2.1"]
    talk.forwarded(get(b"Host: both.test"), address="both.test:80")


@pytest.mark.parametrize("asked", ["10.0.0.1:5432", "169.254.169.254:80", "[fe80::1]:80"])
def test_the_kernel_may_name_any_destination(start: Start, asked: str) -> None:
    """Without a header it is not the client's word: the client could have gone there itself."""
    talk = begin(start)
    client = redirected(talk, asked)
    client.sends(get(b"Host: any"))
    talk.expect_dial(asked).takes()


def test_a_list_of_destinations_is_all_there_is(start: Start) -> None:
    allowed = (AllowedPlan("10.0.0.0/8", ((80, 80), (8000, 8099))), AllowedPlan("127.0.0.1"))
    talk = start(hosts=[], plan={"original": OriginalPlan("host", False, allowed)})
    for asked, passes in {
        "10.0.0.1:80": True,
        "10.0.0.1:8050": True,
        "10.0.0.1:22": False,
        "11.0.0.1:80": False,
        "127.0.0.1:9": True,
        "127.0.0.2:9": False,
    }.items():
        client = talk.connect()
        client.sends(get(b"Host: " + asked.encode()))
        if passes:
            talk.expect_dial(asked).takes()
        else:
            talk.run_later()
            assert client.takes()[9:12] == b"403"
            talk.expect_no_dial()


def test_a_connection_that_became_forbidden_is_not_reused(start: Start) -> None:
    talk = begin(start, "host")
    client, upstream = talk.forwarded(get(b"Host: 10.0.0.1"), address="10.0.0.1:80")
    upstream.sends(OK)
    client.receives(OK)
    talk.change("service", original=OriginalPlan("host", False, (AllowedPlan("192.0.2.0/24"),)))
    assert upstream.is_closed()
    client.sends(get(b"Host: 10.0.0.1"))
    talk.run_later()
    assert client.takes()[9:12] == b"403"


def test_a_connect_request_leads_no_further(start: Start) -> None:
    http1 = http_options(connect=CONNECT_HERE)
    talk = start(hosts=[], plan={"original": OriginalPlan("host")}, http1=http1)
    talk.maker.own.set_services([("192.0.2.9", 34901)])
    for asked, status in ((b"192.0.2.9:34901", b"502"), (b"127.1.2.3:22", b"403"), (b"[::1]:22", b"403")):
        client = talk.connect()
        client.sends(b"CONNECT " + asked + b" HTTP/1.1\r\nHost: public.test\r\n\r\n")
        talk.run_later()
        assert client.takes()[9:12] == status
    absolute = talk.connect()
    absolute.sends(b"GET http://127.0.0.1:34901/ HTTP/1.1\r\nHost: public.test\r\n\r\n")
    talk.run_later()
    assert absolute.takes()[9:12] == b"403"
    assert talk.reasons() == ["loop", "destination_denied", "destination_denied", "destination_denied"]
    talk.expect_no_dial()


def test_a_host_with_a_name_is_not_a_service_of_this_process(start: Start) -> None:
    """Whoever answers for the name could open the admin API to all clients; a literal address is the operator's wish."""
    talk = start(hosts=["rebound.test:34901", "192.0.2.9:34901", "rebound.test:80"])
    talk.names["rebound.test"] = ["192.0.2.9"]
    talk.maker.own.set_services([("192.0.2.9", 34901)])
    talk.maker.own.replace([("192.0.2.9", 80)])
    client = talk.connect()
    client.sends(GET)
    talk.run_later()
    assert client.takes()[9:12] == b"502"
    assert talk.reasons() == ["loop"]
    for address in ("192.0.2.9:34901", "rebound.test:80"):
        client.sends(GET)
        upstream = talk.expect_dial(address)
        upstream.receives(GET)
        upstream.sends(OK)
        client.receives(OK)


def test_there_is_no_other_host_to_retry_at(start: Start) -> None:
    talk = begin(start, "host")
    for host in (b"a.test", b"b.test"):
        client = talk.connect()
        client.sends(get(b"Host: " + host))
        talk.hold_dial(f"{host.decode()}:80").fails(CONNECT_REFUSED)
        assert client.takes()[9:12] == b"502"
    talk.expect_no_dial()


def test_idle_hosts_are_forgotten_with_their_counters_and_connections(start: Start) -> None:
    talk = begin(start, "host")
    client, upstream = talk.opening(get(b"Host: a.test"), address="a.test:80")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    talk.advance(25)
    busy, waiting = talk.opening(get(b"Host: b.test"), address="b.test:80")
    waiting.takes()
    assert upstream.is_open()
    assert addresses(talk) == ["a.test:80", "b.test:80"]
    for _ in range(5):
        talk.advance(10)
    assert addresses(talk) == ["b.test:80"], "its request is still under way"
    assert upstream.is_closed()
    labels = [group["labels"] for group in talk.metrics.snapshot() if group["type"] == "upstream"]
    assert [("cluster", "service"), ("host", "b.test:80")] in labels
    assert [("cluster", "service"), ("host", "a.test:80")] not in labels
    waiting.sends(OK)
    busy.receives(OK)
    for _ in range(8):
        talk.advance(10)
    assert addresses(talk) == []


def test_the_number_of_hosts_is_bounded(start: Start) -> None:
    talk = begin(start, "host")
    most = original_dst.MAX_HOSTS
    balancer = talk.clusters.by_name["service"].balancer
    cluster = talk.clusters.by_name["service"]

    def choose(address: str) -> ClusterHost | None:
        selection = Selection()
        selection.destination = address
        host = balancer.choose(selection)
        assert host is None or isinstance(host, ClusterHost)
        return host

    first = choose("h0:80")
    assert first is not None
    assert first.try_request()
    for number in range(most + 50):
        assert choose(f"h{number}:80") is not None
    assert len(cluster.hosts) == most
    assert cluster.hosts[0] is first, "the one that was wanted longest ago has a request under way"
    assert choose("h1:80") is not cluster.hosts[1]
    for host in cluster.hosts[1:]:
        assert host.try_request()
    assert choose("another:80") is None
    selection = Selection()
    selection.destination = "another:80"
    assert cluster.no_host_failure(selection).reason == "overflow"
    for host in list(cluster.hosts):
        host.end_request()


def test_a_change_of_the_cluster_keeps_its_hosts_and_gives_them_its_settings(start: Start) -> None:
    talk = begin(start, "host")
    client, upstream = talk.opening(get(b"Host: a.test"), address="a.test:80")
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    (host,) = talk.clusters.by_name["service"].hosts
    talk.change("service", original=OriginalPlan("x-to"), connect_timeout=1.5, limits=LimitPlan(requests=1))
    assert talk.clusters.by_name["service"].hosts == [host]
    assert host.connect_timeout == 1.5
    client.sends(get(b"Host: c.test", b"X-To: a.test"))
    upstream.takes()
    other = talk.connect()
    other.sends(get(b"Host: c.test", b"X-To: b.test"))
    assert other.takes()[9:12] == b"503", "one request at once in the whole cluster"
    upstream.sends(OK)
    client.receives(OK)
    talk.change("service", original=None)
    assert talk.clusters.by_name["service"].hosts == []
    assert upstream.is_closed()
    client.sends(get(b"Host: c.test"))
    assert client.takes()[9:12] == b"502"
