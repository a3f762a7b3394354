"""Makes profiles of the workers and of this process: one at a time of each process, and all of them bounded in time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from pymosn.control.plane import SUPERVISOR, ProfileError
from pymosn.observe.code_names import CodeNames
from pymosn.observe.profile import Call, Profile, Stack, module_name
from pymosn.server import messages
from pymosn.server.blocked_recorder import BlockedRecorder
from pymosn.server.fleet import Fleet
from pymosn.server.profile_reader import PIPE_SIZE, ProfileReader, StackCounts
from pymosn.server.recordings import Recordings
from pymosn.version import build

#: Samples in each second of CPU.
HERTZ: Final = 100
#: Seconds to wait for an answer or the end of a recording, longer than it takes.
PATIENCE: Final = 5.0
FLUSH_TURN: Final = 0.02
_BY_THE_CLOCK: Final = (
    "were recorded by the clock, because the event loop was blocked: time in which it slept or waited is counted, too"
)
#: Nothing else is known of the rest.
_REST: Final = Call("(many small allocations)", "", 0)


class Profiler:
    """The profiles of one process and its workers."""

    def __init__(self, fleet: Fleet, loop: asyncio.AbstractEventLoop, begin: Callable[..., object]) -> None:
        self._fleet = fleet
        self._own = Recordings(loop, self._on_own, begin)
        self._begin = begin
        self._busy: set[int] = set()
        self._last_ticket = 0

    async def cpu(self, target: int, seconds: float) -> Profile:
        """Where a process uses CPU. `target`: id of a worker, or SUPERVISOR. Raises ProfileError."""
        with self._use_of(target):
            started, began = time.time(), time.monotonic()
            loop_name = "[event loop and compiled code]" if build() == "compiled" else "[event loop]"
            counts = StackCounts(loop_name)
            reader = self._begin_cpu(target, seconds, counts)
            reading = asyncio.ensure_future(asyncio.to_thread(reader.read))
            ticket = self._last_ticket
            failed = asyncio.ensure_future(self._answer(target, ticket, seconds + PATIENCE))
            blocked = asyncio.ensure_future(self._blocked(target, seconds, counts, reader))
            try:
                await asyncio.wait((reading, failed), return_when=asyncio.FIRST_COMPLETED)
                failure = failed.result() if failed.done() else None
                if failure is not None:
                    raise ProfileError(500, f"the profile cannot be recorded: {failure.error}")
                await reading
                found = await blocked
            finally:
                failed.cancel()
                blocked.cancel()
                reader.cancel()
                self._send(target, messages.EndRecording())
                await asyncio.shield(asyncio.wait((reading,)))
                self._fleet.recorded.pop(ticket, None)
            counts.add(found)
            if not counts.has_ended and not counts.counts:
                raise _no_answer(target, None)
            notes = [f"{found.counts.total()} stacks {_BY_THE_CLOCK}"] if found.counts else []
            notes += [f"{counts.lost} stacks were lost"] if counts.lost else []
            if counts.has_begun and not counts.has_ended:
                notes.append("the process did not end the recording itself: it is gone, or its event loop is blocked")
            period = 1_000_000_000 // HERTZ
            samples: list[tuple[Stack, tuple[int, ...]]] = [
                (stack, (count, count * period)) for stack, count in counts.counts.items()
            ]
            return Profile(
                values=[("samples", "count"), ("cpu", "nanoseconds")],
                samples=samples,
                period=("cpu", "nanoseconds", period),
                started=started,
                seconds=time.monotonic() - began,
                notes=notes,
            )

    async def _blocked(self, target: int, seconds: float, counts: StackCounts, reader: ProfileReader) -> StackCounts:
        """The stacks of a worker while its event loop is blocked. `counts`: those that it records itself."""
        worker = None if target == SUPERVISOR else self._fleet.worker(target)
        if worker is None:
            return StackCounts("")
        recorder = BlockedRecorder(worker, counts)
        await recorder.record(seconds, 1.0 / HERTZ)
        if not counts.has_ended:
            reader.cancel()
        return recorder.counts

    def _begin_cpu(self, target: int, seconds: float, counts: StackCounts) -> ProfileReader:
        """Starts the recording."""
        self._last_ticket += 1
        command = messages.RecordCpu(self._last_ticket, HERTZ, seconds)
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with contextlib.suppress(OSError):  # the user has too many large pipes
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            if target == SUPERVISOR:
                self._own.execute(command, [os.dup(theirs)])
            else:
                self._send(target, command, [theirs])
            return ProfileReader(ours, seconds + PATIENCE, counts)
        except BaseException:
            os.close(ours)
            raise
        finally:
            self._begin(self._close_sent(target, theirs))

    async def _close_sent(self, target: int, descriptor: int) -> None:
        """Closes this process's copy of a descriptor once the worker has its own."""
        worker = None if target == SUPERVISOR else self._fleet.worker(target)
        while worker is not None and not (worker.is_flushed() or worker.has_exited):
            await asyncio.sleep(FLUSH_TURN)
        os.close(descriptor)

    async def heap(self, target: int, seconds: float) -> Profile:
        """What a process allocates within `seconds` and keeps. Raises ProfileError."""
        with self._use_of(target):
            started = time.time()
            self._last_ticket += 1
            ticket = self._last_ticket
            self._send(target, messages.RecordHeap(ticket, seconds))
            answer = await self._answer(target, ticket, seconds + PATIENCE)
        if answer is None or answer.error:
            raise _no_answer(target, answer)
        samples = await asyncio.to_thread(_allocations, answer.traces)
        return Profile(
            values=[("inuse_objects", "count"), ("inuse_space", "bytes")],
            samples=samples,
            period=("space", "bytes", 1),
            started=started,
            seconds=seconds,
            notes=[f"memory allocated within {seconds:g} s and still in use at their end"],
        )

    async def stacks(self, target: int) -> list[tuple[str, Stack]]:
        """The threads and tasks of a process with their stacks. Raises ProfileError."""
        self._require(target)
        self._last_ticket += 1
        ticket = self._last_ticket
        self._send(target, messages.GetStacks(ticket))
        answer = await self._answer(target, ticket, PATIENCE)
        if answer is None and target != SUPERVISOR:
            return await self._blocked_stack(target)
        if answer is None or answer.error:
            raise _no_answer(target, answer)
        return [
            (name, tuple([Call(_qualified(file, function), file, line) for file, line, function in each]))
            for name, each in answer.stacks
        ]

    async def _blocked_stack(self, target: int) -> list[tuple[str, Stack]]:
        """Where the event loop of a worker is that does not answer. Raises ProfileError."""
        worker = self._fleet.worker(target)
        if worker is None:
            raise _no_answer(target, None)
        recorder = BlockedRecorder(worker, StackCounts(""))
        await recorder.record(FLUSH_TURN, FLUSH_TURN)
        found = list(recorder.counts.counts)
        if not found:
            raise _no_answer(target, None)
        return [("thread MainThread, whose event loop is blocked", found[-1])]

    def _require(self, target: int) -> None:
        if target != SUPERVISOR and self._fleet.worker(target) is None:
            raise ProfileError(404, f"there is no worker {target}; workers are numbered from 1 to {self._fleet.size}")

    @contextlib.contextmanager
    def _use_of(self, target: int) -> Iterator[None]:
        self._require(target)
        if target in self._busy:
            raise ProfileError(409, f"a profile of {_name(target)} is already being recorded")
        self._busy.add(target)
        try:
            yield
        finally:
            self._busy.discard(target)

    def _send(self, target: int, command: messages.ProfileCommand, descriptors: tuple[int, ...] | list[int] = ()) -> None:
        if target == SUPERVISOR:
            self._own.execute(command, list(descriptors))
            return
        worker = self._fleet.worker(target)
        if worker is not None:
            worker.send(command, descriptors)

    def _on_own(self, report: messages.Report) -> None:
        if isinstance(report, messages.Recorded):
            self._fleet.note_recorded(report)

    async def _answer(self, target: int, ticket: int, seconds: float) -> messages.Recorded | None:
        """The answer with a ticket; None if there is none in `seconds`, or the worker has ended."""
        worker = None if target == SUPERVISOR else self._fleet.worker(target)
        recorded = self._fleet.recorded
        await self._fleet.wait_for(lambda: ticket in recorded or (worker is not None and worker.has_exited), seconds)
        return recorded.pop(ticket, None)


def _qualified(file: str, function: str) -> str:
    return f"{module_name(file)}.{function}" if file else function


def _name(target: int) -> str:
    return "the supervisor" if target == SUPERVISOR else f"worker {target}"


def _no_answer(target: int, answer: messages.Recorded | None) -> ProfileError:
    if answer is None:
        return ProfileError(504, f"{_name(target)} does not answer: it has ended, or its event loop is blocked")
    return ProfileError(500, answer.error)


def _allocations(traces: list[tuple[int, int, list[tuple[str, int]]]]) -> list[tuple[Stack, tuple[int, ...]]]:
    names = CodeNames()
    return [
        (
            tuple([Call(f"{module_name(file)}.{names.at(file, line)}", file, line) for file, line in calls]) or (_REST,),
            (count, size),
        )
        for size, count, calls in traces
    ]
