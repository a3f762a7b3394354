"""MOSN's metrics and log lines of what happened: who ended a connection, and which request a line is about."""

import re

import pytest
from tests.kit import GET, OK, Peer, Start, Talk, forward
from tests.kit import bolt_frames as bolt
from tests.kit.bolt_session import BOLT
from tests.kit.bolt_session import begin as begin_bolt
from tests.kit.h2_frames import frame
from tests.kit.h2_peers import h2_upstream
from tests.kit.options import http_options

from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.core.histograms import HistogramData
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.protocol.http2.frames import CANCEL, GOAWAY
from pymosn.routing.actions import Forward, ForwardOptions
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.plan import BalancingPlan, SubsetPlan

ENDS = (
    *("connection_local_close", "connection_remote_close", "connection_local_close_with_active_request"),
    *("connection_remote_close_with_active_request", "connection_close_notify", "connection_retry"),
    *("request_failure_eject", "request_remote_reset"),
)
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
LOST = {"connection_remote_close": 1, "connection_remote_close_with_active_request": 1, "request_failure_eject": 1}
TRACE = r"\d{16}"


def counted(talk: Talk) -> dict[str, int]:
    """Those of ENDS that are not 0."""
    return {key: number for key, number in talk.upstream_counters().items() if key in ENDS}


def only_alert(talk: Talk) -> tuple[str, str]:
    """The key of the one line that has one, and its text."""
    [found] = [(alert, line) for alert, line in zip(talk.log.alerts, talk.log.lines, strict=True) if alert]
    return found


def opened(talk: Talk, text: bytes = GET) -> tuple[Peer, Peer]:
    """A client has sent a request, and the host has got it."""
    client, upstream = talk.opening(text)
    upstream.takes()
    return client, upstream


# ---- who ended a connection


def test_the_host_closes_an_idle_connection(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(OK)
    client.takes()
    upstream.shuts()
    assert counted(talk) == {"connection_remote_close": 1}


@pytest.mark.parametrize("how", ["shuts", "resets"])
def test_the_host_closes_with_a_request(start: Start, how: str) -> None:
    talk = start()
    client, upstream = opened(talk)
    getattr(upstream, how)()
    client.takes()
    assert counted(talk) == LOST


def test_the_host_announces_its_end(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(LAST)
    client.takes()
    assert counted(talk) == {"connection_local_close": 1, "connection_close_notify": 1}


def test_the_host_is_too_late(start: Start) -> None:
    talk = start(routes=forward(timeout=2.0))
    client, _ = opened(talk)
    talk.advance(3.0)
    client.takes()
    assert counted(talk) == {"connection_local_close": 1, "connection_local_close_with_active_request": 1}


def test_the_host_of_bolt_closes_with_two_requests(start: Start) -> None:
    """One connection, and two requests that are lost with it."""
    talk, client, upstream = begin_bolt(start)
    client.sends(bolt.request(7) + bolt.request(8))
    upstream.takes()
    upstream.shuts()
    client.takes()
    assert counted(talk) == LOST | {"request_failure_eject": 2}


def test_the_host_of_bolt_announces_its_end(start: Start) -> None:
    talk, client, upstream = begin_bolt(start)
    upstream.sends(bolt.goaway(3))
    assert counted(talk) == {"connection_local_close": 1, "connection_close_notify": 1}
    client.resets()


def begin_h2(start: Start) -> Talk:
    talk = start(plan={"upstream_protocol": "Http2"})
    talk.connect().sends(GET)
    return talk


@pytest.mark.whole_only
def test_a_host_of_http2_resets_a_stream_and_keeps_the_connection(start: Start) -> None:
    talk = begin_h2(start)
    upstream = h2_upstream(talk.expect_dial())
    upstream.resets_stream(upstream.takes_stream(), int(CANCEL))
    talk.clients[0].takes()
    assert counted(talk).get("request_remote_reset", 0) >= 1
    assert "request_failure_eject" not in counted(talk)
    assert "connection_remote_close" not in counted(talk)


@pytest.mark.whole_only
def test_a_host_of_http2_announces_its_end(start: Start) -> None:
    talk = begin_h2(start)
    upstream = h2_upstream(talk.expect_dial())
    stream = upstream.takes_stream()
    upstream.sends(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)))
    upstream.responds(stream, 200, [(b"date", b"d"), (b"content-length", b"2")], b"ok")
    talk.clients[0].takes()
    assert counted(talk) == {"connection_local_close": 1, "connection_close_notify": 1}


@pytest.mark.whole_only
def test_a_host_of_http2_closes_with_a_request(start: Start) -> None:
    talk = begin_h2(start)
    upstream = h2_upstream(talk.expect_dial())
    upstream.takes_stream()
    upstream.peer.resets()
    talk.clients[0].takes()
    assert counted(talk) == LOST


def test_tcp_proxy_tries_another_host(start: Start) -> None:
    talk = start(tcp={}, hosts=["10.0.0.1:80", "10.0.0.2:80"])
    client = talk.connect()
    talk.refuse_dial("10.0.0.1:80")
    upstream = talk.expect_dial("10.0.0.2:80")
    upstream.shuts()
    client.shuts()
    assert counted(talk) == {"connection_retry": 1, "connection_remote_close": 1}


# ---- subsets


def test_a_request_without_its_subset(start: Start) -> None:
    forwards = Forward("service", 60.0, ForwardOptions(subset=(("stage", "b"),)))
    plan = {"balancing": BalancingPlan(subset=SubsetPlan((("stage",),), fallback=1))}
    talk = start(routes=[Route("all", AnyRequest(), forwards)], plan=plan)
    client, upstream = opened(talk)
    upstream.sends(OK)
    client.takes()
    assert talk.upstream_counters()["lb_subsets_fallback"] == 1


# ---- times


def test_the_time_of_the_proxy_is_not_that_of_the_host(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    talk.advance(2.0)
    upstream.sends(OK)
    client.takes()
    [exchange] = talk.outcomes.exchanges
    assert exchange.elapsed() == pytest.approx(2.0, abs=0.1)
    assert exchange.processing_time() == pytest.approx(0.0, abs=0.1)
    histograms = talk.metrics.group("downstream", ("listener", "l")).data()["histograms"]
    assert histograms["request_time"]["sum"] == pytest.approx(2.0, abs=0.1)
    assert histograms["process_time"]["sum"] == pytest.approx(0.0, abs=0.1)
    assert histograms["process_time"]["count"] == 1


def times(talk: Talk, key: str) -> HistogramData:
    """The histogram of the listener."""
    return talk.metrics.group("downstream", ("listener", "l")).data()["histograms"][key]


def test_a_host_that_sends_slowly_is_waited_for(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    talk.advance(2.0)
    upstream.sends(b"def")
    client.takes()
    assert times(talk, "request_time")["sum"] == pytest.approx(2.0, abs=0.1)
    assert times(talk, "process_time")["sum"] == pytest.approx(0.0, abs=0.1)


def test_a_host_that_answers_early_is_waited_for(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    talk.advance(2.0)
    upstream.sends(OK)
    client.takes()
    assert times(talk, "request_time")["sum"] == pytest.approx(2.0, abs=0.1)
    assert times(talk, "process_time")["sum"] == pytest.approx(0.0, abs=0.1)


def test_a_host_that_breaks_off_was_waited_for(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    talk.advance(2.0)
    upstream.resets()
    client.takes()
    assert times(talk, "process_time")["sum"] == pytest.approx(0.0, abs=0.1)


def test_a_connection_that_is_not_made_is_waited_for(start: Start) -> None:
    talk = start()
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    talk.advance(2.0)
    client.resets()
    dial.connects()
    assert times(talk, "request_time")["sum"] == pytest.approx(2.0, abs=0.1)
    assert times(talk, "process_time")["sum"] == pytest.approx(0.0, abs=0.1)


UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("ends", ["shuts", "resets"])
@pytest.mark.parametrize("connect", [b"", CONNECT, CONNECT_HERE])
def test_the_time_of_a_tunnel_ends_with_its_opening(start: Start, connect: bytes, ends: str) -> None:
    talk = start(http1=http_options(connect=connect))
    asked = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" if connect else b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE
    agreed = b"HTTP/1.1 200 OK\r\n\r\n" if connect else b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE
    client, upstream = talk.opening(asked)
    if connect != CONNECT_HERE:
        upstream.takes()
        talk.advance(1.0)
        upstream.sends(agreed)
    client.takes()
    talk.advance(5.0)
    getattr(client, ends)()
    if ends == "shuts":
        upstream.shuts()
    assert times(talk, "request_time")["sum"] == pytest.approx(0.0 if connect == CONNECT_HERE else 1.0, abs=0.1)
    assert times(talk, "process_time")["sum"] == pytest.approx(0.0, abs=0.1)


def test_a_duration_before_the_end_is_read_from_the_clock(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(OK)
    client.takes()
    [exchange] = talk.outcomes.exchanges
    exchange.finished = 0.0
    talk.clock.now = exchange.started + 0.5
    assert exchange.variable("duration") == "500ms"
    assert exchange.variable("request_finished_duration") == "0s"


# ---- ids


def test_ids_are_made_once(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk, GET + GET)
    upstream.sends(OK)
    upstream.takes()
    upstream.sends(OK)
    client.takes()
    first, second = talk.outcomes.exchanges
    for name in ("trace_id", "stream_id"):
        assert first.variable(name) == first.variable(name)
        assert first.variable(name) != second.variable(name)


def test_the_stream_of_bolt_has_the_id_of_the_client(start: Start) -> None:
    talk = start(**BOLT)
    client, upstream = opened(talk, bolt.request(77))
    upstream.sends(bolt.response(1))
    client.takes()
    assert talk.outcomes.exchanges[0].variable("stream_id") == "77"


def test_the_length_of_a_request_is_what_came(start: Start) -> None:
    talk = start(x_forwarded=True)
    head = b"POST /a?b HTTP/1.1\r\nHost:   a\r\nConnection: x-own\r\nX-Own: 1\r\nContent-Length: 5\r\n\r\n"
    client, upstream = opened(talk, head + b"hello")
    upstream.sends(OK)
    client.takes()
    assert talk.outcomes.exchanges[0].variable("Http1_request_length") == str(len(head) + 5)


# ---- lines


def test_an_alert_has_the_ids_of_the_request(start: Start) -> None:
    talk = start(routes=[Route("all", AnyRequest(), Forward("absent", 1.0))])
    client = talk.connect()
    client.sends(GET)
    client.takes()
    alert, line = only_alert(talk)
    [exchange] = talk.outcomes.exchanges
    assert alert == "mosn.proxy.cluster_get_failed"
    assert line.startswith(f"[{exchange.connection_id},-,{exchange.variable('trace_id')}] ")
    assert re.match(rf"\[\d+,-,{TRACE}\] 404 cluster_unknown \(absent\): ", line)


def test_a_cluster_without_hosts_is_an_alert(start: Start) -> None:
    talk = start(hosts=[])
    client = talk.connect()
    client.sends(GET)
    client.takes()
    assert only_alert(talk)[0] == "mosn.proxy.upstream_conn_failed"


def test_a_response_that_is_none_is_an_alert(start: Start) -> None:
    talk = start()
    client, upstream = opened(talk)
    upstream.sends(b"nonsense\r\n\r\n")
    client.takes()
    alert, line = only_alert(talk)
    assert alert == "mosn.proxy.codec_error"
    assert re.match(rf"\[\d+,\d+,{TRACE}\] 502 bad_response ", line)


def test_frames_that_cannot_be_decoded_do_not_fill_the_log(start: Start) -> None:
    talk = start(**BOLT)
    for seconds in (0.0, 0.1, 0.1, 1.0):
        talk.advance(seconds)
        client = talk.connect()
        client.sends(b"\x01\x09" * 20)
        client.takes()
    lines = [line for alert, line in zip(talk.log.alerts, talk.log.lines, strict=True) if alert == "mosn.proxy.codec_error"]
    assert len(lines) == 2
    assert lines[1].endswith(" (2 more like it before)")


def test_a_connection_of_tcp_proxy_without_hosts_is_an_alert(start: Start) -> None:
    talk = start(tcp={}, hosts=[])
    talk.connect()
    alert, line = only_alert(talk)
    assert alert == "mosn.proxy.upstream_conn_failed"
    assert re.match(rf"\[\d+,-,{TRACE}\] tcp_proxy l to service: no_hosts ", line)


def test_a_host_that_cannot_be_reached_is_no_alert(start: Start) -> None:
    """As in MOSN: the alert is for clusters that have no host to try."""
    talk = start()
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    client.takes()
    assert CONNECT_REFUSED.alert == ""
    assert not any(talk.log.alerts)
