"""When a worker collects garbage, and the memory that it keeps."""

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest

from pymosn.server.resources import FULL_EACH, GARBAGE_DELAY, MANY, GarbageCollection, LargeConfiguration


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


def test_cycles_that_were_set_aside_are_collected_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda *generation, name=name: calls.append(f"{name}{generation or ''}"))
    large = LargeConfiguration()
    for _ in range(FULL_EACH - 1):
        large.set_aside()
    assert calls == ["collect(1,)", "freeze"] * (FULL_EACH - 1)
    calls.clear()
    large.set_aside()
    assert calls == ["unfreeze", "collect", "freeze"]


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no such parameters")
@pytest.mark.parametrize(("prepare", "least", "most"), [("", 200, 100_000), ("resources.keep_freed()", 0, 100)])
def test_blocks_of_bodies_cause_no_page_faults(prepare: str, least: int, most: int) -> None:
    code = f"""
from resource import RUSAGE_SELF, getrusage
from pymosn.server import resources
{prepare}
def burst(size):
    return [bytearray(size) for _ in range(8)]
burst(256 << 10), burst(64 << 10)
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(10):
    burst(256 << 10), burst(64 << 10)
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert least <= int(done.stdout) <= most


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators return memory by themselves, or never")
def test_memory_between_blocks_in_use_is_returned() -> None:
    code = """
from pymosn.server.resources import Statm, keep_freed, trim
keep_freed()
blocks = [bytearray(20_000) for _ in range(3000)]
kept = blocks[::50]
statm = Statm()
full = statm.rss()
del blocks
freed = statm.rss()
trim()
print(full - freed >> 20, full - statm.rss() >> 20)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    without, with_trim = map(int, done.stdout.split())
    assert without < 10
    assert with_trim > 40
