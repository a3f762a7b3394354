"""Calls into foreign code: what it raises is returned, and it can neither cancel nor hold up the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.hostile_errors import KINDS, Text, make

from pymosn.core.errors import describe
from pymosn.core.failure import ACCESS_DENIED, Failure, Refused, failure_of
from pymosn.core.foreign import Late, outcome, raise_if_cancelled, report
from pymosn.core.plain import plain_bytes, plain_text

TIME = 10.0


def run(work: Callable[[], Awaitable[object]], seconds: float = TIME) -> BaseException | None:
    found: list[BaseException | None] = []  # not a task's result, of which asyncio makes a repr

    async def call() -> None:
        found.append(await outcome(work, seconds))
        await asyncio.sleep(0)  # nothing cancelled this task
        raise_if_cancelled()

    asyncio.run(call())
    return found[0]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("waits", [False, True])
def test_what_it_raises_is_returned(kind: str, waits: bool) -> None:
    async def work() -> None:
        if waits:
            await asyncio.sleep(0)
        raise make(kind)

    def plain() -> Any:
        raise make(kind)

    for call in (work, plain):
        error = run(call)
        assert error is not None
        assert describe(error) == KINDS[kind][1]


def test_it_may_succeed() -> None:
    assert run(lambda: asyncio.sleep(0)) is None


def test_it_may_cancel_the_task_that_it_runs_in() -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def waits() -> None:
        await work()
        await asyncio.sleep(1)

    assert isinstance(run(work), asyncio.CancelledError)
    assert isinstance(run(waits), asyncio.CancelledError)


def test_it_may_be_late() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("clean")

    error = run(work, 0.01)
    assert isinstance(error, Late)
    assert str(error) == "did not finish within 0.01 s"
    assert ended == ["clean"]


def test_it_may_ignore_that_it_is_cancelled() -> None:
    async def call() -> BaseException | None:
        is_over = asyncio.Event()

        async def work() -> None:
            while not is_over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await is_over.wait()

        error = await outcome(work, 0.01)
        is_over.set()
        return error

    assert isinstance(asyncio.run(call()), Late)


def test_the_callers_own_cancellation_is_passed_on() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("clean")

    async def call() -> None:
        task = asyncio.ensure_future(outcome(work, TIME))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(call())
    assert ended == ["clean"]


def test_only_a_cancelled_task_is_cancelled() -> None:
    async def call() -> str:
        try:
            raise asyncio.CancelledError
        except BaseException:
            raise_if_cancelled()
            return "goes on"

    async def cancelled() -> str:
        try:
            await asyncio.Event().wait()
        except BaseException:
            raise_if_cancelled()
        return "goes on"

    async def both() -> str:
        task = asyncio.ensure_future(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await call()

    assert asyncio.run(both()) == "goes on"


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_report_goes_to_the_loop(kind: str) -> None:
    told: list[dict[str, Any]] = []

    async def call() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        report("it failed", make(kind))

    asyncio.run(call())
    ((message, error),) = [(context["message"], context["exception"]) for context in told]
    assert (message, describe(error)) == ("it failed", KINDS[kind][1])


def test_without_a_loop_it_is_raised() -> None:
    with pytest.raises(LookupError, match="nobody listens"):
        report("it failed", LookupError("nobody listens"))


# ---- values


class Data(bytes):
    def __bytes__(self) -> bytes:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize("kind", [str, Text])
def test_plain_text(kind: type[str]) -> None:
    made = plain_text(kind("plain"))
    assert type(made) is str
    assert made == "plain"


@pytest.mark.parametrize("kind", [bytes, Data])
def test_plain_bytes(kind: type[bytes]) -> None:
    made = plain_bytes(kind(b"plain"))
    assert type(made) is bytes
    assert made == b"plain"


def test_other_values_are_neither() -> None:
    with pytest.raises(TypeError):
        plain_text(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        plain_bytes("x")  # type: ignore[arg-type]


def test_the_failure_of_a_rejection() -> None:
    assert failure_of(Refused(ACCESS_DENIED, "no")) is ACCESS_DENIED
    assert failure_of(Refused(Failure("own", 402), "no")) is not None
    assert failure_of(Refused(Failure("own", 99), "no")) is None
    odd = make("too-odd")
    assert isinstance(odd, Refused)
    assert failure_of(odd) is None
