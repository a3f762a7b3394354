"""`pymosn new-filter`: creates a package with a filter as a starting point."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS, STREAM_FILTERS

#: The files of a new package. `NAME` in a path is its module; in a text, `$name` is that too, `$project` the package's name,
#: and `$Class` the filter's class.
_TEMPLATES = Path(__file__).parent / "package"
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


class NewFilterError(Exception):
    """The package cannot be created; the text is the reason."""


def write_package(name: str, directory: Path) -> Path:
    """Creates the package `name` in a new folder of that name in `directory`, and returns the folder.

    Raises NewFilterError for an invalid name or an existing folder, OSError if it cannot be written.
    """
    module = module_name(name)
    folder = directory / name
    values = {
        "name": module,
        "project": module.replace("_", "-"),
        "Class": "".join(part.capitalize() for part in module.split("_")),
    }
    directory.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        raise NewFilterError(f"{folder} already exists and is not overwritten") from None
    for template in _TEMPLATES.rglob("*.in"):
        file = folder / str(template.relative_to(_TEMPLATES)).replace("NAME", module).removesuffix(".in")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(template.read_text()).substitute(values))
    return folder


def module_name(name: str) -> str:
    """Converts `name` to a module name. Raises NewFilterError."""
    if not _NAME.fullmatch(name):
        raise NewFilterError(
            f"{name!r} is invalid: use lower-case letters a to z, digits, and single - or _ between them, as in key_check"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise NewFilterError(f"{name!r} is invalid: it is a Python keyword")
    if module in sys.stdlib_module_names or find_spec(module) is not None:
        raise NewFilterError(f"{name!r} is invalid: a module {module} already exists")
    if module in STREAM_FILTERS or module in NO_OP_STREAM_FILTERS:
        raise NewFilterError(f"{name!r} is invalid: MOSN has a stream filter of that name")
    return module
