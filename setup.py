"""Hands the data path to mypyc. Everything else about the build is in pyproject.toml and build_compiled.py.

Without a C compiler the package installs interpreted and says so; PYMOSN_INTERPRETED=1 asks for that.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))  # an isolated build does not look here
from build_compiled import commands, placeholder

COMPILED = ("core", "api", "network", "protocol", "stream", "proxy", "routing", "upstream")
#: Lines of the access log and traces are made per request; the rest of `observe` is not on the data path.
ALSO_COMPILED = ("access_log", "destination", "text", "variables", "tracing/*")
#: Compiled classes lose the types of their attributes, by which messages are decoded.
NOT_COMPILED = ("src/pymosn/api/spans.py",)


def is_compiled():
    """Whether the data path is compiled; if not, standard error has the reason."""
    if os.environ.get("PYMOSN_INTERPRETED"):
        return False
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        print(
            "pymosn: no C compiler found: installing the interpreted build (slower; the behaviour is the same)",
            file=sys.stderr,
        )
        return False
    return True


def modules():
    """The files that are compiled."""
    # A package's __init__ only re-exports; compiling it gains nothing and hides the package from static tools.
    paths = [
        str(path)
        for folder in COMPILED
        for path in sorted(Path("src/pymosn", folder).rglob("*.py"))
        if path.name != "__init__.py" and str(path) not in NOT_COMPILED
    ]
    also = [path for name in ALSO_COMPILED for path in sorted(Path("src/pymosn/observe").glob(f"{name}.py"))]
    return paths + [str(path) for path in also if path.name != "__init__.py"]


setup(ext_modules=[placeholder()] if is_compiled() else [], cmdclass=commands(modules))
