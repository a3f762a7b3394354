"""Ejected hosts: kept for a worker's replacement, and for the workers of the next generation."""

from collections.abc import Sequence

import msgspec
import pytest
from tests.kit import FakeClock

from pymosn.server.ejections import KnownEjections
from pymosn.server.messages import SetEjections
from pymosn.upstream.ejection import Ejection


class Stage:
    def __init__(self, size: int) -> None:
        self.clock = FakeClock(100.0)
        self.sent: list[tuple[int, SetEjections]] = []
        self.known = KnownEjections(size, self.clock, lambda worker_id, command: self.sent.append((worker_id, command)))

    def names(self) -> list[list[str]]:
        """The addresses by worker, in the order of their ids."""
        return [sorted(e[1] for _, command in self.sent for e in command.ejections if _ == i) for i in range(1, 5)]


def ejection(address: str, seconds: float = 30.0, times: int = 1, since: float = 0.0, cause: str = "") -> Ejection:
    return "c", address, seconds, times, since, cause


def test_a_replaced_worker_continues_with_the_time_that_is_left() -> None:
    stage = Stage(2)
    assert stage.known.commands(1) == []
    stage.known.note(1, [ejection("a", 30.0, 2), ejection("b", 0.0, 1, since=5.0)])
    stage.clock.now += 12.0
    assert stage.known.commands(1) == [SetEjections([ejection("a", 18.0, 2), ejection("b", 0.0, 1, since=17.0)])]
    stage.clock.now += 20.0
    assert stage.known.commands(1)[0].ejections[0] == ejection("a", 0.0, 2, since=2.0)
    assert stage.known.commands(2) == []
    stage.known.note(1, [])
    assert stage.known.commands(1) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a", "b"], 2, [["a"], ["b"], [], []]),
        (["a", "b"], 4, [["a"], ["b"], ["a"], ["b"]]),
        (["a", "b", "c"], 1, [["a", "b", "c"], [], [], []]),
        (["a", "b", "c"], 2, [["a", "c"], ["b"], [], []]),
        (["a", "b"], 3, [["a"], ["b"], ["a"], []]),
    ],
)
def test_the_next_generation_continues_them_with_any_number_of_workers(
    old: Sequence[str], new: int, expected: list[list[str]]
) -> None:
    before, after = Stage(len(old)), Stage(new)
    for worker_id, address in enumerate(old, 1):
        before.known.note(worker_id, [ejection(address)])
    before.clock.now += 10.0
    content = before.known.export()
    assert content is not None
    after.known.adopt(content)
    assert after.names() == expected
    assert {e[2] for _, command in after.sent for e in command.ejections} == {20.0}
    # A worker that starts later gets them, too.
    assert [[e[1] for c in after.known.commands(1) for e in c.ejections]] == [sorted(expected[0])]


def test_without_ejections_nothing_is_carried() -> None:
    stage = Stage(2)
    stage.known.note(1, [])
    assert stage.known.export() is None
    stage.known.adopt(msgspec.msgpack.encode([]))
    assert stage.sent == []


def test_later_versions_may_add_values() -> None:
    stage = Stage(1)
    stage.known.adopt(msgspec.msgpack.encode([[["c", "a", 30.0, 1, 0.0, "", "more"]]]))
    assert stage.sent == [(1, SetEjections([ejection("a")]))]
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        stage.known.adopt(msgspec.msgpack.encode([[["c", "a"]]]))


def test_the_next_generation_knows_the_cause_and_earlier_versions_did_not_send_it() -> None:
    stage = Stage(1)
    stage.known.adopt(msgspec.msgpack.encode([[["c", "a", 30.0, 1, 0.0, "error rate"], ["c", "b", 30.0, 1, 0.0]]]))
    assert stage.sent == [(1, SetEjections([ejection("a", cause="error rate"), ejection("b")]))]


def test_why_a_host_is_ejected() -> None:
    stage = Stage(2)
    stage.known.note(1, [ejection("a", 30.0, cause="consecutive errors"), ejection("b", 0.0, since=5.0, cause="error rate")])
    stage.clock.now += 10.0
    stage.known.note(2, [ejection("a", 25.0, cause="consecutive errors"), ejection("d")])
    assert stage.known.text("c", "a") == "consecutive errors, 25 s left"
    assert stage.known.text("c", "b") == "", "it is back"
    assert stage.known.text("c", "d") == "failed requests, 30 s left"
    assert stage.known.text("other", "a") == ""
    stage.known.note(2, [ejection("a", 25.0, cause="error rate")])
    assert stage.known.text("c", "a") == "consecutive errors, 20 s left; error rate, 25 s left"
