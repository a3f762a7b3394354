"""The watchdog: a blocked loop is detected, with the line where it is blocked."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator

import pytest

from pymosn.server.resources import trace_allocations
from pymosn.server.watchdog import Frame, Watchdog, frames, take_stack

DUMP = """Timeout (0:00:01)!
Thread 0x00007f0000000001 (most recent call first):
  File "/lib/threading.py", line 320 in wait
Thread 0x00007f0000000002 (most recent call first):
  File "/home/me/my filters.py", line 7 in slow
  File "/home/me/my filters.py", line 12 in on_request
  File "<string>", line 1 in <module>
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = os.memfd_create("test")
    yield made
    os.close(made)


def test_frames_of_a_thread() -> None:
    slow = [Frame("/home/me/my filters.py", 7, "slow"), Frame("/home/me/my filters.py", 12, "on_request")]
    assert frames(DUMP, 0x7F0000000002) == [*slow, Frame("<string>", 1, "<module>")]
    assert frames(DUMP, 0x7F0000000001) == [Frame("/lib/threading.py", 320, "wait")]
    assert frames(DUMP)[:2] == slow, "the last thread is the first one of the process"
    assert frames("") == []
    assert slow[0].text() == "/home/me/my filters.py:7 in slow"


def test_a_stack_is_taken_once(descriptor: int) -> None:
    assert take_stack(descriptor) == ""
    os.write(descriptor, b"one")
    assert take_stack(descriptor) == "one"
    assert take_stack(descriptor) == ""
    os.write(descriptor, b"two")
    assert take_stack(descriptor) == "two"


def holds_up(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_blocked_loop(descriptor: int) -> None:
    seen: list[tuple[float, list[Frame]]] = []
    told = asyncio.Event()

    def on_blocked(seconds: float, stack: list[Frame]) -> None:
        seen.append((seconds, stack))
        told.set()

    async def run() -> None:
        watchdog = Watchdog(asyncio.get_running_loop(), descriptor, on_blocked, limit=0.2)
        watchdog.start()
        await asyncio.sleep(0)
        holds_up(0.6)
        await asyncio.wait_for(told.wait(), 5)
        watchdog.stop()

    threads = threading.active_count()
    asyncio.run(run())
    seconds, stack = seen[0]
    assert seconds >= 0.6
    assert stack[0].function == "holds_up"
    assert stack[0].file == __file__
    assert threading.active_count() <= threads + 1


def test_allocations_of_some_files() -> None:
    kept: list[bytearray] = []

    async def run() -> list[tuple[str, int, int]]:
        asyncio.get_running_loop().call_later(0.01, lambda: kept.append(bytearray(100_000)))
        return await trace_allocations(0.1, [__file__])

    found = asyncio.run(run())
    assert found[0][0].startswith(f"{__file__}:")
    assert found[0][1] >= 100_000
    assert len(kept) == 1


def test_allocations_without_filters() -> None:
    assert asyncio.run(trace_allocations(0.01, [])) == []
