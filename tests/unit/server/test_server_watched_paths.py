"""Which files and folders matter for a filter, and which events in them."""

import os
from pathlib import Path

import pytest

from pymosn.server.inotify import CREATE, DELETE, ISDIR, MODIFY, MOVED_TO
from pymosn.server.watched_paths import MAX_PACKAGES, Watched, package_folders, plan_for, remote_mounts

IDENTITY = (os.makedev(0, 47), 1)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def names(root: Path, path: str) -> dict[str, set[str]]:
    """The folders below `root` that are watched for names, relative to it."""
    plan = plan_for([path], [])
    below = {folder: watched for folder, watched in plan.items() if Path(folder).is_relative_to(root) and watched.names}
    return {os.path.relpath(folder, root): watched.names for folder, watched in below.items()}


def test_each_name_of_a_path(tmp_path: Path) -> None:
    write(tmp_path / "conf" / "filters" / "edited.py")
    path = str(tmp_path / "conf" / "." / "filters" / ".." / "filters" / "edited.py")
    assert names(tmp_path, path) == {".": {"conf"}, "conf": {"filters"}, "conf/filters": {"edited.py"}}
    assert "conf" not in plan_for([path], [])["/"].names
    assert tmp_path.parts[1] in plan_for([path], [])["/"].names


def test_each_link_of_a_path(tmp_path: Path) -> None:
    write(tmp_path / "releases" / "2" / "edited.py")
    (tmp_path / "releases" / "newest").symlink_to("2")
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "newest")
    found = names(tmp_path, str(tmp_path / "current" / "edited.py"))
    assert found == {".": {"current", "releases"}, "releases": {"newest", "2"}, "releases/2": {"edited.py"}}


def test_missing_and_endless_paths(tmp_path: Path) -> None:
    assert names(tmp_path, str(tmp_path / "a" / "b" / "edited.py")) == {".": {"a"}}
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert names(tmp_path, str(tmp_path / "x" / "edited.py")) == {".": {"x", "y"}}
    write(tmp_path / "file")
    assert names(tmp_path, str(tmp_path / "file" / "edited.py"))["."] == {"file"}


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "filters" / "edited.py")
    monkeypatch.chdir(tmp_path)
    assert names(tmp_path, "filters/edited.py") == {".": {"filters"}, "filters": {"edited.py"}}


def test_packages(tmp_path: Path) -> None:
    for folder in ("package/inner", "empty", "package/__pycache__", "..2026", "not-a-package"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "package" / "self").symlink_to("..")
    found = [os.path.relpath(folder, tmp_path) for folder in package_folders(str(tmp_path))]
    assert found == [".", "empty", "package", "package/inner"]
    assert package_folders(str(tmp_path / "missing")) == []


def test_no_virtual_environments(tmp_path: Path) -> None:
    write(tmp_path / "venv" / "pyvenv.cfg")
    assert package_folders(str(tmp_path)) == [str(tmp_path)]
    assert package_folders(str(tmp_path / "venv")) == [str(tmp_path / "venv")]


def test_known_sources(tmp_path: Path) -> None:
    """A package that was read is watched, however many folders there are."""
    for number in range(MAX_PACKAGES + 1):
        (tmp_path / f"package{number:04}").mkdir()
    module = write(tmp_path / "zzz" / "inner" / "module.py")
    path = write(tmp_path / "edited.py")
    plan = plan_for([str(path)], [str(path), str(module)])
    assert plan[str(module)].is_file
    assert plan[str(module.parent)].has_modules


def test_many_packages(tmp_path: Path) -> None:
    for number in range(MAX_PACKAGES + 10):
        (tmp_path / f"package{number}").mkdir()
    assert len(package_folders(str(tmp_path))) == MAX_PACKAGES


def test_files_are_watched_where_they_are(tmp_path: Path) -> None:
    real = write(tmp_path / "shared" / "helper")
    path = write(tmp_path / "filters" / "edited.py")
    (path.parent / "helper.py").symlink_to(real)
    files = {name for name, watched in plan_for([str(path)], []).items() if watched.is_file}
    assert files == {str(real), str(path)}


@pytest.mark.parametrize(
    ("name", "mask", "matters"),
    [
        ("edited", MODIFY, True),
        ("helper.py", MODIFY, True),
        ("package", CREATE | ISDIR, True),
        ("package", MOVED_TO | ISDIR, True),
        ("package", DELETE | ISDIR, True),
        ("link", CREATE, True),
        ("log", CREATE, False),
        ("log", MODIFY, False),
        ("mosn.log", CREATE, False),
        (".helper.py.swp", CREATE, False),
        ("helper.py~", CREATE, False),
        ("__pycache__", CREATE | ISDIR, False),
    ],
)
def test_events_in_a_folder_of_modules(tmp_path: Path, name: str, mask: int, matters: bool) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    watched = Watched(str(tmp_path), IDENTITY, names={"edited"}, has_modules=True)
    assert watched.matters(mask, name) == matters


def test_events_in_other_folders() -> None:
    above = Watched("/mnt/filters", IDENTITY, names={"filters"})
    assert above.matters(MOVED_TO, "filters")
    assert not above.matters(CREATE, "helper.py")
    assert not above.mask & MODIFY
    assert Watched("/mnt/filters", IDENTITY, is_file=True).matters(MODIFY, "")


MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:{minor} / {where} rw,relatime shared:3 - {kind} server:/filters rw,vers=4.2
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse.sshfs", "fuse"])
def test_remote_mounts(kind: str) -> None:
    mounts = MOUNTS.format(minor=47, where="/mnt/filters", kind=kind)
    assert remote_mounts({"/mnt/filters": Watched("/mnt/filters", IDENTITY)}, mounts) == [f"{kind} at /mnt/filters"]


@pytest.mark.parametrize(("minor", "kind"), [(48, "nfs4"), (47, "tmpfs"), (47, "overlay"), (47, "ext4")])
def test_local_mounts(minor: int, kind: str) -> None:
    mounts = MOUNTS.format(minor=minor, where="/mnt/filters", kind=kind)
    assert remote_mounts({"/mnt/filters": Watched("/mnt/filters", IDENTITY)}, mounts) == []
