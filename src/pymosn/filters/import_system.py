"""The import system's part in the modules of filters: finds them by their full names, for pickle and `import_module`."""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from pymosn.filters.folder_version import VERSIONS, FolderVersion, ModuleImport
from pymosn.filters.module_names import PREFIX, root_prefix

#: The active version of each folder, by the prefix of its package.
_ACTIVE: Final[weakref.WeakValueDictionary[str, FolderVersion]] = weakref.WeakValueDictionary()


class Finder:
    """Finds modules of filters. A version that is not known here means the active one.

    So an object that was pickled by another worker, or before an edit, can be read.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module, which runs if it has not yet. ModuleNotFoundError for one that does not exist: not from disk."""
        if not name.startswith(PREFIX):
            return None
        root, _, dotted = name.partition(".")
        version = VERSIONS.get(root)
        if version is None or version.is_closed:
            version = _ACTIVE.get(root[: root.rindex("_") + 1], version)
        if version is None:
            return None
        loader: Any = version.load(dotted)
        return ModuleSpec(name, loader, origin=loader.path or None, is_package=loader.is_package(name))


def note_active(version: FolderVersion) -> None:
    """Notes the active version of a folder."""
    _ACTIVE[root_prefix(version.folder)] = version


def install() -> None:
    """Adds the finder, and makes `importlib.import_module` work in the modules of filters as `import` does; once."""
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, Finder())
    original = importlib.import_module

    @functools.wraps(original)
    def import_module(name: str, package: str | None = None) -> ModuleType:
        hook = sys._getframe(1).f_builtins.get("__import__")
        found = hook.import_module(name, package) if isinstance(hook, ModuleImport) else None
        return original(name, package) if found is None else found

    importlib.import_module = import_module
