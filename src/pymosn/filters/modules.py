"""The Python files of filters as modules: each load imports them again, so that an edit takes effect.

A filter may import modules from its own folder; these are its *neighbours*, and are imported again with it if edited.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, cast

from pymosn.api.stream_filter import StreamFilter
from pymosn.core.files import read_regular
from pymosn.filters.errors import FilterLoadError, describe

_PREFIX: Final = "pymosn_filter_"
#: Digests of the neighbours at the time of their import, by file.
_IMPORTED: Final[dict[str, bytes]] = {}


def source_digest(path: Path) -> bytes:
    """A digest of a filter's file and its imported neighbours."""
    files = sorted({str(module.__file__) for module in _neighbours(path.parent).values()})
    return b"".join(_digest(file) for file in [str(path), *files])


def source_file(made: StreamFilter) -> str:
    """The file with the code of a filter; empty if that is compiled."""
    try:
        return _file_of(sys.modules.get(type(made).__module__))
    except BaseException:  # of a metaclass
        return ""


def is_in_file(made: StreamFilter, file: str, line: int) -> bool:
    """Whether a line of a file is in the file of a filter."""
    return line > 0 and source_file(made) == file


def is_in_class(made: StreamFilter, file: str, line: int) -> bool:
    """Whether a line of a file is in a method of a filter."""
    for kind in type(made).__mro__:
        for member in vars(kind).values():
            code = _code_of(member)
            if isinstance(code, CodeType) and code.co_filename == file and code.co_firstlineno <= line <= _last_line(code):
                return True
    return False


def _code_of(member: object) -> object:
    try:
        return getattr(inspect.unwrap(cast("Any", member)), "__code__", None)
    except BaseException:  # whatever an attribute of a class raises
        return None


def _last_line(code: CodeType) -> int:
    inner = [_last_line(const) for const in code.co_consts if isinstance(const, CodeType)]
    return max([code.co_firstlineno, *inner, *(line for *_, line in code.co_lines() if line is not None)])


def _file_of(module: object) -> str:
    """The file of a module; empty without one. Some packages put lazy objects into `sys.modules`, which may raise."""
    try:
        file: object = getattr(module, "__file__", None)
        return str.__str__(file) if isinstance(file, str) else ""
    except BaseException:
        return ""


def _digest(file: str) -> bytes:
    try:
        return hashlib.blake2b(read_regular(file), digest_size=16).digest()
    except (OSError, ValueError):
        return b"unreadable"


def _outdated_neighbours(folder: Path) -> dict[str, ModuleType]:
    """All neighbours if one of them was edited since its import, because they may use each other; else none."""
    neighbours = _neighbours(folder)
    files = {str(module.__file__) for module in neighbours.values()}
    if all(_IMPORTED.setdefault(file, _digest(file)) == _digest(file) for file in files):
        return {}
    return neighbours


def _neighbours(folder: Path) -> dict[str, ModuleType]:
    """The imported modules with files in `folder` or below, without filters and installed packages."""
    root = str(folder.resolve()) + os.sep
    found: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        file = _file_of(module)
        if file.startswith(root) and not name.startswith(_PREFIX):
            rest = file[len(root) :]
            if "site-packages" not in rest and not rest.startswith(("pymosn" + os.sep, "src" + os.sep + "pymosn" + os.sep)):
                found[name] = module
    return found


def compile_file(path: Path) -> CodeType:
    """Compiles the file of a filter, without running it. Raises FilterLoadError."""
    try:
        # Not through the loader's cache, which misses an edit within the same second that keeps the size.
        return SourceFileLoader("", str(path)).source_to_code(read_regular(str(path)), str(path))
    except OSError as error:
        raise FilterLoadError(f"{path} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise FilterLoadError(describe(error)) from error


def load_module(path: Path) -> ModuleType:
    """Imports a file as a new module; exchanges in flight may still use the old one. Raises FilterLoadError."""
    code = compile_file(path)
    name = f"{_PREFIX}{path.stem}_{abs(hash(path))}"
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    before = _outdated_neighbours(path.parent)
    if name in sys.modules:
        before[name] = sys.modules[name]
    for old in before:
        del sys.modules[old]
    sys.modules[name] = module  # dataclasses and pickle find their module by name
    folder = str(path.parent)
    is_new_folder = folder not in sys.path
    if is_new_folder:
        sys.path.append(folder)  # so that the filter can import its neighbours
    writes_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a rejected change leaves no files
    try:
        exec(code, module.__dict__)
    except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
        if is_new_folder and folder in sys.path:
            sys.path.remove(folder)
        for new in [name, *(_neighbours(path.parent) if len(before) > 1 else ())]:
            del sys.modules[new]
        sys.modules.update(before)
        raise FilterLoadError(describe(error)) from error
    finally:
        sys.dont_write_bytecode = writes_no_bytecode
    for neighbour, imported in _neighbours(path.parent).items():
        file = str(imported.__file__)
        if neighbour in before or file not in _IMPORTED:
            _IMPORTED[file] = _digest(file)
    return module
