"""Reading the settings of a protocol (`extend_config.<protocol>`). Each function raises ValueError naming the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def flag(settings: Mapping[str, object], key: str) -> bool:
    """A boolean."""
    found = _value(settings, key)
    if not isinstance(found, bool):
        raise ValueError(f"{key} must be true or false, not {found!r}")
    return found


def number(settings: Mapping[str, object], key: str, unit: str, least: int, most: int) -> int:
    """An integer; `unit` is for the message."""
    found = _value(settings, key)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise ValueError(f"{key} must be a number of {unit} from {least} to {most}, not {found!r}")
    return found


def seconds(settings: Mapping[str, object], key: str) -> float:
    """A duration."""
    found = _value(settings, key)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found < 0:
        raise ValueError(f"{key} must be a number of seconds, not {found!r}")
    return float(found)


def choice(settings: Mapping[str, object], key: str, words: Mapping[str, T]) -> T:
    """The value in `words` of the configured word."""
    found = _value(settings, key)
    if not isinstance(found, str) or found not in words:
        raise ValueError(f"{key} must be one of {', '.join(words)}, not {found!r}")
    return words[found]


def text(settings: Mapping[str, object], key: str) -> str:
    """A string."""
    found = _value(settings, key)
    if not isinstance(found, str):
        raise ValueError(f"{key} must be a string, not {found!r}")
    return found


def texts(settings: Mapping[str, object], key: str) -> list[str]:
    """A list of strings."""
    found = _value(settings, key)
    checked = [entry for entry in found if isinstance(entry, str)] if isinstance(found, list) else None
    if checked is None or checked != found:
        raise ValueError(f"{key} must be a list of strings, not {found!r}")
    return checked


def _value(settings: Mapping[str, object], key: str) -> object:
    if key not in settings:
        raise ValueError(f"{key} is missing")
    return settings[key]
