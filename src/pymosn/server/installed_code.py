"""The version of the code on disk: `pip install -U` replaces it under a running process.

A worker that is replaced then runs the new code under a supervisor with the old one. Most versions can work together,
because unknown fields of messages are ignored, but nothing guarantees it, so the log asks for an upgrade.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pymosn
from pymosn.core.files import read_regular
from pymosn.version import VERSION

_FILE: Final = str(Path(pymosn.__file__).resolve().parent / "version.py")
_MAX_SIZE: Final = 64 * 1024
_VERSION: Final = re.compile(rb'^VERSION = "([^"]+)"', re.MULTILINE)


def code_fault(path: str = _FILE, version: str = VERSION) -> str:
    """Why a worker that is started now has other code than this process, which has `version`; empty if it has not.

    `path`: the file of the package that has the version.
    """
    try:
        found = _VERSION.search(read_regular(path, _MAX_SIZE))
    except (OSError, ValueError) as error:
        return f"the code of pymosn on disk cannot be read ({error}); run `pymosn upgrade`"
    on_disk = "unknown" if found is None else found[1].decode(errors="replace")
    if on_disk == version:
        return ""
    return (
        f"pymosn on disk has version {on_disk}, and this process runs {version}: "
        "a worker that starts now has other code than its supervisor; run `pymosn upgrade`"
    )
