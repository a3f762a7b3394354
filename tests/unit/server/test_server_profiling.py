"""Recording stacks of this process, counting them, and making profiles of them."""

import asyncio
import gc
import os
import threading
import time
from typing import Any

import pytest
from tests.kit import FakeClock, Lines

from pymosn.control.plane import SUPERVISOR, ProfileError
from pymosn.observe.profile import Call
from pymosn.server import messages
from pymosn.server.cpu_recorder import END, CpuRecorder
from pymosn.server.fleet import Fleet
from pymosn.server.profile_reader import ProfileReader, StackCounts
from pymosn.server.profiler import Profiler
from pymosn.server.recordings import Recordings, stacks

ONE = 'Stack (most recent call first):\n  File "/f/a.py", line 3 in burn\n  File "/f/a.py", line 9 in on_request\n'
HEAD = b"Stack (most recent call first):\n"


def counted(*pieces: bytes) -> StackCounts:
    counts = StackCounts("[event loop]")
    for piece in pieces:
        counts.feed(piece)
    counts.close()
    return counts


def test_equal_stacks_are_counted_however_their_text_is_cut() -> None:
    text = (ONE * 3).encode() + END
    whole = counted(text)
    assert whole.counts == {(Call("a.burn", "/f/a.py", 3), Call("a.on_request", "/f/a.py", 9)): 3}
    assert (whole.lost, whole.has_ended) == (0, True)
    assert counted(*(text[i : i + 1] for i in range(len(text)))).counts == whole.counts


def test_incomplete_stacks_are_lost_and_counted() -> None:
    broken = HEAD + b'  File "/f/a.py", li\n  File "/f/a.py", line 9 in x\n'
    counts = counted(broken, ONE.encode())
    assert (sum(counts.counts.values()), counts.lost, counts.has_ended) == (1, 1, False)


def test_stacks_without_python_code_and_of_the_event_loop_are_named() -> None:
    loop = b'  File "/x/pymosn/server/worker.py", line 300 in is_interrupted\n'
    counts = counted(HEAD, b"  <no Python frame>\n", HEAD, b"  ...\n", HEAD, loop)
    assert counts.counts[(Call("[event loop]", "", 0),)] == 2
    assert counts.lost == 0


def test_text_that_never_ends_is_bounded() -> None:
    counts = counted(*(f'Stack (most recent call first):\n  File "f", line {i} in x\n'.encode() for i in range(30_000)))
    assert (len(counts.counts), counts.lost) == (20_000, 10_000)


def burn_cpu(seconds: float) -> int:
    total = 0
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        total += sum(range(1000))
    return total


def recorded(work: Any, hertz: int = 200) -> StackCounts:
    ours, theirs = os.pipe()
    recorder = CpuRecorder()
    counts = StackCounts("[event loop]")
    reading = threading.Thread(target=ProfileReader(ours, 20.0, counts).read)
    reading.start()
    recorder.start(theirs, hertz)
    assert recorder.is_running
    work(recorder)
    recorder.stop()
    recorder.stop()
    reading.join()
    assert not recorder.is_running
    return counts


def test_the_function_that_uses_cpu_is_recorded_in_proportion() -> None:
    counts = recorded(lambda recorder: burn_cpu(0.5))
    burning = sum(n for stack, n in counts.counts.items() if any(call.function.endswith(".burn_cpu") for call in stack))
    assert counts.has_ended
    # 100, by a clock with ticks of some milliseconds; on a busy machine several of them become one.
    assert 20 <= burning <= 150


def test_threads_are_recorded_and_one_that_sleeps_is_not() -> None:
    begin = threading.Event()

    def in_a_thread() -> None:
        begin.wait()
        burn_cpu(0.2)

    worker = threading.Thread(target=in_a_thread)
    worker.start()

    def work(recorder: CpuRecorder) -> None:
        begin.set()
        worker.join()

    counts = recorded(work)
    names = {call.function.rpartition(".")[2] for stack in counts.counts for call in stack}
    assert {"in_a_thread", "burn_cpu"} <= names
    assert not any(stack[0].function.endswith(".join") and n > 5 for stack, n in counts.counts.items())


def test_there_is_one_recording_at_a_time_and_another_one_after_it() -> None:
    def work(recorder: CpuRecorder) -> None:
        other = os.open(os.devnull, os.O_WRONLY)
        with pytest.raises(OSError, match="already being recorded"):
            recorder.start(other, 100)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(other)

    assert recorded(work).has_ended
    assert recorded(lambda recorder: None).has_ended


def test_a_reader_ends_by_itself_and_when_it_is_cancelled() -> None:
    for seconds, cancels in ((0.2, False), (60.0, True)):
        ours, theirs = os.pipe()
        reader = ProfileReader(ours, seconds, StackCounts(""))
        if cancels:
            reader.cancel()
        reader.read()
        os.close(theirs)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(ours)


class World:
    """A profiler of this process."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.fleet = Fleet(2, self._spawn, lambda worker_id: [], loop.call_later, FakeClock(), Lines())
        self.profiler = Profiler(self.fleet, loop, asyncio.ensure_future)

    def _spawn(self, *_: object) -> Any:
        raise OSError


def test_profiles_of_this_process() -> None:
    async def scenario() -> None:
        world = World()
        recording = asyncio.ensure_future(world.profiler.cpu(SUPERVISOR, 0.4))
        await asyncio.sleep(0.05)
        with pytest.raises(ProfileError, match="already being recorded"):
            await world.profiler.cpu(SUPERVISOR, 0.1)
        await asyncio.to_thread(lambda: None)
        burn_cpu(0.1)
        profile = await recording
        assert profile.values == [("samples", "count"), ("cpu", "nanoseconds")]
        assert any(call.function.endswith(".burn_cpu") for stack, _ in profile.samples for call in stack)
        assert (profile.notes, profile.period[2]) == ([], 10_000_000)
        with pytest.raises(ProfileError, match="no worker 1; workers are numbered from 1 to 2"):
            await world.profiler.cpu(1, 0.1)

    asyncio.run(scenario())


def test_a_cancelled_profile_ends_the_recording_and_the_next_one_works() -> None:
    async def scenario() -> None:
        world = World()
        recording = asyncio.ensure_future(world.profiler.cpu(SUPERVISOR, 50.0))
        await asyncio.sleep(0.05)
        recording.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recording
        assert (await world.profiler.cpu(SUPERVISOR, 0.05)).notes == []

    asyncio.run(scenario())


def keep(kept: list[bytearray]) -> None:
    kept.extend(bytearray(10_000) for _ in range(50))


def test_memory_that_is_kept_is_found_with_the_function_and_what_was_freed_is_not() -> None:
    kept: list[bytearray] = []

    async def scenario() -> None:
        world = World()
        recording = asyncio.ensure_future(world.profiler.heap(SUPERVISOR, 0.2))
        await asyncio.sleep(0.05)
        keep(kept)
        freed = [bytearray(10_000) for _ in range(500)]
        freed.clear()
        with pytest.raises(ProfileError, match="already being recorded"):
            await world.profiler.heap(SUPERVISOR, 0.1)
        profile = await recording
        sizes = {stack: numbers for stack, numbers in profile.samples if any(c.function.endswith(".keep") for c in stack)}
        assert sum(size for _, size in sizes.values()) >= 500_000
        assert profile.total() < 2_000_000

    asyncio.run(scenario())


def test_an_error_of_the_process_is_that_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    async def scenario() -> None:
        world = World()
        tracemalloc.start()
        try:
            with pytest.raises(ProfileError, match="already being traced"):
                await world.profiler.heap(SUPERVISOR, 0.1)
        finally:
            tracemalloc.stop()
        monkeypatch.setattr(CpuRecorder, "_start_timer", lambda *_: (_ for _ in ()).throw(OSError("no timers here")))
        with pytest.raises(ProfileError, match="no timers here"):
            await world.profiler.cpu(SUPERVISOR, 5.0)

    asyncio.run(scenario())
    gc.collect()


def test_the_stacks_of_threads_and_tasks() -> None:
    async def waits_for_ever() -> None:
        await inner()

    async def inner() -> None:
        await asyncio.Event().wait()

    async def scenario() -> dict[str, list[str]]:
        task = asyncio.get_running_loop().create_task(waits_for_ever(), name="waiting")
        await asyncio.sleep(0)
        found = {name: [function for _, _, function in calls] for name, calls in stacks()}
        task.cancel()
        return found

    found = asyncio.run(scenario())
    assert found["task waiting"][-2:] == ["inner", "waits_for_ever"]
    assert "scenario" in found["thread MainThread"]


def test_a_worker_answers_commands_of_profiles() -> None:
    async def scenario() -> list[messages.Report]:
        sent: list[messages.Report] = []
        recordings = Recordings(asyncio.get_running_loop(), sent.append, asyncio.ensure_future)
        recordings.execute(messages.GetStacks(7), [])
        recordings.execute(messages.EndRecording(), [])
        recordings.execute(messages.RecordHeap(8, 0.01), [])
        while len(sent) < 2:
            await asyncio.sleep(0.01)
        return sent

    first, second = asyncio.run(scenario())
    assert isinstance(first, messages.Recorded)
    assert isinstance(second, messages.Recorded)
    assert (first.ticket, second.ticket, first.error, second.error) == (7, 8, "", "")
    assert first.stacks
