"""The watchdog: a blocked loop is detected, with the line where it is blocked."""

import asyncio
import os
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from pymosn.server.resources import trace_allocations
from pymosn.server.stacks import Frame, StackRecorder, frames, take_stack
from pymosn.server.watchdog import Watchdog, record_start

DUMP = """Stack (most recent call first):
  File "/lib/threading.py", line 320 in wait
Stack (most recent call first):
  File "/home/me/my filters.py", line 7 in slow
  File "/home/me/my filters.py", line 12 in on_request
  File "<string>", line 1 in <module>
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = os.memfd_create("test")
    yield made
    os.close(made)


def test_frames_of_the_last_stack() -> None:
    slow = [Frame("/home/me/my filters.py", 7, "slow"), Frame("/home/me/my filters.py", 12, "on_request")]
    assert frames(DUMP) == [*slow, Frame("<string>", 1, "<module>")]
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
        watchdog = Watchdog(asyncio.get_running_loop(), StackRecorder(descriptor), on_blocked, limit=0.2)
        watchdog.start()
        await asyncio.sleep(0)
        holds_up(0.6)
        await asyncio.wait_for(told.wait(), 5)
        watchdog.stop()

    asyncio.run(run())
    seconds, stack = seen[0]
    assert seconds >= 0.6
    assert stack[0].function == "holds_up"
    assert stack[0].file == __file__


def blocks(how: Callable[[StackRecorder], None], descriptor: int) -> list[Frame]:
    """The stack that was recorded last while `how` ran after the start of a process."""
    recorder = record_start(descriptor)
    recorder.record_after(0.05)
    how(recorder)
    recorder.close()
    return frames(recorder.take())


def test_code_that_is_not_python(descriptor: int) -> None:
    def compresses(recorder: StackRecorder) -> None:
        zlib.compress(noise, 9)

    noise = random.Random(1).randbytes(8_000_000)
    assert blocks(compresses, descriptor)[0].function == "compresses"


def test_the_last_interval_counts(descriptor: int) -> None:
    recorder = StackRecorder(descriptor)
    recorder.record_after(1.25, repeat=True)
    recorder.record_after(3600.0)
    recorder.record_after(0.02)
    while not (stack := recorder.take()):
        pass
    recorder.close()
    assert "test_the_last_interval_counts" in {frame.function for frame in frames(stack)}


def test_other_threads_are_not_read(descriptor: int) -> None:
    """While threads call and return, the main thread only is recorded each millisecond, and nothing crashes."""
    is_over = threading.Event()

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)

    def calls() -> None:
        while not is_over.is_set():
            deep(50)

    def main_waits(recorder: StackRecorder) -> None:
        recorder.record_after(0.001, repeat=True)
        while os.fstat(descriptor).st_size < 50_000:
            is_over.wait(0.001)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        found = {frame.function for frame in blocks(main_waits, descriptor)}
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert "main_waits" in found
    assert "calls" not in found


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
