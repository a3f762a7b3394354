"""Which layer may import which: the arrows of docs/architecture.md, read from the imports; and no circles of modules."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

import pymosn

SOURCE = Path(__file__).parents[2] / "src" / "pymosn"

#: Each layer with the layers that it may import; it may also import whatever those may.
ARROWS = {
    "core": (),
    "api": ("core",),
    "network": ("protocol",),
    "protocol": ("api",),
    "stream": ("network",),
    "routing": ("stream",),
    "upstream": ("stream",),
    "proxy": ("routing", "upstream"),
    "filters": ("proxy",),
    "recording": ("core",),
    "testing": ("config", "recording"),
    "observe": ("api",),
    "config": ("filters", "observe"),
    "assembly": ("config",),
    "control": ("assembly", "observe"),
    "server": ("control", "observe"),
    "kit": ("server", "testing"),
    "cli": ("kit",),
}
#: Modules at the root that any layer may use.
ROOT = {"version"}
#: Without these codecs stay testable byte by byte: no clock, no chance, no I/O.
FORBIDDEN_IN_PROTOCOL = {"asyncio", "socket", "ssl", "time", "random", "os"}


def reachable(layer: str) -> set[str]:
    found = {layer}
    for below in ARROWS[layer]:
        found |= reachable(below)
    return found


def imports(path: Path) -> set[str]:
    """Full names of all modules that a module imports, including those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module == "pymosn" else {module}
    return names


def module_name(path: Path, root: Path) -> str:
    """The name of the module at `path` when `root` is a folder of packages."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_graph(root: Path, package: str) -> dict[str, set[str]]:
    """The modules of `package` in `root`, each with those that it imports: at the top, in functions and for types only."""
    paths = {module_name(path, root): path for path in sorted((root / package).rglob("*.py"))}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # `from package import name` imports the module `name` when there is one, and else the package.
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {one if one in paths else str(node.module) for one in full}
        graph[name] = found & paths.keys()
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components with more than one module, or with one that imports itself; sorted.

    Two modules are in one component when each can be reached from the other.
    """
    reached = {name: reachable_from(name, graph) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def reachable_from(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    """The modules that `start` imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


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


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = module_graph(SOURCE.parent, "pymosn")
    assert len(graph) > 200
    assert circles(graph) == []


#: Files of a made-up package, and the circles in it.
TREES: dict[str, tuple[dict[str, str], list[list[str]]]] = {
    "none": ({"a": "import p.b", "b": "from p import c", "c": "import os"}, []),
    "two": ({"a": "from p.b import x", "b": "from p.a import y"}, [["p.a", "p.b"]]),
    "itself": ({"a": "import p.a"}, [["p.a"]]),
    "through a third": (
        {"a": "from p.b import x", "b": "from p.c import x", "c": "from p.a import x", "d": "from p.a import x"},
        [["p.a", "p.b", "p.c"]],
    ),
    "for types only": (
        {"a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B", "b": "import p.a"},
        [["p.a", "p.b"]],
    ),
    "in a function": ({"a": "def f():\n    from p import b", "b": "import p.a"}, [["p.a", "p.b"]]),
    "with the package": ({"__init__": "from p.a import x", "a": "from p import y"}, [["p", "p.a"]]),
    "over folders": ({"q/a": "from p.r.b import x", "r/b": "import p.q.a"}, [["p.q.a", "p.r.b"]]),
    "two circles": (
        {"a": "import p.b", "b": "import p.a, p.c", "c": "import p.d", "d": "import p.c"},
        [["p.a", "p.b"], ["p.c", "p.d"]],
    ),
}


@pytest.mark.parametrize(("files", "expected"), TREES.values(), ids=TREES)
def test_circles_are_found(tmp_path: Path, files: dict[str, str], expected: list[list[str]]) -> None:
    for name, text in files.items():
        path = tmp_path / "p" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert circles(module_graph(tmp_path, "p")) == expected
