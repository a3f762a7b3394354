"""Random edits of a filter's folder: after each of them its modules are what a process that starts now would have."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pymosn.filters.module_names import PREFIX
from pymosn.filters.modules import ModuleStore

FOLDER = "/not/on/disk"
#: Each module imports only those after it, so that there are no circles. `space` is a package without `__init__.py`.
FILES = {
    "filter": "filter.py",
    "": "__init__.py",
    "top": "top.py",
    "pkg": "pkg/__init__.py",
    "pkg.a": "pkg/a.py",
    "pkg.b": "pkg/b.py",
    "pkg.sub": "pkg/sub/__init__.py",
    "pkg.sub.c": "pkg/sub/c.py",
    "space.d": "space/d.py",
    "last": "last.py",
}
NAMES = list(FILES)


def imports(chance: random.Random, name: str, other: str, number: int) -> list[str]:
    """An import of `other` in the module `name`, which sets `x{number}` to what it has found."""
    package = name if FILES[name].endswith("__init__.py") else name.rpartition(".")[0]
    dots = "." * (1 + (package.count(".") + 1 if package else 0))
    parent, _, leaf = other.rpartition(".")
    forms = [
        [f"import {other}", f"x{number} = {other}.VALUE"],
        [f"import {other} as m{number}", f"x{number} = m{number}.VALUE"],
        [f"from {other} import VALUE as x{number}"],
        [f"from {dots}{other} import VALUE as x{number}"],
        [f"from {dots}{parent} import {leaf} as m{number}", f"x{number} = m{number}.VALUE"],
        ["import importlib", f"x{number} = importlib.import_module({other!r}).VALUE"],
    ]
    # A package has no attribute of the packages around it while it is being imported; the first form would need one.
    return chance.choice(forms[1:] if other.startswith(f"{name}.") else forms)


class Tree:
    """The files of the folder, which `edit` changes at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.files: dict[str, str] = {}
        for name in NAMES:
            self.write(name, 0)

    def write(self, name: str, version: int) -> None:
        """A module with the value of what it imports: at the top, in a `try`, or in a function."""
        later = [other for other in NAMES[NAMES.index(name) + 1 :] if other]
        lines, late, used = [], [], []
        for number, other in enumerate(self.chance.sample(later, min(len(later), self.chance.randrange(4)))):
            statement = imports(self.chance, name, other, number)
            if self.chance.random() < 0.3:
                late += ["    try:", *(f"        {line}" for line in statement), f"        found.append(x{number})"]
                late += ["    except (ImportError, AttributeError): pass"]
            else:
                lines += [
                    "try:",
                    *(f"    {line}" for line in statement),
                    f"except (ImportError, AttributeError): x{number} = None",
                ]
                used.append(f"x{number}")
        lines.append(f"VALUE = ({name!r}, {version}, {', '.join(used)})")
        lines += ["def late():", "    found = []", *late, "    return found"]
        self.files[FILES[name]] = "\n".join(lines)

    def edit(self, version: int) -> set[str]:
        """Rewrites, removes or adds some files, or comments one; returns the names."""
        edited = self.chance.sample(NAMES[1:], self.chance.randrange(3))
        for name in edited:
            action = self.chance.random()
            if action < 0.2:
                self.files.pop(FILES[name], None)
            elif action < 0.4 and FILES[name] in self.files:
                self.files[FILES[name]] += f"\n# {version}"
            else:
                self.write(name, version)
        return set(edited)

    def encoded(self) -> dict[str, dict[str, bytes]]:
        return {FOLDER: {path: text.encode() for path, text in self.files.items()}}


def load(store: ModuleStore, tree: Tree) -> Any:
    draft = store.draft(tree.encoded())
    module = draft.load(Path(FOLDER, "filter.py"))
    draft.commit().forget()
    return module


def values(store: ModuleStore) -> dict[str, tuple[object, object]]:
    """What each loaded module has imported at the top, and what it imports in a function."""
    loaded = sorted(store.folders[FOLDER].modules.items())
    return {name: (known.module.VALUE, known.module.late()) for name, known in loaded if hasattr(known.module, "VALUE")}


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.startswith(PREFIX) and name not in before]:
        del sys.modules[name]


@pytest.mark.parametrize("seed", range(60))
def test_after_any_edits_modules_are_as_after_a_start(seed: int) -> None:
    tree = Tree(seed)
    store = ModuleStore()
    module = load(store, tree)
    values(store)
    for version in range(1, 12):
        edited = tree.edit(version)
        before = {name: loaded.module for name, loaded in store.folders[FOLDER].modules.items()}
        module = load(store, tree)
        if not edited:
            assert module is before["filter"]
        if "last" not in edited and "last" in store.folders[FOLDER].modules and "last" in before:
            assert store.folders[FOLDER].modules["last"].module is before["last"], "it imports nothing"
        fresh = ModuleStore()
        load(fresh, tree)
        found, expected = values(store), values(fresh)
        assert found["filter"] == expected["filter"]
        both = found.keys() & expected.keys()
        assert {name: found[name] for name in both} == {name: expected[name] for name in both}
