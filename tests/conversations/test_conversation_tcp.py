"""`tcp_proxy`: bytes both ways, ends and resets, hosts that cannot be connected to, and as the fallback of `proxy`."""

from ipaddress import ip_network
from typing import Any

import pytest
from tests.kit import Peer, Start
from tests.kit import bolt_frames as bolt
from tests.kit.tls_facts import tls_info

from pymosn.core.address_ranges import End
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.overload import NORMAL, SHED
from pymosn.network.connection import LINGER_TIME
from pymosn.routing.by_address import AddressRoute, StreamTarget
from pymosn.upstream.plan import BalancingPlan, OriginalPlan

pytestmark = pytest.mark.also_tls

TCP: dict[str, Any] = {"tcp": {}}
TWO = ["10.0.0.1:80", "10.0.0.2:80"]
ANYWHERE = End([ip_network("0.0.0.0/0")], [(0, 65535)])


def test_bytes_go_both_ways(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    dial = talk.hold_dial()
    client.sends(b"early")
    assert not client.is_read()
    upstream = dial.connects()
    upstream.receives(b"early")
    upstream.sends(b"\x00\xffreply")
    client.receives(b"\x00\xffreply")
    client.sends(b"more")
    upstream.receives(b"more")
    client.shuts()
    assert upstream.has_fin()
    upstream.sends(b"last words")
    client.receives(b"last words")
    upstream.shuts()
    assert client.is_closed()
    assert upstream.is_closed()
    assert talk.reasons() == ["ok"]
    [session] = talk.outcomes.exchanges
    assert (session.protocol, session.cluster_name, session.upstream_address) == ("tcp", "service", "10.0.0.1:80")
    assert (session.bytes_received, session.bytes_sent, session.attempts) == (9, 17, 1)
    assert session.finished >= session.started > 0.0
    counters = talk.counters()
    assert counters["tcp_total"] == 1
    assert (counters["bytes_read_total"], counters["bytes_write_total"]) == (9, 17)
    upstream_counters = talk.upstream_counters()
    assert (upstream_counters["connection_bytes_read_total"], upstream_counters["connection_bytes_write"]) == (17, 9)


def test_a_server_that_speaks_first(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.hold_dial().connects(greeting=b"220 hello")
    client.receives(b"220 hello")
    upstream.shuts()
    assert client.has_fin()
    client.sends(b"bye")
    upstream.receives(b"bye")
    client.shuts()
    assert upstream.is_closed()


def test_a_client_that_has_sent_everything_before_there_is_a_host(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    dial = talk.hold_dial()
    client.sends(b"all")
    client.shuts()
    upstream = dial.connects()
    upstream.receives(b"all")
    assert upstream.has_fin()
    upstream.sends(b"answer")
    client.receives(b"answer")


def test_the_next_host_when_one_cannot_be_connected_to(start: Start) -> None:
    talk = start(tcp={}, hosts=TWO)
    client = talk.connect()
    talk.refuse_dial("10.0.0.1:80")
    upstream = talk.expect_dial("10.0.0.2:80")
    upstream.sends(b"hi")
    client.receives(b"hi")
    assert talk.upstream_counters()["request_retry"] == 1
    lost = talk.connect()
    talk.time_out_dial("10.0.0.1:80")
    talk.refuse_dial("10.0.0.2:80")
    assert lost.is_reset()
    assert talk.reasons() == ["connect_refused"]
    assert talk.counters()["reason_connect_refused"] == 1
    assert any("connect_refused (10.0.0.2:80: as the test wishes)" in line for line in talk.log.lines)


def test_as_many_attempts_as_configured(start: Start) -> None:
    talk = start(tcp={"connect_attempts": 3})
    client = talk.connect()
    for _ in range(3):
        assert not client.is_reset()
        talk.hold_dial().fails(CONNECT_REFUSED)
    assert client.is_reset()
    assert talk.outcomes.exchanges[0].attempts == 3


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"tcp": {"cluster": "nowhere"}}, "cluster_unknown"),
        ({"tcp": {"cluster": ""}}, "no_route"),
        ({"tcp": {}, "hosts": []}, "no_hosts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_host_to_connect_to(start: Start, wishes: dict[str, Any], reason: str) -> None:
    talk = start(**{**wishes, "tcp": dict(wishes["tcp"])})
    assert talk.connect().is_reset()
    assert talk.reasons() == [reason]
    assert talk.counters()[f"reason_{reason}"] == 1


def test_a_worker_without_memory_accepts_no_connection(start: Start) -> None:
    talk = start(tcp={})
    talk.runtime.overload.level = SHED
    assert talk.connect().is_reset()
    assert talk.reasons() == ["overloaded"]
    talk.runtime.overload.level = NORMAL
    talk.connect()
    talk.expect_dial()


def test_no_more_connections_than_the_cluster_allows(start: Start) -> None:
    talk = start(tcp={}, max_connections=1)
    first = talk.connect()
    upstream = talk.expect_dial()
    assert talk.connect().is_reset()
    assert talk.reasons() == ["overflow"]
    first.shuts()
    upstream.shuts()
    assert talk.connect().is_open()
    talk.expect_dial()


def test_a_reset_of_one_side_resets_the_other(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.resets()
    assert upstream.is_reset()
    client = talk.connect()
    upstream = talk.expect_dial()
    upstream.resets()
    assert client.is_reset()
    client = talk.connect()
    upstream = talk.expect_dial()
    upstream.sends(b"half")
    client.receives(b"half")
    upstream.resets()
    assert client.is_reset()
    assert talk.reasons() == ["client_gone", "reset_before_response", "reset_after_response"]


def test_a_client_that_leaves_while_a_host_is_dialed(start: Start) -> None:
    talk = start(tcp={}, hosts=TWO)
    client = talk.connect()
    dial = talk.hold_dial()
    client.resets()
    upstream = dial.connects()
    assert upstream.is_reset()
    client = talk.connect()
    dial = talk.hold_dial("10.0.0.2:80")
    client.resets()
    dial.fails(CONNECT_REFUSED)
    talk.expect_no_dial()
    assert talk.reasons() == ["client_gone", "client_gone"]


def test_a_host_that_leaves_as_soon_as_it_is_there(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    talk.hold_dial().connects(lost=True)
    assert client.is_reset()
    assert talk.reasons() == ["reset_before_response"]


def test_bytes_sent_before_a_client_left_arrive(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    upstream.stalls()
    client.sends(b"log line")
    client.shuts()
    client.resets()
    upstream.reads_on()
    upstream.receives(b"log line")
    assert upstream.is_closed()


def test_bytes_sent_before_a_host_left_arrive(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    client.stalls()
    upstream.sends(b"last words")
    upstream.shuts()
    upstream.resets()
    client.reads_on()
    client.receives(b"last words")
    assert client.is_lingering()
    talk.advance(LINGER_TIME + 0.1)
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


@pytest.mark.whole_only
def test_each_side_is_read_as_fast_as_the_other_takes(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    upstream.stalls()
    client.sends(b"x" * 70_000)
    assert not client.is_read()
    assert upstream.is_read()
    upstream.reads_on()
    assert client.is_read()
    upstream.receives(b"x" * 70_000)
    client.stalls()
    upstream.sends(b"y" * 70_000)
    assert not upstream.is_read()
    assert client.is_read()
    client.reads_on()
    assert upstream.is_read()
    client.receives(b"y" * 70_000)


@pytest.mark.whole_only
def test_a_host_that_is_full_from_the_start(start: Start) -> None:
    talk = start(tcp={}, protocols=["Http1", "bolt"], plan={"buffer_limit": 4})
    client = talk.connect()
    client.sends(b"\x00unknown")
    upstream = talk.hold_dial().connects(stalled=True)
    assert not client.is_read()
    upstream.reads_on()
    assert client.is_read()
    upstream.receives(b"\x00unknown")


def test_silence_ends_it(start: Start) -> None:
    talk = start(tcp={"idle_timeout": 30.0})
    client = talk.connect()
    upstream = talk.expect_dial()
    for side, other in ((client, upstream), (upstream, client)):
        talk.advance(29.0)
        side.sends(b"x")
        other.receives(b"x")
    talk.advance(29.0)
    assert client.is_open()
    talk.advance(1.5)
    assert client.is_closed()
    assert upstream.is_closed()
    assert talk.reasons() == ["idle_timeout"]
    assert talk.counters()["reason_idle_timeout"] == 1


def test_without_an_idle_time_it_lives_on(start: Start) -> None:
    talk = start(tcp={"idle_timeout": 0.0})
    client = talk.connect()
    upstream = talk.expect_dial()
    talk.advance(1000.0)
    client.sends(b"x")
    upstream.receives(b"x")


def test_a_drain_waits_for_it(start: Start) -> None:
    talk = start(tcp={})
    client = talk.connect()
    upstream = talk.expect_dial()
    talk.drain()
    talk.advance(10.0)
    client.sends(b"x")
    upstream.receives(b"x")
    talk.do(talk.listener.abort_all)
    assert client.is_reset()
    assert upstream.is_reset()
    assert talk.reasons() == ["draining"]


def route(cluster: str, source: End | None = None, target: End | None = None, *names: str) -> AddressRoute:
    return AddressRoute(StreamTarget([(cluster, 1)]), source, target, list(names))


@pytest.mark.plain_only
@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a.example", "10.0.0.1:80"),
        ("b.example", "10.0.1.1:80"),
        ("x.b.example", "10.0.1.1:80"),
        ("x.y.b.example", "10.0.1.1:80"),
        ("xb.example", ""),
        ("example", ""),
        ("b.example.", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_routes_by_server_name(start: Start, name: str | None, address: str) -> None:
    routes = [
        route("nowhere", End([ip_network("198.51.100.0/24")], [(0, 65535)]), None, "a.example"),
        route("service", None, None, "a.example"),
        route("other", ANYWHERE, None, "*.b.example", "b.example"),
    ]
    talk = start(tcp={"cluster": "", "routes": routes})
    facts = None if name is None else tls_info(server_name=name)
    if facts is not None:
        facts.version = ""  # not decrypted here
    client = talk.connect(tls=facts)
    if not address:
        assert client.is_reset()
        assert talk.reasons() == ["no_route"]
        return
    client.sends(b"\x16\x03\x01")
    talk.expect_dial(address).receives(b"\x16\x03\x01")


def test_weighted_clusters(start: Start) -> None:
    draws = iter([0.0, 0.2499, 0.25, 0.999999])
    talk = start(tcp={"cluster": "", "weighted": [("other", 1), ("service", 3)], "draw": lambda: next(draws)})
    for address in ("10.0.1.1:80", "10.0.1.1:80", "10.0.0.1:80", "10.0.0.1:80"):
        talk.connect()
        talk.expect_dial(address)


def test_weighted_clusters_of_a_route(start: Start) -> None:
    clusters = StreamTarget([("service", 1), ("other", 1)])
    routes = [AddressRoute(clusters, None, None, ["a.example"]), route("other", ANYWHERE, None)]
    talk = start(tcp={"cluster": "", "routes": routes, "draw": lambda: 0.7})
    talk.connect(tls=tls_info())
    talk.expect_dial("10.0.1.1:80")
    assert [session.cluster_name for session in talk.outcomes.exchanges] == []


def test_the_time_for_all_attempts_together(start: Start) -> None:
    talk = start(tcp={"connect_timeout": 2.0, "connect_attempts": 5}, hosts=TWO)
    client = talk.connect()
    client.sends(b"early")
    talk.advance(1.5)
    talk.refuse_dial("10.0.0.1:80")
    late = talk.hold_dial("10.0.0.2:80")
    talk.advance(0.4)
    assert client.is_open()
    talk.advance(0.2)
    assert client.is_reset()
    assert talk.reasons() == ["connect_timeout"]
    assert "no host within 2 s" in talk.outcomes.exchanges[0].failure_detail
    assert late.connects().is_reset()


def test_a_connected_host_ends_the_time_for_attempts(start: Start) -> None:
    talk = start(tcp={"connect_timeout": 2.0, "idle_timeout": 0.0})
    client = talk.connect()
    upstream = talk.expect_dial()
    talk.advance(60.0)
    upstream.sends(b"late")
    client.receives(b"late")


def test_routes_by_address(start: Start) -> None:
    there = End([ip_network("127.0.0.0/8")], [(2046, 2046)])
    routes = [
        route("nowhere", End([ip_network("192.0.2.0/30")], [(0, 65535)]), there),
        route("nowhere", ANYWHERE, End([ip_network("127.0.0.1/32")], [(80, 2045), (2047, 9999)])),
        route("other", ANYWHERE, there),
    ]
    talk = start(tcp={"cluster": "", "routes": routes})
    client = talk.connect("192.0.2.7")
    upstream = talk.expect_dial("10.0.1.1:80")
    client.sends(b"x")
    upstream.receives(b"x")
    assert talk.connect("192.0.2.2").is_reset()
    assert talk.connect("2001:db8::1").is_reset()
    assert talk.reasons() == ["cluster_unknown", "no_route"]


def test_the_same_client_comes_to_the_same_host(start: Start) -> None:
    hosts = [f"10.0.0.{number}:80" for number in range(1, 9)]
    talk = start(tcp={}, hosts=hosts, plan={"balancing": BalancingPlan("LB_MAGLEV")})
    chosen = set()
    for _ in range(4):
        talk.connect("192.0.2.9")
        dial = talk.dials.pop()
        chosen.add(dial.address)
        dial.connects()
    assert len(chosen) == 1


def test_balancers_count_it(start: Start) -> None:
    talk = start(tcp={}, hosts=TWO, plan={"balancing": BalancingPlan("LB_LEAST_REQUEST")})
    for _ in range(6):
        talk.connect()
        talk.dials.pop().connects()
    assert [int(host.active_requests) for host in talk.clusters.by_name["service"].hosts] == [3, 3]


def test_where_the_client_wanted_to_go(start: Start) -> None:
    talk = start(tcp={}, plan={"original": OriginalPlan()}, hosts=[])
    assert talk.connect().is_reset()
    assert talk.reasons() == ["no_hosts"]


@pytest.mark.plain_only
def test_a_connection_does_not_come_back_to_this_process(start: Start) -> None:
    talk = start(tcp={}, plan={"original": OriginalPlan()}, hosts=[])
    talk.maker.own.set_services([("192.0.2.9", 34901)])
    connection = talk.listener._accept()
    connection.original_destination = "192.0.2.9:34901"
    client = Peer(talk.loop, "client", "192.0.2.7", 40000, talk.one_byte)
    talk.clients.append(client)
    client.transport.carry(connection)
    talk.run_later()
    assert client.is_reset()
    assert talk.reasons() == ["loop"]
    talk.expect_no_dial()


MIXED: dict[str, Any] = {"protocols": ["Http1", "bolt", "boltv2"], "tcp": {}}


def test_unknown_bytes_go_to_it_with_those_read_before(start: Start) -> None:
    talk = start(**{**MIXED, "tcp": {"cluster": "other"}})
    client, upstream = talk.forwarded(b"SSH-2.0-x\r\n", address="10.0.1.1:80")
    upstream.sends(b"SSH-2.0-y\r\n")
    client.receives(b"SSH-2.0-y\r\n")
    caller, rpc = talk.forwarded(bolt.request(1))
    rpc.sends(bolt.response(1))
    caller.receives(bolt.response(1))
    client.shuts()
    upstream.shuts()
    assert [exchange.protocol for exchange in talk.outcomes.exchanges] == ["bolt", "tcp"]
    assert "reason_protocol_unknown" not in talk.counters()


def test_undecided_connections_go_to_it_in_time(start: Start) -> None:
    talk = start(**{**MIXED, "tcp": {"idle_timeout": 30.0}})
    silent, hesitant, leaver = talk.connect(), talk.connect(), talk.connect()
    hesitant.sends(b"G")
    leaver.sends(b"P")
    leaver.shuts()
    upstream = talk.expect_dial()
    upstream.receives(b"P")
    assert upstream.has_fin()
    upstream.sends(b"?")
    upstream.shuts()
    leaver.receives(b"?")
    assert leaver.is_closed()
    talk.expect_no_dial()
    talk.advance(15.1)
    first, second = talk.expect_dial(), talk.expect_dial()
    assert sorted((first.takes(), second.takes())) == [b"", b"G"]
    first.sends(b"hello")
    second.sends(b"hello")
    for client in (silent, hesitant):
        client.receives(b"hello")
    talk.advance(31.0)
    assert silent.is_closed()


def test_a_drain_while_a_connection_is_undecided(start: Start) -> None:
    talk = start(**{**MIXED, "tcp": {}})
    client = talk.connect()
    client.sends(b"G")
    talk.drain()
    client.sends(b"\x00")
    upstream = talk.expect_dial()
    upstream.receives(b"G\x00")


def test_a_connection_ends_when_it_is_old_whatever_it_does(start: Start) -> None:
    talk = start(tcp={"max_duration": 10.0})
    client = talk.connect()
    upstream = talk.expect_dial()
    talk.advance(9.0)
    upstream.sends(b"late")
    client.receives(b"late")
    talk.advance(1.1)
    assert client.is_closed()
    assert upstream.is_reset()
    assert talk.reasons() == ["max_connection_age"]
