"""The kinds of state: each exported and adopted on its own."""

from collections.abc import Callable

import msgspec
from tests.kit import Lines

from pymosn.server.upgrade.carried import CarriedState, Kind


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
    assert state.export() == [("config", b"1"), ("health", b"2"), *totals]
    assert began == ["totals"]
    assert state.export(only_final=True) == [("health", b"2"), *totals]
    assert state.export_repeated() == totals
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
