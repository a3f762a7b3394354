"""Calls that block for ever delay nobody."""

import asyncio
import threading

import pytest

from pymosn.control.threads import off_loop, within


def fail() -> None:
    raise ValueError("no")


def test_results_and_exceptions_are_passed_on() -> None:
    assert within(10.0, max, 1, 2) == 2
    assert asyncio.run(off_loop(10.0, max, 1, 2)) == 2
    with pytest.raises(ValueError, match="no"):
        within(10.0, fail)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(off_loop(10.0, fail))


def test_a_call_that_does_not_return_is_given_up() -> None:
    gate = threading.Event()
    try:
        with pytest.raises(TimeoutError, match=r"no answer within 0.01 s"):
            within(0.01, gate.wait)
        with pytest.raises(TimeoutError, match=r"no answer within 0.01 s"):
            asyncio.run(off_loop(0.01, gate.wait))
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "blocking call")
    finally:
        gate.set()


def test_the_loop_continues_meanwhile() -> None:
    async def scenario() -> bool:
        gate = threading.Event()
        asyncio.get_running_loop().call_soon(gate.set)
        return await off_loop(10.0, gate.wait)

    assert asyncio.run(scenario())
