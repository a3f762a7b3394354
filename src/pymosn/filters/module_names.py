"""The names of filters' modules: in their folder, and in `sys.modules`."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "pymosn_filters_"


def body_of(dotted: str) -> str:
    """Marks the code of a package, apart from the modules in it."""
    return f"{dotted}:"


def module_of(name: str) -> str:
    """The module of a name that `body_of` may have marked."""
    return name.removesuffix(":")


def root_prefix(folder: str) -> str:
    """The name of a folder's package, without the number of the version."""
    return f"{PREFIX}{hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()}_"


def module_paths(files: Iterable[str]) -> dict[str, str | None]:
    """The modules of a folder: name -> relative path; None for a package without `__init__.py`."""
    found: dict[str, str | None] = {"": None}
    packages: set[str] = set()
    for path in sorted(files):
        *folders, name = path.split("/")
        dotted = ".".join(folders) if name == "__init__.py" else ".".join([*folders, entry_name(name)])
        if name == "__init__.py" or dotted not in found:
            found[dotted] = path
        packages |= {".".join(folders[: i + 1]) for i in range(len(folders))}
    return found | {package: None for package in packages if package not in found}


def entry_name(name: str) -> str:
    """The module of a file. A name that no import could mean gets a digest, so that it is no other module's."""
    stem = name.removesuffix(".py")
    if name == "__init__.py":
        return ""
    if name.endswith(".py") and "." not in stem:
        return stem
    return f"{re.sub(r'[^0-9a-zA-Z_]', '_', name)}_{zlib.crc32(name.encode('utf-8', 'surrogateescape')):08x}"
