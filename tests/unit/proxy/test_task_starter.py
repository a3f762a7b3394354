"""Tasks whose first step runs at once: whatever works in a task works in them, before and after their first wait."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import pytest
import uvloop

from pymosn.proxy.task_starter import TaskStarter

Work = Callable[[], Coroutine[Any, Any, object]]
Wait = Callable[[], Awaitable[object]]

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = request.param()
    # What the loop would only log fails the test.
    faults: list[object] = []
    made.set_exception_handler(lambda _, context: faults.append(context))
    yield made
    made.close()
    assert faults == []


def begin(loop: asyncio.AbstractEventLoop, work: Work) -> tuple[asyncio.Task[object], bool]:
    """The task that is made where the proxy makes it, in a callback of the loop; and whether it was done at once."""
    begun: asyncio.Future[tuple[asyncio.Task[object], bool]] = loop.create_future()
    starter = TaskStarter()

    def start() -> None:
        task = starter.start(work(), "filter", contextvars.copy_context())
        begun.set_result((task, task.done()))

    loop.call_soon(start)
    return loop.run_until_complete(begun)


def outcome(loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> object:
    """What it returned, or raised."""
    (result,) = loop.run_until_complete(asyncio.wait_for(_gather(task), 10))
    return result


async def _gather(task: asyncio.Task[object]) -> list[object]:
    return await asyncio.gather(task, return_exceptions=True)


# ---- it does not wait


def test_a_coroutine_that_does_not_wait_finishes_at_once(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> str:
        return "answer"

    task, at_once = begin(loop, work)
    assert (at_once, task.result(), task.get_name()) == (True, "answer", "filter")
    assert "call_soon" not in vars(loop)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), asyncio.CancelledError()])
def test_its_exception_is_kept(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    async def work() -> None:
        raise error

    task, at_once = begin(loop, work)
    assert at_once
    if isinstance(error, asyncio.CancelledError):
        assert task.cancelled()
    else:
        assert task.exception() is error


def test_one_that_cancels_itself_is_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "not heard"

    task, at_once = begin(loop, work)
    assert at_once
    assert task.cancelled()


def test_inside_another_task_it_waits_for_its_turn(loop: asyncio.AbstractEventLoop) -> None:
    async def inner() -> object:
        return asyncio.current_task()

    async def outer() -> tuple[bool, bool, bool]:
        task = TaskStarter().start(inner(), "inner", contextvars.copy_context())
        at_once = task.done()
        return at_once, await task is task, asyncio.current_task() is not task

    assert loop.run_until_complete(outer()) == (False, True, True)


def test_in_a_context_that_is_already_entered_it_waits_for_its_turn(loop: asyncio.AbstractEventLoop) -> None:
    context = contextvars.Context()
    tasks: list[asyncio.Task[object]] = []

    async def work() -> str:
        return word.get()

    def start() -> None:
        word.set("own")
        tasks.append(TaskStarter().start(work(), "filter", context))
        assert not tasks[0].done()
        loop.call_soon(loop.stop)

    loop.call_soon(context.run, start)
    loop.run_forever()
    assert outcome(loop, tasks[0]) == "own"


def test_calls_of_others_while_it_is_made_are_made_too(loop: asyncio.AbstractEventLoop) -> None:
    called: list[str] = []

    class Name(str):
        def __str__(self) -> str:
            loop.call_soon(called.append, "other")  # as a finalizer might
            return "name"

    async def work() -> str:
        called.append("work")
        return "answer"

    def start() -> None:
        assert TaskStarter().start(work(), Name(), contextvars.copy_context()).result() == "answer"
        assert called == ["work"]
        loop.call_soon(loop.stop)

    loop.call_soon(start)
    loop.run_forever()
    assert called == ["work", "other"]


# ---- it waits


async def nothing() -> None:
    pass


async def a_round() -> None:
    await asyncio.sleep(0)


async def a_moment() -> None:
    await asyncio.sleep(0.001)


#: What comes before the wait that is tried: nothing, so that it falls into the first step, or another wait.
BEFORE = pytest.mark.parametrize("before", [nothing, a_round, a_moment])


async def timeout_passes() -> object:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return "late"


async def timeout_is_not_needed() -> object:
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        return "late"


async def wait_for() -> object:
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        return "late"


async def anyio_fails() -> object:
    try:
        with anyio.fail_after(0.01):
            await anyio.sleep(10)
    except TimeoutError:
        return "late"


async def anyio_moves_on() -> object:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    return "late" if scope.cancelled_caught else "early"


async def task_group() -> object:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, part)) for part in ("la", "te")]
    return "".join(task.result() for task in tasks)


async def task_group_fails() -> object:
    async def fail() -> None:
        raise ValueError("late")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()
    except ExceptionGroup as errors:
        return str(errors.exceptions[0])


async def gather() -> object:
    return "".join(await asyncio.gather(asyncio.sleep(0, "la"), asyncio.sleep(0.001, "te")))


async def shield() -> object:
    return await asyncio.shield(asyncio.sleep(0.001, "late"))


async def executor() -> object:
    return await asyncio.to_thread(lambda: "late")


async def failed_future() -> object:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, ValueError("late"))
    try:
        await future
    except ValueError as error:
        return str(error)


async def queue() -> object:
    items: asyncio.Queue[str] = asyncio.Queue(1)
    asyncio.get_running_loop().call_soon(items.put_nowait, "late")
    return await items.get()


class Odd:
    def __await__(self) -> Generator[object, None, None]:
        yield 5


async def no_future() -> object:
    try:
        await Odd()
    except RuntimeError as error:
        return "late" if "bad yield: 5" in str(error) else str(error)


WAITS = [
    timeout_passes,
    timeout_is_not_needed,
    wait_for,
    anyio_fails,
    anyio_moves_on,
    task_group,
    task_group_fails,
    gather,
    shield,
    executor,
    failed_future,
    queue,
    no_future,
]


@BEFORE
@pytest.mark.parametrize("wait", WAITS)
def test_ways_to_wait(loop: asyncio.AbstractEventLoop, wait: Work, before: Work) -> None:
    async def work() -> list[object]:
        first = asyncio.current_task()
        await before()
        answers = [await wait(), await wait(), await a_round()]
        assert asyncio.current_task() is first
        assert first in asyncio.all_tasks()
        return answers

    task, at_once = begin(loop, work)
    assert not at_once
    assert outcome(loop, task) == ["late", "late", None]
    loop.run_until_complete(loop.shutdown_default_executor())


@BEFORE
def test_context_variables(loop: asyncio.AbstractEventLoop, before: Work) -> None:
    async def work() -> list[str]:
        seen = [word.get()]
        token = word.set("own")
        await before()
        seen.append(word.get())
        await a_round()
        seen.append(word.get())
        word.reset(token)
        seen.append(word.get())
        word.set("left behind")
        return seen

    async def look() -> str:
        return word.get()

    task, _ = begin(loop, work)
    assert outcome(loop, task) == ["none", "own", "own", "none"]
    assert word.get() == "none"
    assert begin(loop, look)[0].result() == "none"


@BEFORE
def test_cancelled_where_it_waits(loop: asyncio.AbstractEventLoop, before: Work) -> None:
    seen: list[str] = []

    async def work() -> None:
        await before()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleans up")
            await a_round()
            seen.append("has cleaned up")

    task, _ = begin(loop, work)
    loop.run_until_complete(asyncio.sleep(0.005))
    task.cancel()
    assert isinstance(outcome(loop, task), asyncio.CancelledError)
    assert seen == ["cleans up", "has cleaned up"]


@BEFORE
def test_one_that_does_not_mind_being_cancelled(loop: asyncio.AbstractEventLoop, before: Work) -> None:
    async def work() -> str:
        await before()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            return f"asked {task.cancelling()} times, then {task.uncancel()}"
        return "never"

    task, _ = begin(loop, work)
    loop.run_until_complete(asyncio.sleep(0.005))
    task.cancel()
    assert outcome(loop, task) == "asked 1 times, then 0"


def test_a_timeout_around_a_cancelled_wait_does_not_hide_that(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        async with asyncio.timeout(10):
            await asyncio.Event().wait()

    task, _ = begin(loop, work)
    task.cancel()
    assert isinstance(outcome(loop, task), asyncio.CancelledError)


def test_a_task_that_it_starts_is_independent(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> asyncio.Task[object]:
        return asyncio.get_running_loop().create_task(asyncio.sleep(0, "child"))

    task, at_once = begin(loop, work)
    assert at_once
    child = task.result()
    assert isinstance(child, asyncio.Task)
    assert outcome(loop, child) == "child"
