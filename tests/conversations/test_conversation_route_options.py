"""What routes may say beyond MOSN's keys: times, statuses, clusters with settings of their own, attempts, copies."""

import msgspec
import pytest
from tests.kit import OK, Start

from pymosn.assembly.routes import build_table
from pymosn.config.schema import RouterConfiguration
from pymosn.routing.table import RouteTable

pytestmark = pytest.mark.also_h2

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HOSTS = ("10.0.0.1:80", "10.0.0.2:80")
FAILED = b"HTTP/1.1 503 Service Unavailable\r\nDate: d\r\nContent-Length: 0\r\n\r\n"


def table(*routes: dict[str, object], **host: object) -> RouteTable:
    source = {"name": "v", "domains": ["*"], "routers": list(routes), **host}
    return build_table(msgspec.convert({"router_config_name": "t", "virtual_hosts": [source]}, RouterConfiguration))


def to_service(**action: object) -> dict[str, object]:
    return {"route": {"cluster_name": "service", **action}}


def set_field(name: str, value: str) -> dict[str, object]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_status_for_an_unknown_cluster(start: Start, status: int) -> None:
    talk = start(table=table({"route": {"cluster_name": "none", "cluster_not_found_response_code": status}}))
    client = talk.connect()
    client.sends(GET)
    assert f"HTTP/1.1 {status} ".encode() in client.takes()
    assert talk.reasons() == ["cluster_unknown"]


def test_the_longest_exchange(start: Start) -> None:
    talk = start(table=table(to_service(no_timeout=True, max_stream_duration=5.0)))
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(4.0)
    assert talk.reasons() == []
    talk.advance(1.5)
    assert b" 504 " in client.takes()
    assert talk.reasons() == ["deadline_exceeded"]


@pytest.mark.parametrize(("of_route", "limit"), [({}, 3.0), ({"max_stream_duration": 5.0}, 5.0)])
def test_the_longest_exchange_of_the_listener(start: Start, of_route: dict[str, float], limit: float) -> None:
    """The route's limit is used instead."""
    talk = start(table=table(to_service(no_timeout=True, **of_route)), longest_exchange=3.0)
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(limit - 0.5)
    assert talk.reasons() == []
    talk.advance(1.0)
    assert b" 504 " in client.takes()
    assert talk.reasons() == ["deadline_exceeded"]


def test_a_route_without_a_limit_of_the_exchange(start: Start) -> None:
    talk = start(table=table(to_service(no_timeout=True, max_stream_duration=0.0)), longest_exchange=3.0)
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(10.0)
    upstream.sends(OK)
    client.receives(OK)


def test_no_timeout_leaves_the_idle_timeout_of_the_route(start: Start) -> None:
    talk = start(table=table(to_service(no_timeout=True, idle_timeout=400.0)))
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(399.0)
    assert talk.reasons() == []
    upstream.sends(OK)
    client.receives(OK)


def test_the_number_of_the_attempt(start: Start) -> None:
    route = to_service(retry_policy={"retry_on": True, "num_retries": 2})
    talk = start(table=table(route, include_request_attempt_count=True), hosts=HOSTS)
    client, first = talk.opening(GET)
    first.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 1\r\n\r\n")
    first.sends(FAILED)
    second = talk.expect_dial("10.0.0.2:80")
    second.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 2\r\n\r\n")
    second.sends(OK)
    client.receives(OK)


def test_a_weighted_cluster_has_settings_of_its_own(start: Start) -> None:
    cluster = {
        "name": "service",
        "weight": 1,
        "host_rewrite": "inner",
        "request_headers_to_add": [set_field("x-cluster", "s")],
        "response_headers_to_add": [set_field("x-from", "s")],
    }
    route = {"route": {"weighted_clusters": [{"cluster": cluster}, {"cluster": {"name": "other", "weight": 0}}]}}
    talk = start(table=table(route))
    client, upstream = talk.opening(GET)
    upstream.receives(b"GET / HTTP/1.1\r\nHost: inner\r\nx-cluster: s\r\n\r\n")
    upstream.sends(OK)
    assert b"x-from: s\r\n" in client.takes()


@pytest.mark.parametrize(
    ("host", "marked"),
    [(b"a:81", b"a-shadow:81"), (b"A:", b"a-shadow"), (b"127.0.0.1", b"127.0.0.1-shadow"), (b"[::1]:81", b"[::1]:81")],
)
def test_the_host_of_a_copy_is_marked(start: Start, host: bytes, marked: bytes) -> None:
    mirror = {"cluster": "other", "percent": 100, "shadow_host_suffix": True}
    talk = start(table=table({**to_service(), "request_mirror_policies": mirror}))
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    upstream, other = talk.expect_dial(), talk.expect_dial("10.0.1.1:80")
    upstream.receives(b"GET / HTTP/1.1\r\nHost: " + host.replace(b"A:", b"a") + b"\r\n\r\n")
    other.receives(b"GET / HTTP/1.1\r\nHost: " + marked + b"\r\n\r\n")
    upstream.sends(OK)
    client.receives(OK)
    other.sends(OK)
