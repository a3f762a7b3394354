"""The kinds of state: each exported and adopted on its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
import pytest
from tests.kit import Lines

from pymosn.server.upgrade.carried import PART, CarriedState, Kind, Parts, messages_of
from pymosn.server.upgrade.messages import Carried, CarriedPart


def contents(found: AsyncIterator[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """All that is exported."""

    async def collect() -> list[tuple[str, bytes]]:
        return [each async for each in found]

    return asyncio.run(collect())


def refuse(content: bytes) -> None:
    raise ValueError("it is too old")


def test_what_changes_is_exported_again_and_what_grows_until_the_end() -> None:
    state, began = CarriedState(Lines()), []
    state.add(Kind("config", lambda: b"1", refuse))
    state.add(Kind("nothing", lambda: None, refuse, is_final=True))
    state.add(Kind("health", lambda: b"2", refuse, is_final=True))
    state.add(
        Kind("totals", lambda: [b"3", b"4"], refuse, is_final=True, is_repeated=True, begin=lambda: began.append("totals"))
    )
    totals = [("totals", b"3"), ("totals", b"4")]
    assert contents(state.export()) == [("config", b"1"), ("health", b"2"), *totals]
    assert began == ["totals"]
    assert contents(state.export(only_final=True)) == [("health", b"2"), *totals]
    assert contents(state.export_repeated()) == totals
    assert began == ["totals"]


def test_a_kind_that_cannot_be_read_begins_anew_and_the_others_do_not() -> None:
    adopted: list[bytes] = []
    decode: Callable[[bytes], None] = lambda content: adopted.append(msgspec.msgpack.decode(content, type=bytes))  # noqa: E731
    log = Lines()
    state = CarriedState(log)
    state.add(Kind("tickets", lambda: None, decode))
    state.add(Kind("health", lambda: None, refuse))
    state.adopt("health", b"x")
    state.adopt("tickets", msgspec.msgpack.encode("not bytes"))
    state.adopt("of a later version", b"x")
    state.adopt("tickets", msgspec.msgpack.encode(b"x"))
    assert adopted == [b"x"]
    assert log.lines == [
        "upgrade: health of the old generation cannot be read: ValueError: it is too old",
        "upgrade: tickets of the old generation cannot be read: ValidationError: Expected `bytes`, got `str`",
    ]


def test_contents_are_made_one_by_one_while_the_event_loop_does_other_things() -> None:
    steps: list[str] = []

    def export() -> Iterator[bytes]:
        for number in range(3):
            steps.append(f"part {number}")
            yield b"x"

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        state = CarriedState(Lines())
        state.add(Kind("totals", export, refuse))
        async for _ in state.export():
            loop.call_soon(steps.append, "else")
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert steps == ["part 0", "else", "part 1", "else", "part 2", "else"]


def test_a_kind_may_be_exported_in_a_thread() -> None:
    threads: list[threading.Thread] = []
    state = CarriedState(Lines())
    state.add(Kind("config", lambda: threads.append(threading.current_thread()), refuse, in_thread=True))
    assert contents(state.export()) == []
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize(("size", "count"), [(0, 1), (PART, 1), (PART + 1, 2), (2 * PART, 2), (20 * PART + 7, 21)])
def test_a_content_that_is_too_large_for_one_message_is_sent_in_parts(size: int, count: int) -> None:
    content, parts = bytes(size), Parts()
    *firsts, last = messages_of("config", content)
    assert len(firsts) + 1 == count
    for first in firsts:
        assert isinstance(first, CarriedPart)
        parts.add(first)
    assert isinstance(last, Carried)
    assert parts.whole(Carried("tls", b"of another kind")).content == b"of another kind"
    assert parts.whole(last) == Carried("config", content)
    assert parts.whole(Carried("config", b"the next")).content == b"the next"
