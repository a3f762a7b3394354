"""JSON that is read and written strictly."""

import json
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest

from pymosn.core.json_text import MAX_DEPTH, MAX_WRITTEN_DEPTH, is_deeper, parse_json, write_json


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


DEEP = {
    "arrays": b"[" * 10_000 + b"]" * 10_000,
    "objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "both": b'[{"a":' * 5_000 + b"1" + b"}]" * 5_000,
    "never closed": b"[" * 1_000_000,
    "one level too many": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "after a string with a bracket": b'["]",' + b"[" * MAX_DEPTH + b"]" * (MAX_DEPTH + 1),
    "after an escaped quote": b'["\\"]",' + b"[" * MAX_DEPTH + b"]" * (MAX_DEPTH + 1),
    "after an escaped backslash": b'["\\\\",' + b"[" * MAX_DEPTH + b"]" * (MAX_DEPTH + 1),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_texts(text: bytes) -> None:
    with pytest.raises(ValueError, match="more than 128 levels of arrays and objects"):
        parse_json(text)


def test_depth_is_that_of_nesting_not_of_brackets() -> None:
    for text in (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b"[" + b"[]," * 1000 + b"[]]", b'["' + b"[" * 1000 + b'"]'):
        assert parse_json(text) == json.loads(text)


def test_an_error_before_deep_nesting_is_not_hidden() -> None:
    """The parser stops at the error, and never gets to what the count of levels missed."""
    for text in (b"]" * 1000 + b"[" * 1100, b'"' + b"[" * 5000, b'"\\', b'["\\'):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    assert not is_deeper(b"]" * 1000 + b"[" * 1100, 128)


WRONG = {
    "nothing": b"",
    "white space": b" \n",
    "a word": b"yes",
    "cut short": b'{"a": 1',
    "something after it": b"1 2",
    "single quotes": b"{'a': 1}",
    "a comma too many": b"[1,]",
    "a control character in a string": b'"\x01"',
    "NaN": b"[NaN]",
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b"-Infinity",
    "a number beyond a double": b"[1e999]",
    "an integer of 5000 digits": b"1" * 5000,
    "a name twice": b'{"role": "user", "role": "admin"}',
    "a name twice, once escaped": b'{"a": {"role": 1, "r\\u006fle": 2}}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Latin-1": '"\u00e9"'.encode("latin-1"),
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "an overlong slash": b'"\xc0\xaf"',
    "a high surrogate": b'"\\ud83d"',
    "a low surrogate": b'["\\uDE00 and more"]',
    "surrogates in the wrong order": b'"\\ude00\\ud83d"',
    "a surrogate in a name": b'{"\\ud800": 1}',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_wrong_texts(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert len(str(caught.value)) < 200, "an error that is logged must not repeat the text"


@pytest.mark.parametrize(
    "text",
    [
        b"1",
        b"-0.5e3",
        b'"\\ud83d\\ude00"',
        b'"\\\\ud800"',
        '"\u00e9\U0001f600"'.encode(),
        b' {"a": {"a": [null, true]}} ',
        b"0.0",
    ],
)
def test_what_is_read(text: bytes) -> None:
    assert parse_json(text) == json.loads(text)
    assert parse_json(text.decode()) == json.loads(text)


class Pairs(dict[str, int]):
    """A dict with items of its own, as a multimap may have."""

    def items(self) -> Any:
        return [("a", 1), ("a", 2)]


class Rate(float):
    def __repr__(self) -> str:
        return "fast"


CIRCLE: list[Any] = []
CIRCLE.append({"a": CIRCLE})
UNWRITABLE: dict[str, tuple[Any, type[Exception]]] = {
    "NaN": (float("nan"), ValueError),
    "Infinity": ({"a": [1, float("inf")]}, ValueError),
    "-Infinity in a tuple": ((float("-inf"),), ValueError),
    "NaN as a key": ({float("nan"): 1}, ValueError),
    "NaN of a subclass": (Rate("nan"), ValueError),
    "a Decimal": (Decimal(1), TypeError),
    "a Decimal that is NaN": ([Decimal("NaN")], TypeError),
    "bytes": (b"a", TypeError),
    "a set": ({1}, TypeError),
    "an object": (object(), TypeError),
    "a number and its text as keys": ({1: "a", "1": "b"}, ValueError),
    "deep keys that become the same name": ([{"a": ({True: 1, "true": 2},)}], ValueError),
    "None and its text as keys": ({"a": {"null": 1, None: 2}}, ValueError),
    "a multimap": ({"a": Pairs(a=1)}, ValueError),
    "a tuple as a key": ({(1, 2): 1}, TypeError),
    "a circle": (CIRCLE, ValueError),
    "one level too many": (nested(MAX_WRITTEN_DEPTH + 1), ValueError),
    "ten thousand levels": (nested(10_000), ValueError),
    "half of a pair": ("\ud83d", ValueError),
    "half of a pair in a key": ({"a": {"\ude00": 1}}, ValueError),
    "an integer of 5000 digits": (10**5000, ValueError),
}


@pytest.mark.parametrize(("value", "error"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_values_that_cannot_be_written(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"."):
        write_json(value)


def test_what_is_written() -> None:
    assert write_json({"a": [1, None, "\u00e9\U0001f600", "\\ud800"], "b": Rate(1.5)}) == (
        b'{"a":[1,null,"\\u00e9\\ud83d\\ude00","\\\\ud800"],"b":1.5}'
    )
    assert write_json({1: "a", "2": None, 2.5: {None: []}}) == b'{"1":"a","2":null,"2.5":{"null":[]}}'
    assert write_json(OrderedDict([("b", 1), ("a", (2,))])) == b'{"b":1,"a":[2]}'
    assert write_json(nested(MAX_WRITTEN_DEPTH)) == b"[" * MAX_WRITTEN_DEPTH + b"]" * MAX_WRITTEN_DEPTH
    assert write_json({"wrapped": parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)})
