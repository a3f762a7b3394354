"""The source of filters: every Python file that they could import from their folders, read in one go.

The supervisor reads it and gives it to all workers, which import only from it (`filters/modules.py`). So what is active does
not depend on what lies on disk later.

A folder is identified by its configured path: absolute and normalized, but links are not resolved, because a link such as
`current` may get another target while the folder stays the same. Its files are all `*.py` in it and in subfolders that could
be packages; links are followed. If a folder exceeds a budget, because a filter lies in /tmp for example, only the files that
the configured ones import are read (`filters/imports.py`).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from pymosn.core.files import read_regular
from pymosn.filters.imports import imported_names

#: What is read of a folder as a whole: files, bytes, which every worker keeps, and entries of its folders.
MAX_FILES: Final = 2000
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_ENTRIES: Final = 20_000
#: Maximum bytes of one file.
MAX_FILE: Final = 16 * 1024 * 1024

#: Ends of the names of files that filters read, and which are not code: their folders are not read for their sake.
DATA: Final = (".pb", ".binpb", ".bin", ".desc", ".descriptor", ".protoset")

Digest = bytes
#: Relative path -> content.
Files = dict[str, bytes]


class Sources:
    """The files of some folders. `folders`: the content by folder and relative path; `digests`: theirs, of 16 bytes.

    `faults`: why files cannot be read, by path: configured ones, and those that an import could mean.
    """

    def __init__(
        self,
        folders: dict[str, Files] | None = None,
        faults: dict[str, str] | None = None,
        digests: Mapping[str, dict[str, Digest]] | None = None,
    ) -> None:
        """`digests`: of some of the folders, as far as they are known."""
        self.folders = folders or {}
        self.faults = faults or {}
        known = digests or {}
        self.digests = {
            folder: known[folder] if folder in known else _digests(files) for folder, files in sorted(self.folders.items())
        }

    def has(self, path: Path | str) -> bool:
        """Whether a file has been read."""
        folder, name = folder_and_name(path)
        return name in self.folders.get(folder, ())

    def only(self, folders: Iterable[str]) -> Sources:
        """Those of some folders, without faults."""
        return Sources({folder: self.folders[folder] for folder in folders if folder in self.folders}, digests=self.digests)

    def updated(self, newer: Sources) -> Sources:
        """These with the folders of `newer` instead of their own, and its faults."""
        return Sources({**self.folders, **newer.folders}, newer.faults, {**self.digests, **newer.digests})


def _digests(files: Files) -> dict[str, Digest]:
    return {name: hashlib.blake2b(content, digest_size=16).digest() for name, content in sorted(files.items())}


def folder_and_name(path: Path | str) -> tuple[str, str]:
    """The folder that identifies a configured file, and its name there."""
    return os.path.split(os.path.abspath(path))  # which also normalizes


def read_sources(paths: Iterable[Path | str], on_file: Callable[[str], object] = str) -> Sources:
    """Reads the folders of filters. `paths`: the configured files. `on_file` is called with each path before it is opened.

    Files that cannot be read are left out, and are in `faults`.
    """
    wanted: dict[str, list[str]] = {}
    for path in paths:
        folder, name = folder_and_name(path)
        if name not in wanted.setdefault(folder, []):
            wanted[folder].append(name)
    folders: dict[str, Files] = {}
    faults: dict[str, str] = {}
    for folder, names in wanted.items():
        reader = _FolderReader(folder, on_file)
        folders[folder] = reader.read(names)
        faults |= reader.faults
    return Sources(folders, faults)


class _OverBudget(Exception):
    """A folder has more than is read as a whole."""


class _FolderReader:
    """Reads one folder."""

    def __init__(self, folder: str, on_file: Callable[[str], object]) -> None:
        self.faults: dict[str, str] = {}
        self._folder = folder
        self._on_file = on_file
        self._entries = 0

    def read(self, names: list[str]) -> Files:
        """The files, for filters in the files `names`. Nothing but these if none of them can be read."""
        configured: Files = {}
        for name in names:
            path = os.path.join(self._folder, name)
            try:
                configured[name] = self._read(path)
            except (OSError, ValueError) as error:
                self._add_fault(path, error)
        if all(name.endswith(DATA) for name in configured):
            return configured
        try:
            return self._all_below("") | configured
        except _OverBudget:
            return self._imported_by(configured)

    def _read(self, path: str) -> bytes:
        self._on_file(path)
        return read_regular(path, MAX_FILE)

    def _add_fault(self, path: str, error: OSError | ValueError) -> None:
        self.faults[path] = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"

    def _all_below(self, inner: str) -> Files:
        """All files in the subfolder `inner` and below. _OverBudget if these are too many."""
        found: Files = {}
        size = 0
        self._entries = 0
        for name in self._names(inner, ()):
            path = os.path.join(self._folder, name)
            try:
                found[name] = self._read(path)
            except (OSError, ValueError) as error:  # a FIFO, a link to nothing, no permission: not importable either
                if os.path.basename(name).removesuffix(".py").isidentifier() and not isinstance(error, FileNotFoundError):
                    self._add_fault(path, error)
                continue
            size += len(found[name])
            if len(found) > MAX_FILES or size > MAX_BYTES:
                raise _OverBudget
        return found

    def _names(self, inner: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """The relative paths of the `*.py` in `inner` and below. `above`: the folders around it, to end circles of links."""
        folder = os.path.join(self._folder, inner) if inner else self._folder
        try:
            status = os.stat(folder)
            with os.scandir(folder) as entries:
                is_circle = (status.st_dev, status.st_ino) in above
                listed = [] if is_circle else list(itertools.islice(entries, MAX_ENTRIES - self._entries + 1))
        except OSError:
            return
        self._entries += len(listed)
        if self._entries > MAX_ENTRIES:
            raise _OverBudget
        names = {entry.name for entry in listed}
        if inner and "pyvenv.cfg" in names:
            return
        for entry in sorted(listed, key=lambda entry: entry.name):
            path = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.endswith(".py") and _is_text(entry.name):
                yield path
            elif may_be_package(entry.name) and _is_folder(entry):
                yield from self._names(path, (*above, (status.st_dev, status.st_ino)))

    def _imported_by(self, configured: Files) -> Files:
        """The configured files and what they import, directly or not; a package comes as a whole if it is small enough."""
        found = dict(configured)
        waiting = list(configured)
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            for imported in imported_names(found[name], name) - seen:
                seen.add(imported)
                new = {path: content for path, content in self._module(imported).items() if path not in found}
                found |= new
                waiting += new
        return found

    def _module(self, dotted: str) -> Files:
        """The files of a module and of the packages around it."""
        first, *rest = dotted.split(".")
        if rest or os.path.isdir(os.path.join(self._folder, first)):
            try:
                return self._all_below(first) | self._single(first)
            except _OverBudget:
                pass
        parts = [first, *rest]
        return {path: content for i in range(len(parts)) for path, content in self._single("/".join(parts[: i + 1])).items()}

    def _single(self, stem: str) -> Files:
        found: Files = {}
        for name in (f"{stem}/__init__.py", f"{stem}.py"):
            try:
                found[name] = self._read(os.path.join(self._folder, name))
            except (OSError, ValueError):
                continue
        return found


def may_be_package(name: str) -> bool:
    """Whether a folder of that name is one that an import could name."""
    return name.isidentifier() and name != "__pycache__"


def _is_text(name: str) -> bool:
    """Whether a file name is valid UTF-8: others cannot be sent to workers, nor named by an import."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
