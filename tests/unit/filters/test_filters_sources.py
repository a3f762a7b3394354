"""The source of filters: which files of a folder are read, and which of a folder that is too large."""

import os
from pathlib import Path

import pytest

from pymosn.filters import sources
from pymosn.filters.imports import imported_names
from pymosn.filters.sources import Sources, read_sources


def write(folder: Path, *paths: str, text: str = "") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text or f"# {path}")


def read(folder: Path, *names: str) -> set[str]:
    return set(read_sources([folder / name for name in names or ("filter.py",)]).folders[str(folder)])


def test_files_that_could_be_imported(tmp_path: Path) -> None:
    wanted = ["filter.py", "helpers.py", "pkg/__init__.py", "pkg/inner/leaf.py", "space/leaf.py", "key-check.py"]
    write(tmp_path, *wanted, "data.json", "not-a-package/a.py", ".hidden/a.py", "__pycache__/a.py", "venv/lib/a.py")
    write(tmp_path, "venv/pyvenv.cfg")
    assert read(tmp_path) == set(wanted)
    assert read_sources([tmp_path / "filter.py"]).folders[str(tmp_path)]["pkg/inner/leaf.py"] == b"# pkg/inner/leaf.py"


def test_a_filter_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path, "filter", "filter.v2.py")
    assert read(tmp_path, "filter", "filter.v2.py") == {"filter", "filter.v2.py"}


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "v1", tmp_path / "elsewhere"
    write(folder, "filter.py")
    write(elsewhere, "leaf.py", "deep/leaf.py")
    (folder / "pkg").symlink_to(elsewhere)
    (elsewhere / "deep" / "circle").symlink_to(folder)
    (tmp_path / "current").symlink_to("v1")
    found = read_sources([tmp_path / "current" / "filter.py"])
    assert set(found.folders) == {str(tmp_path / "current")}
    assert set(found.folders[str(tmp_path / "current")]) == {"filter.py", "pkg/leaf.py", "pkg/deep/leaf.py"}


def test_the_folder_is_named_by_its_configured_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "conf/filter.py")
    monkeypatch.chdir(tmp_path)
    assert set(read_sources(["conf/../conf//filter.py"]).folders) == {str(tmp_path / "conf")}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "filter.py", "pkg/leaf.py")
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "link.py").symlink_to("nothing")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / os.fsdecode(b"\xff.py")).touch()
    assert read(tmp_path) == {"filter.py", "pkg/leaf.py"}
    found = read_sources([tmp_path / name for name in ("filter.py", "fifo.py", "missing.py", "folder.py")])
    assert set(found.folders[str(tmp_path)]) == {"filter.py", "pkg/leaf.py"}
    assert {Path(path).name: text.partition(": ")[2] for path, text in found.faults.items()} == {
        "fifo.py": "not a regular file but a FIFO",
        "missing.py": "No such file or directory",
        "folder.py": "not a regular file but a folder",
    }
    assert all(text.startswith(f"{path} cannot be read: ") for path, text in found.faults.items())
    others = read_sources([tmp_path / "filter.py"]).faults  # of what an import could mean, and is there
    assert {Path(path).name for path in others} == {"fifo.py", "folder.py"}
    assert read(tmp_path, "missing.py") == set(), "the rest of the folder does not matter then"
    assert read_sources([tmp_path / "gone" / "filter.py"]).folders == {str(tmp_path / "gone"): {}}


def test_a_large_file_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILE", 100)
    write(tmp_path, "filter.py", "helpers.py", text="x" * 101)
    found = read_sources([tmp_path / "filter.py"])
    assert "larger than 100 bytes" in found.faults[str(tmp_path / "filter.py")]


def test_each_file_is_announced_before_it_is_opened(tmp_path: Path) -> None:
    write(tmp_path, "filter.py", "helpers.py")
    seen: list[str] = []
    read_sources([tmp_path / "filter.py"], seen.append)
    assert {Path(path).name for path in seen} == {"filter.py", "helpers.py"}


BUSY = """
import json, os.path, plain
import big.part.leaf
def later():
    from . import sibling
    import importlib
    importlib.import_module("named")
    from small import inner
"""


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES", "MAX_ENTRIES"])
def test_of_a_folder_that_is_too_large_only_what_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(sources, limit, {"MAX_FILES": 4, "MAX_BYTES": 300, "MAX_ENTRIES": 6}[limit])
    write(tmp_path, "filter.py", text=BUSY)
    write(tmp_path, "plain.py", text="import transitive")
    write(tmp_path, "sibling.py", "named.py", "transitive.py", "unused.py", "json.py", "other/a.py")
    write(tmp_path, "small/__init__.py", "small/inner.py", "small/lazy.py")
    write(tmp_path, "big/__init__.py", "big/part/__init__.py", "big/part/leaf.py")
    write(tmp_path, *(f"big/part/more{number}.py" for number in range(20)), text="#" * 100)
    found = read(tmp_path) - {"json.py"}
    assert found == {
        *("filter.py", "plain.py", "sibling.py", "named.py", "transitive.py"),
        *("small/__init__.py", "small/inner.py", "small/lazy.py"),
        *("big/__init__.py", "big/part/__init__.py", "big/part/leaf.py"),
    }


def test_imports_of_a_file() -> None:
    text = b"""
import a, b.c as d
from e import f, g
from . import h
from .i import *
from .. import j
from ... import out
def later():
    import k
    __import__("l")
    importlib.import_module(".m", __package__)
    import_module(name)
if x:
    from n.o import p
"""
    assert imported_names(text, "pkg/mod.py") == {
        *("a", "b.c", "e", "e.f", "e.g", "pkg", "pkg.h", "pkg.i", "j", "k", "l", "pkg.m", "n.o", "n.o.p"),
    }
    assert imported_names(b"import a\ndef (", "filter.py") == set()


def test_digests(tmp_path: Path) -> None:
    write(tmp_path, "filter.py", "helpers.py")
    paths = [tmp_path / "filter.py"]
    first = read_sources(paths)
    assert read_sources(paths).digests == first.digests
    os.utime(tmp_path / "helpers.py", (1, 1))
    assert read_sources(paths).digests == first.digests, "only the content counts"
    for change in ("helpers.py", "added.py"):
        write(tmp_path, change, text="new")
        assert read_sources(paths).digests != first.digests
        first = read_sources(paths)
    (tmp_path / "added.py").rename(tmp_path / "renamed.py")
    assert read_sources(paths).digests != first.digests
    assert first.has(tmp_path / "x" / ".." / "added.py")
    assert not first.has(tmp_path / "renamed.py")


def test_newer_folders_replace_older_ones() -> None:
    old = Sources({"/a": {"f.py": b"1", "g.py": b"1"}, "/b": {"f.py": b"1"}})
    new = old.updated(Sources({"/a": {"f.py": b"2"}}, {"/a/g.py": "gone"}))
    assert new.folders == {"/a": {"f.py": b"2"}, "/b": {"f.py": b"1"}}
    assert new.faults == {"/a/g.py": "gone"}
    assert new.only(["/b", "/c"]).folders == {"/b": {"f.py": b"1"}}
