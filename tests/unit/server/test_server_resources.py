"""When a worker collects garbage."""

from collections.abc import Callable

from pymosn.server.resources import GARBAGE_DELAY, MANY, GarbageCollection


class Later:
    """An event loop that waits for the test."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> object:
        self.waiting.append((delay, callback))
        return None

    def passes(self) -> None:
        for _, callback in [self.waiting.pop() for _ in range(len(self.waiting))]:
            callback()


def test_a_burst_of_changes_is_collected_once() -> None:
    later = Later()
    collected: list[str] = []
    garbage = GarbageCollection(later.call_later, collect=lambda: collected.append("once"))
    for _ in range(5):
        garbage.after_change()
    assert [delay for delay, _ in later.waiting] == [GARBAGE_DELAY]
    later.passes()
    assert collected == ["once"]
    garbage.after_change()
    later.passes()
    assert collected == ["once", "once"]


def test_many_objects_are_not_traversed_until_they_are_few_again() -> None:
    later = Later()
    done: list[str] = []
    size = [MANY + 1]
    garbage = GarbageCollection(
        later.call_later,
        lambda: size[0],
        collect=lambda: done.append("collect"),
        settle=lambda: done.append("settle"),
        freeze=lambda: done.append("freeze"),
    )
    for count in (MANY + 1, MANY + 1, MANY, MANY):
        size[0] = count
        garbage.after_change()
        later.passes()
    assert done == ["freeze", "freeze", "settle", "collect"], "what was left out is collected later"
