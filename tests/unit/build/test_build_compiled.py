"""What the compiled build makes again, over made-up trees."""

from pathlib import Path

import pytest
from build_compiled import Product, files_read, key_of, make_all, prune

COMMAND = ["cc", "-O2", "-c"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "a.c").write_text('#include <stdio.h>\n#include "shared.h"\nint a;\n')
    (tmp_path / "b.c").write_text("int b;\n")
    (tmp_path / "shared.h").write_text("#include <runtime.h>\n")
    (tmp_path / "lib" / "runtime.h").write_text("int runtime;\n")
    return tmp_path


def key(tree: Path, name: str, command: list[str] = COMMAND) -> str:
    return key_of(command, files_read(tree / name, [tree / "lib"]))


def product(tree: Path, name: str, made: list[str], fails: bool = False) -> Product:
    def make(to: Path) -> None:
        to.write_text("half")
        if fails:
            raise OSError(name)
        to.write_text("whole")
        made.append(name)

    path = tree / "out" / f"{name}.o"
    return Product(path, path.with_suffix(".key"), key(tree, name), 1, make)


def test_the_headers_of_a_file_are_found_through_other_headers(tree: Path) -> None:
    names = [str(path.relative_to(tree)) for path in files_read(tree / "a.c", [tree / "lib"])]
    assert names == ["a.c", "lib/runtime.h", "shared.h"]


@pytest.mark.parametrize("changed", ["a.c", "shared.h", "lib/runtime.h"])
def test_a_key_changes_with_the_file_and_each_header_that_it_includes(tree: Path, changed: str) -> None:
    before = key(tree, "a.c"), key(tree, "b.c")
    (tree / changed).write_text((tree / changed).read_text() + "int more;\n")
    after = key(tree, "a.c"), key(tree, "b.c")
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_key_changes_with_the_command_and_not_with_the_time(tree: Path) -> None:
    before = key(tree, "a.c")
    assert key(tree, "a.c", ["cc", "-O3", "-c"]) != before
    (tree / "a.c").write_text((tree / "a.c").read_text())
    assert key(tree, "a.c") == before


def test_only_what_changed_is_made_again(tree: Path) -> None:
    made: list[str] = []
    make_all([product(tree, name, made) for name in ("a.c", "b.c")], 2)
    assert sorted(made) == ["a.c", "b.c"]
    made.clear()
    make_all([product(tree, name, made) for name in ("a.c", "b.c")], 2)
    assert made == []
    (tree / "shared.h").write_text("int other;\n")
    make_all([product(tree, name, made) for name in ("a.c", "b.c")], 2)
    assert made == ["a.c"]
    made.clear()
    (tree / "out" / "b.c.o").unlink()
    make_all([product(tree, name, made) for name in ("a.c", "b.c")], 2)
    assert made == ["b.c"]


def test_what_was_interrupted_is_made_again_even_when_the_change_is_taken_back(tree: Path) -> None:
    made: list[str] = []
    original = (tree / "b.c").read_text()
    make_all([product(tree, "b.c", made)], 1)
    (tree / "b.c").write_text("int changed;\n")
    with pytest.raises(OSError, match=r"b\.c"):
        make_all([product(tree, "b.c", made, fails=True)], 1)
    assert (tree / "out" / "b.c.o").read_text() == "whole"
    (tree / "b.c").write_text(original)
    assert not product(tree, "b.c", made).is_current()


def test_pruning_leaves_what_is_wanted_and_its_bytecode(tmp_path: Path) -> None:
    kept = tmp_path / "package" / "kept.py"
    gone = tmp_path / "package" / "gone.py"
    library = tmp_path / "old" / "gone.so"
    cache = tmp_path / "package" / "__pycache__"
    for path in (kept, gone, library, cache / "kept.cpython-311.pyc", cache / "gone.cpython-311.pyc"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    prune(tmp_path, [kept])
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["package/__pycache__/kept.cpython-311.pyc", "package/kept.py"]
    assert not library.parent.exists()
