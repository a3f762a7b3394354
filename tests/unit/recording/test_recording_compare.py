"""What counts as a difference between a recorded response and another one."""

from __future__ import annotations

from typing import Any

import pytest

from pymosn.recording import Body, Outcome, compare
from pymosn.recording.bodies import body_without_secrets


def body(data: bytes, complete: bool = True, size: int = -1) -> Body:
    return Body(size=len(data) if size < 0 else size, data=data, complete=complete)


CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {}, []),
    ({"status": 200}, {"status": 404}, ["status: 200, now 404"]),
    ({"reset": "client_gone"}, {"reset": "closed"}, []),
    ({}, {"reset": "closed"}, ["end: complete, now closed"]),
    ({"headers": [["X-A", "1"]]}, {"headers": [["x-a", "1"]]}, []),
    ({"headers": [["x-a", "1"]]}, {"headers": [["x-a", "2"]]}, ["header x-a: '1', now '2'"]),
    ({"headers": [["x-a", "1"]]}, {}, ["header x-a: '1', now absent"]),
    ({}, {"headers": [["x-a", "1"], ["x-a", "2"]]}, ["header x-a: absent, now '1', '2'"]),
    ({"headers": [["date", "a"], ["x-request-id", "1"]]}, {"headers": [["date", "b"]]}, []),
    ({"headers": [["set-cookie", "***REDACTED***"]]}, {"headers": [["set-cookie", "sid=1"]]}, []),
    ({"headers": [["location", "/a?token=***REDACTED***"]]}, {"headers": [["location", "/a?token=5f"]]}, []),
    (
        {"headers": [["location", "/a?token=***REDACTED***"]]},
        {"headers": [["location", "/b?token=5f"]]},
        ["header location"],
    ),
    ({"headers": [["set-cookie", "***REDACTED***"]]}, {}, ["header set-cookie: '***REDACTED***', now absent"]),
    ({"headers": [["x-odd", "", "/w=="]]}, {"headers": [["x-odd", "", "/g=="]]}, ["header x-odd: '/w==', now '/g=='"]),
    ({"trailers": [["grpc-status", "0"]]}, {"trailers": [["grpc-status", "5"]]}, ["trailer grpc-status: '0', now '5'"]),
    ({"body": body(b"abc")}, {"body": body(b"abd")}, ["body from byte 2: b'abc', now b'abd'"]),
    ({"body": body(b"abc")}, {"body": body(b"abcd")}, ["body from byte 3: b'abc', now b'abcd'"]),
    ({"body": body(b"abc")}, {}, []),
    ({"body": body(b"ab", False, 5)}, {"body": body(b"abcde")}, []),
    ({"body": body(b"ab", False, 5)}, {"body": body(b"abcdef")}, ["body: 5 bytes, now 6 bytes"]),
    ({"body": body(b"ab", False, 5)}, {"body": body(b"axcde")}, ["body from byte 1"]),
    ({"body": body(b'{"a":1,"b":[1,2]}')}, {"body": body(b'{ "b": [1, 2.0], "a": 1 }')}, []),
    ({"body": body(b'{"a":1}')}, {"body": body(b'{"a":true}')}, ["body $.a: 1, now true"]),
    (
        {"body": body(b'{"a":{"b":1}}')},
        {"body": body(b'{"a":{"c":1}}')},
        ["body $.a.b: 1, now absent", "body $.a.c: absent"],
    ),
    ({"body": body(b"[1,2]")}, {"body": body(b"[1,3]")}, ["body $[1]: 2, now 3"]),
    ({"body": body(b"[1,2]")}, {"body": body(b"[1]")}, ["body $: [1, 2], now [1]"]),
    ({"body": body(b"[1,2")}, {"body": body(b"[1,3")}, ["body from byte 3"]),
]


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_differences(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    found = compare(Outcome(**{"status": 200, **before}), Outcome(**{"status": 200, **after}))
    assert len(found) == len(expected)
    for difference, text in zip(found, expected, strict=True):
        assert difference.text().startswith(text)


def test_only_some_paths_of_json_are_listed() -> None:
    before = body(b"[%b]" % b",".join(b"%d" % number for number in range(100)))
    after = body(b"[%b]" % b",".join(b"%d" % (number + 1) for number in range(100)))
    assert len(compare(Outcome(status=200, body=before), Outcome(status=200, body=after))) == 5


def test_nothing_is_ignored_if_asked() -> None:
    before, after = Outcome(status=200, headers=[["date", "a"]]), Outcome(status=200, headers=[["date", "b"]])
    assert [one.name for one in compare(before, after, ())] == ["date"]


def test_bodies_are_compared_and_shown_without_secrets() -> None:
    hidden = Outcome(status=200, body=body(b'{"token": "***REDACTED***", "a": 1}'))
    assert compare(hidden, Outcome(status=200, body=body(b'{"a":1,"token":"5f00"}'))) == []
    found = compare(hidden, Outcome(status=200, body=body(b'{"a":2,"token":"5f00"}')))
    assert [one.text() for one in found] == ["body $.a: 1, now 2"]
    [difference] = compare(Outcome(status=200, body=body(b"a")), Outcome(status=200, body=body(b"token=5f00&x=1")))
    assert "5f00" not in difference.text()


def test_the_beginning_of_a_body_without_its_secrets() -> None:
    whole = b"token=5f00ab&x=1&y=" + b"z" * 50
    kept = body_without_secrets(whole[:30], False)
    before = Outcome(status=200, body=Body(size=len(whole), data=kept, complete=False, kept=30))
    assert b"5f00ab" not in kept
    assert compare(before, Outcome(status=200, body=body(whole))) == []
    assert compare(before, Outcome(status=200, body=body(whole.replace(b"5f00ab", b"777777")))) == []
    assert len(compare(before, Outcome(status=200, body=body(whole.replace(b"x=1", b"x=2"))))) == 1


def test_binary_bodies_stay_as_they_are() -> None:
    assert body_without_secrets(b"\xff token=5f00ab") == b"\xff token=5f00ab"
    assert body_without_secrets("token=5f00ab é".encode()[:-1], False) == b"token=***REDACTED***"
