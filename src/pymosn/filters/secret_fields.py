"""The fields of a filter's `Config` that are marked `Secret`, as paths in its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec

from pymosn.core.errors import printable
from pymosn.core.plain import plain_text
from pymosn.core.redaction import hidden, ignore_secret, redacted
from pymosn.core.secrets import SECRET

#: The keys from the outermost block to a field; `*` for any key of a mapping and any index of a list.
Path = tuple[str, ...]
Paths = frozenset[Path]

NO_PATHS: Final[Paths] = frozenset()
_ANY: Final = "*"


def secret_fields(kind: Any) -> Paths:
    """The marked fields of a `Config`: a msgspec.Struct, a dataclass, a TypedDict or a pydantic model.

    If its annotations cannot be read, everything is secret.
    """
    try:
        return frozenset(tuple(printable(plain_text(key)) for key in path) for path in _paths(kind, ()))
    except BaseException:  # foreign code: of annotations, a metaclass or a property
        return frozenset([()])


def _paths(kind: Any, inside: tuple[Any, ...]) -> Iterator[Path]:
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        if any(_is_mark(mark) for mark in marks):
            yield ()
        yield from _paths(inner, inside)
    elif getattr(kind, "__name__", "") in ("SecretStr", "SecretBytes"):  # pydantic's
        yield ()
    elif inspect.isclass(kind) and kind not in inside:
        for name, field in _fields(kind):
            yield from ((name, *path) for path in _paths(field, (*inside, kind)))
    elif get_origin(kind) in (list, set, frozenset, tuple, dict) or _is_collection(get_origin(kind)):
        for argument in get_args(kind)[-1:] if len(get_args(kind)) == 2 else get_args(kind):
            yield from ((_ANY, *path) for path in _paths(argument, inside))
    else:
        for argument in get_args(kind):
            yield from _paths(argument, inside)


def _is_collection(origin: Any) -> bool:
    return inspect.isclass(origin) and issubclass(origin, Iterable)


def _is_mark(mark: object) -> bool:
    return isinstance(mark, msgspec.Meta) and bool((mark.extra or {}).get(SECRET))


def _fields(kind: type) -> Iterator[tuple[str, Any]]:
    """The fields of a class of settings, by their keys."""
    keys: dict[str, str] = {}
    if issubclass(kind, msgspec.Struct):
        keys = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    elif hasattr(kind, "model_fields"):  # pydantic
        keys = {name: field.alias or name for name, field in kind.model_fields.items()}
    elif not hasattr(kind, "__dataclass_fields__") and not hasattr(kind, "__total__"):
        return
    hints = get_type_hints(kind, include_extras=True)
    for name, hint in hints.items():
        if not keys or name in keys:
            yield keys.get(name, name), hint
            if name != keys.get(name, name):
                yield name, hint  # pydantic may accept both


def without_marked(value: Any, paths: Iterable[Path], keep: Callable[[object], None] = ignore_secret) -> Any:
    """`value` without the fields at `paths`; `keep` as in `redacted`. Keys match in any case, with or without separators."""
    inner = list(paths)
    if not inner:
        return value
    if () in inner:
        return hidden(value, keep)
    if isinstance(value, dict):
        return {key: without_marked(item, _below(inner, str(key)), keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_marked(item, _below(inner, _ANY), keep) for item in value]
    return value


def _below(paths: Iterable[Path], key: str) -> list[Path]:
    return [path[1:] for path in paths if path[0] == _ANY or _folded(path[0]) == _folded(key)]


def _folded(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def redacted_settings(config: Any, paths: Iterable[Path], keep: Callable[[object], None]) -> Any:
    """The settings of a filter without marked fields and other secrets; `keep` as in `redacted`."""
    return redacted(without_marked(config, paths, keep), keep)
