"""A new filter's package: what it is called, and that nothing is written over."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pymosn.cli import main
from pymosn.kit.new_filter import NewFilterError, module_name, write_package


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is invalid: use lower-case letters"),
        ("Key", "is invalid: use lower-case letters"),
        ("key.check", "is invalid: use lower-case letters"),
        ("../key", "is invalid: use lower-case letters"),
        ("key--check", "is invalid: use lower-case letters"),
        ("7key", "is invalid: use lower-case letters"),
        ("kéy", "is invalid: use lower-case letters"),
        ("class", "a Python keyword"),
        ("match", "a Python keyword"),
        ("json", "a module json already exists"),
        ("msgspec", "a module msgspec already exists"),
        ("fault", "MOSN has a stream filter of that name"),
    ],
)
def test_names_that_will_not_do(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(NewFilterError, match=said):
        write_package(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_a_dash() -> None:
    assert module_name("key-check2") == "key_check2"


def test_the_package(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["new-filter", "-d", str(tmp_path / "new"), "key-check"])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "new" / "key-check"
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/key_check/__init__.py",
        "src/key_check/py.typed",
        "tests/test_key_check.py",
    }
    assert all("$" not in (folder / name).read_text() for name in found)
    assert "class KeyCheck(StreamFilter)" in (folder / "src/key_check/__init__.py").read_text()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "key_check").mkdir()
    result = CliRunner().invoke(main, ["new-filter", "-d", str(tmp_path), "key_check"])
    assert result.exit_code == 2
    assert result.stderr == f"pymosn: error: {tmp_path}/key_check already exists and is not overwritten\n"
    assert list((tmp_path / "key_check").iterdir()) == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["new-filter", "-d", str(tmp_path / "file"), "key_check"])
    assert (result.exit_code, "cannot write" in result.stderr) == (2, True)
