"""Whether other users of the machine could change the code of a filter."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from pymosn.filters.sources import may_be_package

#: Maximum number of modules next to a filter that are checked: more than are read of a folder as a whole (`sources.py`).
MAX_NEIGHBOURS: Final = 5000


def writable_fault(path: Path, trusted: Collection[int]) -> str:
    """Why any user of the machine could change a filter's file, a module next to it, or replace them; empty if not.

    In a folder with the sticky bit, such as /tmp, what belongs to one of the users `trusted` cannot be replaced. Reads
    attributes only; a file that does not exist has no fault.
    """
    chains = dict.fromkeys([Path(os.path.abspath(path)), Path(os.path.realpath(path))])
    try:
        found = (fault for chain in chains for fault in itertools.chain(_own_fault(chain), _folder_faults(chain, trusted)))
        return next(found, "") or next(_neighbour_faults(path.parent, trusted), "")
    except OSError:
        return ""


def _own_fault(path: Path) -> Iterator[str]:
    if os.stat(path).st_mode & stat.S_IWOTH:
        yield f"{path} is world-writable"


def _folder_faults(path: Path, trusted: Collection[int]) -> Iterator[str]:
    child = path
    for folder in path.parents:
        mode = os.stat(folder).st_mode
        if mode & stat.S_IWOTH:
            owner = os.lstat(child).st_uid
            if not mode & stat.S_ISVTX:
                yield f"the folder {folder} is world-writable"
            elif owner not in trusted:
                yield f"{child} is in the world-writable folder {folder}, and belongs to the user id {owner}"
        child = folder


def _neighbour_faults(folder: Path, trusted: Collection[int]) -> Iterator[str]:
    """Modules that the filter could import from its folder; links are followed."""
    for path in itertools.islice(_modules(folder), MAX_NEIGHBOURS):
        with contextlib.suppress(OSError):  # removed meanwhile, or a link to nothing
            if os.stat(path).st_mode & stat.S_IWOTH:
                yield f"{path} is world-writable, and can be imported"
            if os.path.islink(path):
                real = Path(os.path.realpath(path))
                yield from (f"{fault}, and {path} can be imported" for fault in _folder_faults(real, trusted))


def _modules(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if may_be_package(name)]
        if os.path.realpath(root) in seen:  # links in a circle
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        yield from (os.path.join(root, name) for name in folders)
        yield from (os.path.join(root, name) for name in files if name.endswith((".py", ".so")))
