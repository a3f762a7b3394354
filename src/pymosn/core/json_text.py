"""JSON of peers and of filters: read and written strictly, so that every reader understands it in the same way (RFC 7493).

`json` alone reads UTF-16, byte order marks, NaN, repeated names and halves of surrogate pairs, which other readers reject or
understand differently, and its limit for nesting is what the stack has left. So the limits here are checked first.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from mypy_extensions import i64

#: Levels of arrays and objects in a text that is read. Code of filters that calls itself for each level has room for them.
MAX_DEPTH: Final[i64] = 128
#: Levels in a value that is written: a filter may wrap what it has read.
MAX_WRITTEN_DEPTH: Final[i64] = 256

QUOTE: Final[i64] = 34
BACKSLASH: Final[i64] = 92


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError for anything else: invalid JSON, an empty text, a byte order mark, more than MAX_DEPTH levels, a name
    that occurs twice in an object, half of a surrogate pair, NaN, Infinity, numbers beyond a double, and integers that
    Python does not read (by default, of more than 4300 digits).
    """
    raw = text.encode() if isinstance(text, str) else text
    if is_deeper(raw, MAX_DEPTH):
        raise ValueError(f"more than {MAX_DEPTH} levels of arrays and objects")
    value: Any = _DECODER.decode(raw.decode())
    if b"\\u" in raw and (b"\\ud" in raw or b"\\uD" in raw) and _has_lone_surrogate(value):
        raise ValueError("half of a surrogate pair")
    return value


def write_json(value: object) -> bytes:
    """`value` as JSON in ASCII, without spaces.

    Raises TypeError for what JSON cannot represent, and ValueError for NaN, Infinity, half of a surrogate pair, keys that
    become the same name (`1` and `"1"`), a value that contains itself, and more than MAX_WRITTEN_DEPTH levels.
    """
    too_deep = f"more than {MAX_WRITTEN_DEPTH} levels of arrays and objects"
    try:
        text = _ENCODER.encode(value).encode("ascii")
    except RecursionError:
        raise ValueError(too_deep) from None
    if is_deeper(text, MAX_WRITTEN_DEPTH):
        raise ValueError(too_deep)
    if b"\\ud" in text and _has_lone_surrogate(value):
        raise ValueError("text with half of a surrogate pair")
    if _has_other_keys(value):
        _DECODER.decode(text.decode())  # raises for a name that occurs twice
    return text


def _has_other_keys(value: object) -> bool:
    """Whether keys of an object are not plain text: only such keys can become the same name. `value` has been written."""
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if type(item) is not dict:
                return True  # its `items` may be its own
            for key, part in item.items():
                if type(key) is not str:
                    return True
                if isinstance(part, (dict, list, tuple)):
                    waiting.append(part)
        elif isinstance(item, (list, tuple)):
            for part in item:
                if isinstance(part, (dict, list, tuple)):
                    waiting.append(part)
    return False


def is_deeper(text: bytes, limit: i64) -> bool:
    """Whether a JSON text has more than `limit` levels of arrays and objects, at least up to its first error."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    size: i64 = len(text)
    depth: i64 = 0
    i: i64 = 0
    while i < size:
        byte: i64 = text[i]
        if byte == QUOTE:
            i += 1
            while i < size and text[i] != QUOTE:
                i += 2 if text[i] == BACKSLASH else 1
        elif byte == 91 or byte == 123:  # [ {
            depth += 1
            if depth > limit:
                return True
        elif byte == 93 or byte == 125:  # ] }
            depth -= 1
        i += 1
    return False


def _has_lone_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond the range of a double")
    return number


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


# Made once: this takes as long as reading a small text.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
