"""What an ordinary import would find on disk, without importing it: installed packages, and folders in `sys.path`."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from types import ModuleType
from typing import Any


def is_installed(top: str, uninstalled: frozenset[str]) -> bool:
    """Whether the standard library or an installed package has a module, without importing it."""
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in ("pymosn", "__main__"):
        return True
    folders = [entry for entry in sys.path if entry and _places(entry).isdisjoint(uninstalled | _places(os.getcwd()))]
    others = [finder for finder in sys.meta_path if finder not in (BuiltinImporter, FrozenImporter, PathFinder)]
    finders: list[Any] = [getattr(finder, "find_spec", None) for finder in others]
    specs = [PathFinder.find_spec(top, folders), *(find(top, None) for find in finders if find is not None)]
    return any(spec is not None and spec.origin is not None for spec in specs)  # None: a folder without `__init__.py`


def names_of(folder: str) -> list[str]:
    """The names by which an import would find a folder as a package on disk, through `sys.path`."""
    found: list[str] = []
    entries = {os.path.realpath(entry) for entry in sys.path}  # an empty one is the current directory
    for path in _places(folder):
        parts: list[str] = []
        parent, name = os.path.split(path)
        while name.isidentifier():
            parts.insert(0, name)
            if os.path.realpath(parent) in entries and _leads_to(parts[0], os.path.join(parent, name)):
                found.append(".".join(parts))
            parent, name = os.path.split(parent)
    return found


def _leads_to(top: str, folder: str) -> bool:
    """Whether the package `top` that an import would find has modules in a folder."""
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return False
    spec = PathFinder.find_spec(top)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return any(os.path.realpath(place) == os.path.realpath(folder) for place in places)


def native_module(name: str, file: str) -> ModuleType:
    """The extension module in a file, which a process loads only once."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _places(folder: str) -> set[str]:
    return {os.path.abspath(folder), os.path.realpath(folder)}
