"""The `python` stream filter: a class in a file next to the configuration, or one that an installed package offers."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pymosn.api.stream_filter import StreamFilter

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS: Final = "pymosn.stream_filters"

_PREFIX: Final = "pymosn_filter_"
#: A step in the paths that msgspec writes.
_STEP: Final = re.compile(r"\.[^.\[]+|\[[^\]]*\]")


class FilterLoadError(Exception):
    """A filter cannot be loaded or made; the text says why and, for faults of its code, where."""


class FilterConfigError(FilterLoadError):
    """The configuration does not fit the filter's `Config`. `problems`: where in it (`.limits[0]`), and what."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in problems))
        self.problems = problems


def installed_filters() -> list[str]:
    """Names of the stream filters that installed packages offer."""
    return sorted({point.name for point in _entry_points()})


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # 3 MB: only for workers that use it

    return list(entry_points(group=ENTRY_POINTS))


def load_installed(name: str, config: dict[str, object]) -> StreamFilter:
    """Makes the filter that an installed package offers as `name`. Raises FilterLoadError."""
    for point in _entry_points():
        if point.name == name:
            try:
                found = point.load()
            except Exception as error:
                raise FilterLoadError(f"cannot load {point.value}: {describe(error)}") from error
            return _make(found, point.value, config)
    raise FilterLoadError(f"no installed package offers a stream filter {name!r}")


def load_file(path: Path, class_name: str, config: dict[str, object]) -> StreamFilter:
    """Makes a filter of class `class_name` in the file `path`. Raises FilterLoadError."""
    module = _load_module(path)
    found = getattr(module, class_name, None)
    if found is None:
        near = ", ".join(name for name, value in vars(module).items() if _is_filter(value)) or "none"
        raise FilterLoadError(f"{path} has no class {class_name!r} (stream filters in it: {near})")
    return _make(found, f"{path}:{class_name}", config)


#: The content of modules beside filters when they were imported, by file.
_IMPORTED: Final[dict[str, bytes]] = {}


def source_digest(path: Path) -> bytes:
    """What tells whether a filter's file, and the modules beside it that have been imported, are still the same."""
    files = sorted({str(module.__file__) for module in _neighbours(path.parent).values()})
    return b"".join(_digest(file) for file in [str(path), *files])


def source_file(made: StreamFilter) -> str:
    """The file with the code of a filter; empty when that is compiled."""
    return str(getattr(sys.modules.get(type(made).__module__), "__file__", "") or "")


def is_in_file(made: StreamFilter, file: str, line: int) -> bool:
    """Whether a line of a file is in that of a filter."""
    return line > 0 and source_file(made) == file


def is_in_class(made: StreamFilter, file: str, line: int) -> bool:
    """Whether a line of a file is in a method of a filter."""
    for kind in type(made).__mro__:
        for member in vars(kind).values():
            code = getattr(inspect.unwrap(member), "__code__", None)
            if isinstance(code, CodeType) and code.co_filename == file and code.co_firstlineno <= line <= _last_line(code):
                return True
    return False


def _last_line(code: CodeType) -> int:
    inner = [_last_line(const) for const in code.co_consts if isinstance(const, CodeType)]
    return max([code.co_firstlineno, *inner, *(line for *_, line in code.co_lines() if line is not None)])


def _digest(file: str) -> bytes:
    try:
        return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).digest()
    except (OSError, ValueError):
        return b"unreadable"


def _outdated_neighbours(folder: Path) -> dict[str, ModuleType]:
    """The imported modules in `folder` when one of them has been edited since, for they may use each other; else none."""
    neighbours = _neighbours(folder)
    files = {str(module.__file__) for module in neighbours.values()}
    if all(_IMPORTED.setdefault(file, _digest(file)) == _digest(file) for file in files):
        return {}
    return neighbours


def _neighbours(folder: Path) -> dict[str, ModuleType]:
    """The imported modules whose files are in `folder` or below, other than filters and installed packages."""
    root = str(folder.resolve()) + os.sep
    found: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(root) and not name.startswith(_PREFIX):
            rest = file[len(root) :]
            if "site-packages" not in rest and not rest.startswith(("pymosn" + os.sep, "src" + os.sep + "pymosn" + os.sep)):
                found[name] = module
    return found


def _is_filter(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, StreamFilter) and value is not StreamFilter


def _load_module(path: Path) -> ModuleType:
    """Each load gives a new module, so that an edited file can stand beside its old self while exchanges finish.

    So do the modules beside it, which it may import.
    """
    name = f"{_PREFIX}{path.stem}_{abs(hash(path))}"
    loader = SourceFileLoader(name, str(path))
    try:
        # Not through the loader's cache: it takes an edit that keeps size and second for the old file.
        code = loader.source_to_code(path.read_bytes(), str(path))
    except OSError as error:
        raise FilterLoadError(f"{path} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise FilterLoadError(describe(error)) from error
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    before = _outdated_neighbours(path.parent)
    if name in sys.modules:
        before[name] = sys.modules[name]
    for old in before:
        del sys.modules[old]
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a filter may import its neighbours
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        for new in [name, *(_neighbours(path.parent) if len(before) > 1 else ())]:
            del sys.modules[new]
        sys.modules.update(before)
        raise FilterLoadError(describe(error)) from error
    for neighbour, imported in _neighbours(path.parent).items():
        file = str(imported.__file__)
        if neighbour in before or file not in _IMPORTED:
            _IMPORTED[file] = _digest(file)
    return module


def _make(found: object, place: str, config: dict[str, object]) -> StreamFilter:
    if not _is_filter(found):
        raise FilterLoadError(f"{place} is not a subclass of pymosn.api.StreamFilter")
    assert isinstance(found, type)
    settings = typed_config(getattr(found, "Config", None), config)
    try:
        made = found(settings)
    except (Exception, SystemExit) as error:
        raise FilterLoadError(f"{place} does not start: {describe(error)}") from error
    assert isinstance(made, StreamFilter)
    return made


def typed_config(kind: Any, config: dict[str, object]) -> object:
    """`config` as an instance of a filter's `Config`; as it is when that is None. Raises FilterConfigError."""
    if kind is None:
        return config
    if hasattr(kind, "model_validate"):  # pydantic
        try:
            return kind.model_validate(config)
        except ValueError as error:
            raise FilterConfigError([(_path(one["loc"]), str(one["msg"])) for one in error.errors()]) from None  # type: ignore[attr-defined]
    try:
        return msgspec.convert(config, kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `")
        _, _, inner = where.partition("` in `")  # a key of a mapping that does not fit: it has no place of its own
        path = _with_keys(kind, config, (inner or where).strip("$`"))
        raise FilterConfigError([(path, f"{text}, as a key" if inner else text)]) from None


def _with_keys(kind: Any, config: object, path: str) -> str:
    """`path` with the keys of objects, for which msgspec writes `[...]`."""
    whole = msgspec.json.decode(msgspec.json.encode(config))
    holder = whole
    raw = found = ""
    for step in _STEP.findall(path):
        raw += step
        if step == "[...]":
            key = _unfit_key(kind, whole, holder, raw)
            if key is None:
                return path
            found += f".{key}"
            holder = holder[key]
        else:
            found += step
            holder = holder[int(step[1:-1])] if step.startswith("[") else holder.get(step[1:])
    return found


def _unfit_key(kind: Any, whole: object, holder: object, path: str) -> str | None:
    """The first key of `holder`, which stands at `path` in `whole`, that does not fit; leaves it there alone."""
    if not isinstance(holder, dict):
        return None  # the members of a set have no names
    for key, value in list(holder.items()):
        holder.clear()
        holder[key] = value
        try:
            msgspec.convert(whole, kind)
        except msgspec.ValidationError as error:
            if str(error).partition(" - at `$")[2].startswith(path):
                return str(key)
    return None


def _path(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def describe(error: BaseException) -> str:
    """What went wrong in the filter's code, with file and line where they are known."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    trace = error.__traceback__
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != __file__:
            place = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {error}"
