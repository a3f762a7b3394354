"""Code that other users of the machine could change."""

import os
from pathlib import Path

import pytest

from pymosn.filters.permissions import writable_fault

OURS = (0, os.geteuid())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "outer" / "filters"
    folder.mkdir(parents=True)
    (folder / "filter.py").write_text("")
    (folder / "inner").mkdir()
    (folder / "inner" / "helper.py").write_text("")
    (folder / "link.py").symlink_to("nothing")
    return folder / "filter.py"


def test_nothing_is_wrong(path: Path) -> None:
    assert writable_fault(path, OURS) == ""
    assert writable_fault(path.parent / "missing.py", OURS) == ""


@pytest.mark.parametrize("name", ["filter.py", ".", "..", "inner", "inner/helper.py"])
def test_what_is_world_writable_is_named(path: Path, name: str) -> None:
    changed = Path(os.path.normpath(path.parent / name))
    changed.chmod(0o777)
    fault = writable_fault(path, OURS)
    assert str(changed) in fault
    assert "world-writable" in fault


def test_group_and_owner_may_write(path: Path) -> None:
    path.chmod(0o770)
    path.parent.chmod(0o770)
    assert writable_fault(path, OURS) == ""


def test_both_ends_of_a_link_count(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "filter.py").symlink_to(path)
    assert writable_fault(other / "filter.py", OURS) == ""
    path.parent.chmod(0o777)
    assert writable_fault(other / "filter.py", OURS) == f"the folder {path.parent} is world-writable"
    path.parent.chmod(0o755)
    other.chmod(0o777)
    assert writable_fault(other / "filter.py", OURS) == f"the folder {other} is world-writable"


@pytest.mark.parametrize("name", ["elsewhere", "elsewhere/pkg", "elsewhere/pkg/leaf.py", "elsewhere/single.py"])
def test_modules_behind_links_count(path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere" / "pkg").mkdir(parents=True)
    (tmp_path / "elsewhere" / "pkg" / "leaf.py").write_text("")
    (tmp_path / "elsewhere" / "pkg" / "circle").symlink_to(path.parent)
    (tmp_path / "elsewhere" / "single.py").write_text("")
    (path.parent / "pkg").symlink_to(tmp_path / "elsewhere" / "pkg")
    (path.parent / "single.py").symlink_to(tmp_path / "elsewhere" / "single.py")
    assert writable_fault(path, OURS) == ""
    (tmp_path / name).chmod(0o777)
    fault = writable_fault(path, OURS)
    assert "world-writable" in fault
    assert "can be imported" in fault


def test_in_a_sticky_folder_the_owner_counts(path: Path) -> None:
    path.parent.chmod(0o1777)
    assert writable_fault(path, OURS) == ""
    assert "belongs to the user id" in writable_fault(path, (OURS[1] + 1,))
