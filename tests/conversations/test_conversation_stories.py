"""The stories of failed and slow exchanges: which are kept, what they have, and what they do not show."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.kit import GET, Start, Talk
from tests.kit.bolt_frames import request as bolt_request

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.proxy.stories import NEVER_SLOW, RATE, SHORTEST
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest

OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]


def begun(start: Start, failed: int = 10, slow: int = 10, window: float = 300.0, **options: Any) -> Talk:
    talk = start(**options)
    talk.runtime.stories.set_limits(failed, slow, window)
    return talk


@pytest.mark.also_h2
def test_a_failed_exchange_has_its_whole_story(start: Start) -> None:
    retries = ForwardOptions(retry_policy=RetryPolicy(True, 1))
    routes = [Route("table/everything/0", AnyRequest(), Forward("service", 60.0, retries))]
    talk = begun(start, hosts=HOSTS, routes=routes)
    client, first = talk.opening(b"GET /orders?id=7&access_token=abc123 HTTP/1.1\r\nHost: shop.example\r\n\r\n", HOSTS[0])
    first.takes()
    talk.advance(0.25)
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.takes()
    talk.advance(0.5)
    second.sends(BUSY)
    client.takes()
    [story] = talk.runtime.stories.newest_failed(10)
    assert (story["method"], story["host"], story["status"], story["reason"]) == ("GET", "shop.example", 503, "")
    assert story["path"] == "/orders?id=7&access_token=***REDACTED***"
    assert (story["listener"], story["client"], story["route"]) == ("l", "192.0.2.7", "table/everything/0")
    assert (story["cluster"], story["upstream"], story["is_local"]) == ("service", HOSTS[1], False)
    attempts = story["attempts"]
    assert isinstance(attempts, list)
    assert [(each["address"], each["status"], each["reason"]) for each in attempts] == [
        (HOSTS[0], 0, "reset_before_response"),
        (HOSTS[1], 503, ""),
    ]
    assert 0.25 <= attempts[0]["duration"] < 0.4
    assert 0.25 <= attempts[1]["offset"] < 0.4
    timings = story["timings"]
    assert isinstance(timings, dict)
    assert 0.0 <= timings["received"] <= timings["sent"] <= timings["attempt"] <= timings["response"] <= timings["finished"]
    assert timings["finished"] == story["duration"]


def test_a_local_failure_names_its_reason(start: Start) -> None:
    talk = begun(start, slow=0)
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    client.takes()
    [story] = talk.runtime.stories.newest_failed(10)
    assert (story["status"], story["reason"], story["is_local"]) == (502, "connect_refused", True)
    assert [each["reason"] for each in story["attempts"]] == ["connect_refused"]  # type: ignore[attr-defined]
    assert story["timings"]["response"] is None  # type: ignore[index]


class Busy(StreamFilter):
    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(503, "busy")


class Broken(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize(("kind", "status", "reason"), [(Busy, 503, ""), (Broken, 500, "filter_error")])
def test_the_filter_that_replied_is_named(start: Start, kind: type[StreamFilter], status: int, reason: str) -> None:
    talk = begun(start, filters={"first": StreamFilter(None), "mine": kind(None)})
    client = talk.connect()
    client.sends(GET)
    client.takes()
    [story] = talk.runtime.stories.newest_failed(10)
    assert (story["status"], story["reason"], story["replied_by"]) == (status, reason, "mine")
    assert story["filters"] == ["first", "mine"]
    assert story["attempts"] == []


def exchange(talk: Talk, seconds: float) -> None:
    client, upstream = talk.opening(GET)
    upstream.takes()
    talk.advance(seconds)
    upstream.sends(OK.replace(b"Date", b"Connection: close\r\nDate"))
    client.takes()


@pytest.mark.whole_only
def test_only_the_slowest_are_kept(start: Start) -> None:
    talk = begun(start, slow=2)
    for seconds in (1.0, 3.0, 2.0, 0.5):
        exchange(talk, seconds)
    stories = talk.runtime.stories
    slowest = stories.slowest(10)
    assert [round(float(str(story["duration"]))) for story in slowest] == [3, 2]
    assert 2.0 <= stories.threshold < 2.5
    assert stories.newest_failed(10) == []
    assert len(stories.slowest(1)) == 1


@pytest.mark.whole_only
def test_slow_exchanges_are_forgotten_after_the_window(start: Start) -> None:
    talk = begun(start, slow=1, window=60.0)
    exchange(talk, 2.0)
    stories = talk.runtime.stories
    assert stories.threshold > 0.0
    talk.clock.now += 61.0
    stories.expire()
    assert stories.slowest(10) == []
    assert stories.threshold == SHORTEST


@pytest.mark.whole_only
def test_failures_are_kept_in_number_and_per_second(start: Start) -> None:
    talk = begun(start, failed=3, filters={"busy": Busy(None)})
    client = talk.connect()
    many = int(RATE) + 20
    for number in range(many):
        client.sends(GET.replace(b"GET / ", b"GET /%d " % number))
    client.takes()
    stories = talk.runtime.stories
    last = int(RATE) - 1
    assert [story["path"] for story in stories.newest_failed(10)] == [f"/{last}", f"/{last - 1}", f"/{last - 2}"]
    assert stories.missed == 20
    talk.clock.now += 1.0
    client.sends(GET)
    client.takes()
    assert stories.newest_failed(1)[0]["path"] == "/"


@pytest.mark.whole_only
def test_nothing_is_kept_when_turned_off(start: Start) -> None:
    talk = begun(start, failed=0, slow=0, filters={"busy": Busy(None)})
    client = talk.connect()
    client.sends(GET)
    client.takes()
    stories = talk.runtime.stories
    assert stories.report(10) == ([], [], 0)
    assert stories.threshold == NEVER_SLOW


@pytest.mark.whole_only
def test_smaller_limits_keep_the_slowest_and_the_newest(start: Start) -> None:
    talk = begun(start)
    for seconds in (1.0, 3.0, 2.0):
        exchange(talk, seconds)
    stories = talk.runtime.stories
    stories.set_limits(1, 1, 300.0)
    assert [round(float(str(story["duration"]))) for story in stories.slowest(10)] == [3]
    assert stories.threshold >= 3.0


@pytest.mark.whole_only
def test_a_call_of_an_rpc_protocol(start: Start) -> None:
    talk = begun(start, protocols=["bolt"], upstream_protocol="bolt")
    client = talk.connect()
    client.sends(bolt_request(7, headers={"service": "com.shop.Orders", "sofa_head_method_name": "list"}))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.resets()
    client.takes()
    [story] = talk.runtime.stories.newest_failed(10)
    assert (story["protocol"], story["path"], story["method"]) == ("bolt", "com.shop.Orders", "list")
    assert story["reason"] == "reset_before_response"


@pytest.mark.whole_only
def test_names_of_any_bytes_do_not_break_the_views(start: Start) -> None:
    talk = begun(start, protocols=["bolt"], upstream_protocol="bolt")
    client = talk.connect()
    names: dict[str, str | None] = {"service": "SERVICE", "sofa_head_method_name": "METHOD"}
    client.sends(bolt_request(7, headers=names).replace(b"SERVICE", b"SE\xff\x9bICE").replace(b"METHOD", b"ME\xffHOD"))
    upstream = talk.expect_dial()
    upstream.takes()
    upstream.resets()
    client.takes()
    [story] = talk.runtime.stories.newest_failed(10)
    assert (story["path"], story["method"]) == (r"SE\udcff\udc9bICE", r"ME\udcffHOD")
    msgspec.msgpack.encode(story)
