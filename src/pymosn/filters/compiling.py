"""Source of filters in memory: compiled, and shown in tracebacks."""

from __future__ import annotations

import importlib.util
import linecache
from types import CodeType

from pymosn.core.errors import describe


def compile_source(content: bytes, path: str) -> CodeType:
    """Compiles a file. SyntaxError, with the file and a line."""
    try:
        code: CodeType = compile(content, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        if error.lineno is not None:
            raise
        raise SyntaxError(error.msg, (path, _line_of_null(content), None, None)) from None
    except (ValueError, RecursionError, MemoryError) as error:  # of code that is nested too deeply, for example
        raise SyntaxError(describe(error), (path, _line_of_null(content), None, None)) from None
    return code


def _line_of_null(content: bytes) -> int:
    """The line of the first null byte, which no source may contain; 1 if there is none."""
    return content[: max(0, content.find(0))].count(b"\n") + 1


def show_source(path: str, content: bytes) -> None:
    """Makes tracebacks show this text for a file, whatever is on disk."""
    try:
        text = importlib.util.decode_source(content)
    except (SyntaxError, ValueError):
        return
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
