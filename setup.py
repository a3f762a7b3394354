"""Hands the data path to mypyc. Everything else about the build is in pyproject.toml.

Without a C compiler the package installs interpreted and says so; PYMOSN_INTERPRETED=1 asks for that.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

COMPILED = ("core", "api", "network", "protocol", "stream", "proxy", "routing", "upstream")
#: A line of the access log is made per request; the rest of `observe` is not on the data path.
ALSO_COMPILED = ("access_log", "destination", "text", "variables")


def extensions():
    """The compiled modules, or none with the reason on standard error."""
    if os.environ.get("PYMOSN_INTERPRETED"):
        return []
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        print(
            "pymosn: no C compiler found: installing the interpreted build (slower; the behaviour is the same)",
            file=sys.stderr,
        )
        return []
    from mypyc.build import mypycify

    # A package's __init__ only re-exports; compiling it gains nothing and hides the package from static tools.
    paths = [
        str(path)
        for folder in COMPILED
        for path in sorted(Path("src/pymosn", folder).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    paths += [f"src/pymosn/observe/{name}.py" for name in ALSO_COMPILED]
    made = mypycify(["--strict", *paths], opt_level="3", debug_level="1")
    if os.name == "posix":
        for extension in made:
            # Only these modules call their functions, so the compiler may inline them and call them directly.
            extension.extra_compile_args += ["-fvisibility=hidden", "-fno-semantic-interposition"]
    return made


setup(ext_modules=extensions())
