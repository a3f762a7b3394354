"""What a process records about itself for profiles: CPU, memory that is allocated and kept, stacks of threads and tasks.

Workers do it by command, the supervisor for itself.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from pymosn.core.errors import describe, printable, shown
from pymosn.core.foreign import raise_if_cancelled
from pymosn.server import messages
from pymosn.server.cpu_recorder import CpuRecorder

#: Calls of an allocation's stack, and the stacks that are reported: those with the most bytes.
DEEPEST: Final = 8
MOST_TRACES: Final = 2000
#: Tasks whose stacks are reported, and calls of each stack.
MOST_TASKS: Final = 2000
STACK_DEPTH: Final = 64

Send = Callable[[messages.Report], None]
#: File, line and function of a call.
FrameText = tuple[str, int, str]


class Recordings:
    """Executes commands for profiles; answers are passed to `send`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send, begin: Callable[[Any], object]) -> None:
        """`begin`: runs a coroutine as a background task."""
        self._loop = loop
        self._send = send
        self._begin = begin
        self._cpu = CpuRecorder()
        self._end: asyncio.TimerHandle | None = None
        self._is_tracing = False

    def execute(self, command: messages.ProfileCommand, descriptors: list[int]) -> None:
        """Executes one command; owns the descriptors."""
        match command:
            case messages.RecordCpu():
                try:
                    self._cpu.start(descriptors[0], command.hertz)
                except OSError as error:
                    self._send(messages.Recorded(command.ticket, error.strerror or str(error)))
                    return
                self._end = self._loop.call_later(command.seconds, self.end_cpu)
            case messages.EndRecording():
                self.end_cpu()
            case messages.RecordHeap():
                self._begin(self._heap(command))
            case messages.GetStacks():
                self._send(messages.Recorded(command.ticket, stacks=stacks()))

    def end_cpu(self) -> None:
        """Ends the recording of CPU, if there is one."""
        if self._end is not None:
            self._end.cancel()
        self._cpu.stop()

    async def _heap(self, command: messages.RecordHeap) -> None:
        try:
            answer = messages.Recorded(command.ticket, traces=await traces(command.seconds))
        except BaseException as error:
            raise_if_cancelled()
            answer = messages.Recorded(command.ticket, describe(error))
        self._send(answer)


async def traces(seconds: float) -> list[tuple[int, int, list[tuple[str, int]]]]:
    """Traces allocations for `seconds`; bytes, blocks and stack (file and line, innermost first) of what is still in use.

    Raises RuntimeError if they are already traced.
    """
    import tracemalloc  # only on demand, as tracing is: it is expensive

    if tracemalloc.is_tracing():
        raise RuntimeError("allocations of this process are already being traced")
    tracemalloc.start(DEEPEST)
    try:
        await asyncio.sleep(seconds)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    snapshot = snapshot.filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
    found = snapshot.statistics("traceback")
    kept = [
        (each.size, each.count, [(printable(frame.filename, 500), frame.lineno) for frame in reversed(each.traceback)])
        for each in found[:MOST_TRACES]
    ]
    rest = found[MOST_TRACES:]
    if rest:
        kept.append((sum(each.size for each in rest), sum(each.count for each in rest), []))
    return kept


def stacks() -> list[tuple[str, list[FrameText]]]:
    """Each thread and each task of the running event loop with its stack, innermost call first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = [
        (f"thread {printable(names.get(number, str(number)), 200)}", _frames(frame))
        for number, frame in sys._current_frames().items()
    ]
    for task in list(asyncio.all_tasks())[:MOST_TASKS]:
        found.append((f"task {printable(task.get_name(), 200)}", _task_frames(task)))
    return found


def _frames(frame: FrameType | None) -> list[FrameText]:
    calls: list[FrameText] = []
    while frame is not None and len(calls) < STACK_DEPTH:
        calls.append(_text(frame, frame.f_lineno))
        frame = frame.f_back
    return calls


def _task_frames(task: asyncio.Task[Any]) -> list[FrameText]:
    """The coroutines that a task is in; what a coroutine of compiled or C code awaits is not known."""
    calls: list[FrameText] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(calls) < STACK_DEPTH:
        frame = (
            getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None) or getattr(awaited, "ag_frame", None)
        )
        if not isinstance(frame, FrameType):
            calls.append(("", 0, shown(type(awaited).__name__)))
            break
        calls.append(_text(frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return calls[::-1]


def _text(frame: FrameType, line: int | None) -> FrameText:
    return printable(frame.f_code.co_filename, 500), line or 0, printable(frame.f_code.co_name, 200)
