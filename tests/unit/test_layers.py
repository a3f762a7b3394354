"""Who may import whom: the arrows of docs/architecture.md, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

import pymosn

SOURCE = Path(__file__).parents[2] / "src" / "pymosn"

#: Each layer with the layers whose arrows it is at the start of; whatever those may import, it may too.
ARROWS = {
    "core": (),
    "api": ("core",),
    "network": ("api",),
    "protocol": ("api",),
    "stream": ("protocol", "network"),
    "routing": ("stream",),
    "upstream": ("stream",),
    "proxy": ("routing", "upstream"),
    "filters": ("proxy",),
    "testing": ("filters",),
    "observe": ("api",),
    "config": ("filters", "observe"),
    "assembly": ("config",),
    "control": ("assembly", "observe"),
    "server": ("control", "observe"),
    "kit": ("server",),
    "cli": ("kit",),
}
#: Modules at the root that any layer may use.
ROOT = {"version", "testing"}
#: What keeps codecs testable byte by byte: no clock, no chance, no I/O.
FORBIDDEN_IN_PROTOCOL = {"asyncio", "socket", "ssl", "time", "random", "os"}


def reachable(layer: str) -> set[str]:
    found = {layer}
    for below in ARROWS[layer]:
        found |= reachable(below)
    return found


def imports(path: Path) -> set[str]:
    """Full names of everything that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "pymosn" else {module}
    return names


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if layer_of(path) in ARROWS]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    allowed = reachable(layer_of(path)) | ROOT
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "pymosn" and len(parts) > 1:
            assert parts[1] in allowed, f"{layer_of(path)} must not import {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if layer_of(path) == "protocol"], ids=lambda path: path.name)
def test_codecs_do_no_io(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN_IN_PROTOCOL


def test_every_package_is_in_the_picture() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert packages <= set(ARROWS)
    assert len(MODULES) > 60


def test_each_package_has_its_map() -> None:
    for init in SOURCE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), f"{init} has no docstring"
    assert pymosn.__doc__
