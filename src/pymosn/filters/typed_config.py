"""Converts a filter's settings to its `Config`, with the path of an invalid value."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from pymosn.core.errors import reason, text_of
from pymosn.filters.errors import FilterConfigError

#: One step of the paths in msgspec's messages.
_STEP: Final = re.compile(r"\.[^.\[]+|\[[^\]]*\]")


def typed_config(kind: Any, config: dict[str, object]) -> object:
    """Converts `config` to a filter's `Config`, if it has one. Raises FilterConfigError."""
    if kind is None:
        return config
    if hasattr(kind, "model_validate"):  # pydantic
        try:
            return kind.model_validate(config)
        except ValueError as error:
            if not hasattr(error, "errors"):
                raise FilterConfigError([("", reason(error))]) from error
            raise FilterConfigError([(_path(one["loc"]), text_of(one["msg"])) for one in error.errors()]) from None
    try:
        return msgspec.convert(config, kind)
    except msgspec.ValidationError as error:
        text, _, where = reason(error).partition(" - at `")
        _, _, inner = where.partition("` in `")  # an invalid key of a mapping has no path
        path = _with_keys(kind, config, (inner or where).strip("$`"))
        raise FilterConfigError([(path, f"{text}, as a key" if inner else text)]) from None


def _with_keys(kind: Any, config: object, path: str) -> str:
    """`path` with the keys of objects instead of msgspec's `[...]`."""
    whole = msgspec.json.decode(msgspec.json.encode(config))
    holder = whole
    raw = found = ""
    for step in _STEP.findall(path):
        raw += step
        if step == "[...]":
            key = _invalid_key(kind, whole, holder, raw)
            if key is None:
                return path
            found += f".{key}"
            holder = holder[key]
        else:
            found += step
            holder = holder[int(step[1:-1])] if step.startswith("[") else holder.get(step[1:])
    return found


def _invalid_key(kind: Any, whole: object, holder: object, path: str) -> str | None:
    """The first invalid key of `holder`, which is at `path` in `whole`; removes all other keys from it."""
    if not isinstance(holder, dict):
        return None  # the members of a set have no names
    for key, value in list(holder.items()):
        holder.clear()
        holder[key] = value
        try:
            msgspec.convert(whole, kind)
        except msgspec.ValidationError as error:
            if reason(error).partition(" - at `$")[2].startswith(path):
                return str(key)
    return None


def _path(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
