"""The Python files of filters as modules of one worker, which come from the source that the supervisor sent.

A module runs once for all filters that name it. A change is a draft (`ModuleDraft`): only modules whose source has changed
run again, and those that depend on them; all others stay the same objects, so that what they share lives on. Until the draft
is committed, active filters see none of its modules, and after a rollback nothing of it remains.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, cast

from pymosn.core.plain import plain_text
from pymosn.filters.collectors import Replacement
from pymosn.filters.compiling import compile_source, show_source
from pymosn.filters.errors import FilterLoadError, describe
from pymosn.filters.folder_version import FolderVersion, LoadedModule, unbind
from pymosn.filters.import_system import install, note_active
from pymosn.filters.module_names import body_of, module_of
from pymosn.filters.sources import folder_and_name

#: The source of filters: folder -> relative path -> content.
Folders = Mapping[str, Mapping[str, bytes]]

_NUMBERS: Final = itertools.count(1)


class ModuleStore:
    """The active modules of one worker."""

    def __init__(self) -> None:
        self.folders: dict[str, FolderVersion] = {}

    def draft(self, folders: Folders, faults: Mapping[str, str] | None = None) -> ModuleDraft:
        """A change to these sources, without effect until it is committed. `faults`: why files must not be used, by path."""
        return ModuleDraft(self, folders, faults or {})


class ModuleDraft:
    """The modules of one change. Either `commit` or `rollback` must follow."""

    def __init__(self, store: ModuleStore, folders: Folders, faults: Mapping[str, str]) -> None:
        install()
        #: The collectors of the modules and filters that it replaces.
        self.collectors = Replacement()
        self._store = store
        self._faults = faults
        self._versions: dict[str, FolderVersion] = {}
        self._outdated: dict[str, set[str]] = {}
        number = next(_NUMBERS)
        uninstalled = frozenset(place for folder in folders for place in (folder, os.path.realpath(folder)))
        for folder, files in folders.items():
            old = store.folders.get(folder)
            new = FolderVersion(folder, number, files, uninstalled, self.collectors, old)
            self._versions[folder] = new
            if old is not None:
                self._outdated[folder] = outdated = _outdated(old, new)
                new.modules |= {name: known for name, known in _complete(old).items() if name not in outdated}
        for known in self._replaced():
            self.collectors.replace(known.registrations)

    def key(self, path: Path) -> bytes:
        """Identifies the module of a filter's file: it stays the same as long as the module does. Empty without one."""
        try:
            version, dotted = self._find(path)
        except FilterLoadError:
            return b""
        known = version.modules.get(dotted)
        return (version.name(dotted) if known is None else known.name).encode()

    def content(self, path: Path) -> bytes:
        """The content of a file that is not code. Raises FilterLoadError."""
        folder, name = folder_and_name(path)
        version = self._versions.get(folder)
        fault = self._faults.get(os.path.join(folder, name), "")
        if version is None or name not in version.files or fault:
            raise FilterLoadError(fault or f"{path} cannot be read: the supervisor has not read it")
        return version.files[name]

    def version(self, path: Path) -> bytes:
        """Identifies the content of such a file. Empty without one."""
        try:
            return hashlib.blake2b(self.content(path), digest_size=16).digest()
        except FilterLoadError:
            return b""

    def compile(self, path: Path) -> None:
        """Compiles the file of a filter, and outdated modules that it imports, without running them. FilterLoadError."""
        version, dotted = self._find(path)
        try:
            for name in [dotted, *self._imported_later(version, dotted)]:
                compile_source(version.source(name)[1] or b"", version.path(name))
        except SyntaxError as error:
            raise FilterLoadError(describe(error)) from error

    def load(self, path: Path) -> ModuleType:
        """The module of a filter's file. Runs it if it is new, and what it imports. Raises FilterLoadError.

        Outdated modules that it imports later are loaded as well, so that a broken one is found before it is active.
        """
        version, dotted = self._find(path)
        try:
            loaded = version.load(dotted)
            loaded.imports.add(body_of(""))  # the `__init__.py` of the folder
            for name in self._imported_later(version, dotted):
                version.load(name)
        except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
            raise FilterLoadError(describe(error)) from error
        return loaded.module

    def _find(self, path: Path) -> tuple[FolderVersion, str]:
        folder, name = folder_and_name(path)
        version = self._versions.get(folder)
        dotted = None if version is None else version.module_at(name)
        fault = self._faults.get(os.path.join(folder, name), "")
        if version is None or dotted is None or fault:
            raise FilterLoadError(fault or f"{path} cannot be read: the supervisor has not read it")
        return version, dotted

    def _imported_later(self, version: FolderVersion, dotted: str) -> list[str]:
        """Outdated modules that the last version of a module depends on, in the order in which they first ran."""
        old = self._store.folders.get(version.folder)
        outdated = self._outdated.get(version.folder, set())
        if old is None or dotted not in outdated:
            return []
        imports = {name: set(map(module_of, list(known.imports))) for name, known in list(old.modules.items())}
        reached = _closure([dotted], lambda name: imports.get(name, ()))
        return [name for name in imports if name in reached & outdated and version.has(name)]

    def _replaced(self) -> list[LoadedModule]:
        """The active modules that are not a part of this change."""
        found: list[LoadedModule] = []
        for folder, old in self._store.folders.items():
            kept = self._versions[folder].modules if folder in self._versions else {}
            found += [known for name, known in list(old.modules.items()) if kept.get(name) is not known]
        return found

    def commit(self) -> Replaced:
        """Makes the modules active; returns those that exchanges in flight may still use."""
        for folder, new in self._versions.items():
            old = self._store.folders.get(folder)
            if old is not None:
                # What active filters have imported meanwhile.
                outdated = _outdated(old, new)
                for name, known in _complete(old).items():
                    if name not in outdated and name not in self._outdated[folder]:
                        new.modules.setdefault(name, known)
            for known in list(new.modules.values()):
                known.move_to(new)
            new.change = None
            note_active(new)
        replaced = Replaced(self._store.folders, self._replaced())
        for known in replaced.modules:
            self.collectors.replace(known.registrations)
        self.collectors.commit()
        self._store.folders = self._versions
        return replaced

    def rollback(self) -> None:
        """Removes everything that the change has loaded."""
        self.collectors.rollback()
        for folder, new in self._versions.items():
            old = self._store.folders.get(folder)
            kept = {} if old is None else old.modules
            made = [known for name, known in new.modules.items() if kept.get(name) is not known]
            new.close(made)
            for known in made:
                _unbind(known, kept)
                active = kept.get(known.dotted)
                if active is not None and active.content is not None:
                    show_source(active.path, active.content)
                else:
                    linecache.cache.pop(known.path, None)
        self._versions = {}


class Replaced:
    """Modules that are no longer active."""

    def __init__(self, versions: Mapping[str, FolderVersion], modules: list[LoadedModule]) -> None:
        self.modules = modules
        self._versions = list(versions.values())

    def forget(self) -> None:
        """Removes them, when no exchange uses them any more."""
        for version in self._versions:
            # Those that stay have a later version by now. Others may have been imported since the change.
            version.close([known for known in list(version.modules.values()) if known.version is version])


def _complete(version: FolderVersion) -> dict[str, LoadedModule]:
    """The modules that have run, without packages that are only folders: each version has its own of these."""
    return {name: known for name, known in list(version.modules.items()) if known.is_complete and known.content is not None}


def _outdated(old: FolderVersion, new: FolderVersion) -> set[str]:
    """The modules of `old` whose source differs in `new`, and those that depend on them, directly or not."""
    users: dict[str, set[str]] = {}
    names: set[str] = set()
    for name, known in list(old.modules.items()):
        imports = list(known.imports)  # other threads may add to it
        names |= {name, *map(module_of, imports)}
        for imported in imports:
            users.setdefault(imported, set()).add(body_of(name))
        # A package is outdated with its modules too, which are its attributes. Its code is not.
        for part in [body_of(name), *list(known.children)]:
            users.setdefault(part, set()).add(name)
    changed = [name for name in names if old.source(name) != new.source(name)]
    return _closure([*changed, *map(body_of, changed)], lambda name: users.get(name, ())) & old.modules.keys()


def _closure(names: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following(name)
    return found


def _unbind(loaded: LoadedModule, kept: Mapping[str, LoadedModule]) -> None:
    """Undoes that a package has a module as an attribute, if the package stays."""
    parent, _, name = loaded.dotted.rpartition(".")
    package = kept.get(parent)
    if package is not None:
        unbind(package.module, name, loaded.module)


def source_file(kind: type) -> str:
    """The file with the code of a filter's class; empty if that is compiled."""
    try:
        return _file_of(sys.modules.get(kind.__module__))
    except BaseException:  # of a metaclass
        return ""


def is_in_file(kind: type, file: str, line: int) -> bool:
    """Whether a line of a file is in the file of a filter's class."""
    return line > 0 and source_file(kind) == file


def is_in_class(kind: type, file: str, line: int) -> bool:
    """Whether a line of a file is in a method of a filter's class."""
    for base in kind.__mro__:
        for member in vars(base).values():
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
        return plain_text(file) if isinstance(file, str) else ""
    except BaseException:
        return ""
