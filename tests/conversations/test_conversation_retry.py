"""Requests that are tried again: what for, how often, and what the client sees of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rig import Talk

from pymosn.api.routing import Route
from pymosn.routing.actions import Forward, ForwardOptions, RetryPolicy
from pymosn.routing.matchers import AnyRequest

Start = Callable[..., Talk]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nDate: today\r\nContent-Length: 4\r\n\r\nbusy"
HOSTS = ["10.0.0.1:80", "10.0.0.2:80"]


def routes(policy: RetryPolicy | None) -> list[Route]:
    return [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(retry_policy=policy)))]


def talk_with(start: Start, policy: RetryPolicy | None, hosts: list[str] | None = None, **plan: object) -> Talk:
    return start(routes=routes(policy), hosts=HOSTS if hosts is None else hosts, **plan)


def test_off_means_off(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(False, 3))
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial(HOSTS[0])
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["connect_refused"]


def test_a_reset_is_tried_at_the_other_host(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    client = talk.connect()
    client.sends(GET)
    first = talk.expect_dial(HOSTS[0])
    first.receives(GET)
    first.resets()
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize("codes", [frozenset(), frozenset({503})], ids=["any 5xx", "listed"])
def test_a_status_is_tried_at_the_other_host(start: Start, codes: frozenset[int]) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 0.0, codes))
    client = talk.connect()
    client.sends(GET)
    first = talk.expect_dial(HOSTS[0])
    first.receives(GET)
    first.sends(BUSY)
    second = talk.expect_dial(HOSTS[1])
    second.receives(GET)
    second.sends(OK)
    client.receives(OK)


def test_a_status_that_is_not_listed_is_the_answer(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 0.0, frozenset({502})))
    client = talk.connect()
    client.sends(GET)
    first = talk.expect_dial(HOSTS[0])
    first.receives(GET)
    first.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()


def test_the_last_answer_stands_when_the_number_is_used_up(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1))
    client = talk.connect()
    client.sends(GET)
    for host in HOSTS:
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.sends(BUSY)
    client.receives(BUSY)
    talk.expect_no_dial()


def test_a_try_has_its_own_time(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 1, 2.0))
    client = talk.connect()
    client.sends(GET)
    slow = talk.expect_dial(HOSTS[0])
    slow.receives(GET)
    talk.advance(2.1)
    other = talk.expect_dial(HOSTS[1])
    other.receives(GET)
    other.sends(OK)
    client.receives(OK)
    assert slow.is_reset()


def test_a_second_retry_waits_a_little(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 2))
    client = talk.connect()
    client.sends(GET)
    for host in HOSTS:
        upstream = talk.expect_dial(host)
        upstream.receives(GET)
        upstream.resets()
    talk.advance(0.3)
    third = talk.expect_dial(HOSTS[0])
    third.receives(GET)
    third.sends(OK)
    client.receives(OK)


def test_a_post_that_was_sent_is_not_sent_twice(start: Start) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    talk = talk_with(start, RetryPolicy(True, 3))
    client = talk.connect()
    client.sends(post)
    first = talk.expect_dial(HOSTS[0])
    first.receives(post)
    first.resets()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    talk.expect_no_dial()
    assert talk.reasons() == ["reset_before_response"]


def test_a_reply_that_has_begun_is_not_tried_again(start: Start) -> None:
    talk = talk_with(start, RetryPolicy(True, 3))
    client = talk.connect()
    client.sends(GET)
    first = talk.expect_dial(HOSTS[0])
    first.receives(GET)
    first.sends(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\nhalf")
    first.resets()
    client.receives(b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 9\r\n\r\nhalf")
    assert client.is_reset()
    talk.expect_no_dial()
    assert talk.reasons() == ["reset_after_response"]
