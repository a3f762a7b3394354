"""The names of functions by file and line, from the source: traces of allocations have only these."""

from __future__ import annotations

import ast
import os
import stat
from typing import Final

#: Bytes of a source file, and files that are read.
LARGEST: Final = 2 << 20
MOST_FILES: Final = 500


class CodeNames:
    """Reads each file once. A file that has been edited since it was imported gives the names of now."""

    def __init__(self) -> None:
        self._files: dict[str, list[tuple[int, int, str]]] = {}

    def at(self, file: str, line: int) -> str:
        """The innermost function around a line; `<module>` outside of all, `line 7` if the source is not known."""
        functions = self._files.get(file)
        if functions is None and len(self._files) < MOST_FILES:
            functions = self._files[file] = _functions(file)
        if not functions:
            return f"line {line}"
        around = [(first, name) for first, last, name in functions if first <= line <= last]
        return max(around)[1] if around else "<module>"


def _functions(file: str) -> list[tuple[int, int, str]]:
    """First line, last line and name of each function; empty if the file is no readable Python source."""
    if not file.endswith(".py"):
        return []
    try:
        # Without waiting for a named pipe.
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as source:
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                return []
            tree = ast.parse(source.read(LARGEST))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.lineno, node.end_lineno or node.lineno, node.name) for node in ast.walk(tree) if isinstance(node, kinds)]
