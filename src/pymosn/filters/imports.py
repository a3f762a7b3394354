"""The modules that a Python file names in its imports, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def imported_names(content: bytes, path: str) -> set[str]:
    """The dotted names of modules that a file may import, also within functions; none if it is not valid Python.

    `path`: of the file in its folder. Names of relative imports start from that folder. `from a import b` gives `a` and
    `a.b`, because either may be a module. `import_module` and `__import__` count if their argument is a constant.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    package = path.split("/")[:-1]
    return {name for node in ast.walk(tree) for name in _names(node, package) if name}


def _names(node: ast.AST, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = absolute_name(node.module or "", node.level, package)
        if module is not None:
            yield module
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and node.args and _called(node.func) in ("import_module", "__import__"):
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            name = first.value.lstrip(".")
            yield absolute_name(name, len(first.value) - len(name), package) or ""


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def absolute_name(name: str, level: int, package: list[str]) -> str | None:
    """The name of a module from the folder on. `level`: number of leading dots of the import; `package`: where it is.

    None if it leads out of the folder.
    """
    if level == 0:
        return name
    if level - 1 > len(package):
        return None
    return ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
