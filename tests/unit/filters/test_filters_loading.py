"""Loading filters from files: what is wrong is told with file and line."""

import os
from pathlib import Path

import pytest

from pymosn.api import StreamFilter
from pymosn.filters.errors import FilterLoadError
from pymosn.filters.loading import FILTERS, installed, load_filter, load_installed
from pymosn.filters.modules import is_in_class, is_in_file

GOOD = """
from dataclasses import dataclass
from pymosn.api import StreamFilter

@dataclass
class Settings:
    tenant: str

class Tenant(StreamFilter):
    VERSION = {version}

    def __init__(self, config):
        self.settings = Settings(str(config["tenant"]))

class Plain:
    pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenant.py"


def test_good(file: Path) -> None:
    file.write_text(GOOD.format(version=1))
    made = load_filter(file, "Tenant", {"tenant": "t"})
    assert isinstance(made, StreamFilter)
    assert made.settings.tenant == "t"  # type: ignore[attr-defined]
    assert list(file.parent.iterdir()) == [file], "no cache is left beside the file"


def test_an_edited_file_is_loaded_alongside_its_old_version(file: Path) -> None:
    """The edit keeps the size and the second: a cache by those would give the old one."""
    loaded = []
    for version in (1, 2, 3):
        file.write_text(GOOD.format(version=version))
        os.utime(file, (1000, 1000))
        loaded.append(load_filter(file, "Tenant", {"tenant": "t"}))
    assert [made.VERSION for made in loaded] == [1, 2, 3]  # type: ignore[attr-defined]


def test_neighbour_may_be_imported(file: Path) -> None:
    (file.parent / "pymosn_test_neighbour.py").write_text("ANSWER = 42\n")
    file.write_text(
        "import pymosn_test_neighbour\nfrom pymosn.api import StreamFilter\n"
        "class F(StreamFilter):\n    answer = pymosn_test_neighbour.ANSWER\n"
    )
    assert load_filter(file, "F", {}).answer == 42  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "class_name", "said"),
    [
        ("import os\ndef broken(:\n", "F", "{file}:2: "),
        ("import os\n\nimport not_there_at_all\n", "F", "{file}:3: ModuleNotFoundError: "),
        ("def f():\n    return 1 / 0\nf()\n", "F", "{file}:2: ZeroDivisionError: "),
        ("import sys\nsys.exit(3)\n", "F", "{file}:2: SystemExit: 3"),
        (GOOD.format(version=1), "Tennant", "{file} has no class 'Tennant' (stream filters in it: Tenant)"),
        ("x = 1\n", "F", "{file} has no class 'F' (stream filters in it: none)"),
        (GOOD.format(version=1), "Plain", "{file}:Plain is not a subclass of pymosn.api.StreamFilter"),
        (GOOD.format(version=1), "Settings", "{file}:Settings is not a subclass of pymosn.api.StreamFilter"),
        (GOOD.format(version=1), "Tenant", "{file}:Tenant does not start: {file}:13: KeyError: 'tenant'"),
        ("x = '\0'\n", "F", "null byte"),
        ("# coding: nonsense\n", "F", "nonsense"),
    ],
)
def test_faults(file: Path, text: str, class_name: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(FilterLoadError) as caught:
        load_filter(file, class_name, {})
    assert said.format(file=file) in str(caught.value)


def test_fault_in_a_file_that_is_called_like_the_loader(tmp_path: Path) -> None:
    file = tmp_path / "python.py"
    file.write_text("\nraise RuntimeError('x')\n")
    with pytest.raises(FilterLoadError, match=rf"{file}:2: RuntimeError: x"):
        load_filter(file, "F", {})


@pytest.mark.parametrize("name", ["nothing.py", ""])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(FilterLoadError, match="cannot be read"):
        load_filter(tmp_path / name, "F", {})


def test_bad_edit_leaves_the_old_one(file: Path) -> None:
    file.write_text(GOOD.format(version=1))
    old = load_filter(file, "Tenant", {"tenant": "t"})
    file.write_text("raise RuntimeError\n")
    with pytest.raises(FilterLoadError):
        load_filter(file, "Tenant", {"tenant": "t"})
    assert type(old)({"tenant": "again"}).settings.tenant == "again"  # type: ignore[attr-defined]


def test_an_unknown_installed_filter() -> None:
    assert "not_there" not in installed(FILTERS)
    with pytest.raises(FilterLoadError, match="no installed package offers a stream filter 'not_there'"):
        load_installed("not_there", {})


TWO = """
from pymosn.api import StreamFilter

def helps():
    return 4  # of neither

class One(StreamFilter):
    def on_request(self, exchange):
        return [
            number for number in range(9)  # of One
        ]

class Two(StreamFilter):
    @staticmethod
    def sleeps():
        return 15  # of Two

class Three(Two):
    pass
"""


def test_the_filter_that_a_line_belongs_to(file: Path) -> None:
    file.write_text(TWO)
    one, two, three = (load_filter(file, name, {}) for name in ("One", "Two", "Three"))
    lines = {
        text: number
        for number, line in enumerate(TWO.splitlines(), 1)
        for text in ("neither", "One", "Two")
        if line.endswith(f"# of {text}")
    }
    place = str(file)
    assert [is_in_class(type(made), place, lines["One"]) for made in (one, two, three)] == [True, False, False]
    assert [is_in_class(type(made), place, lines["Two"]) for made in (one, two, three)] == [False, True, True]
    assert not any(is_in_class(type(made), place, lines["neither"]) for made in (one, two, three))
    assert not is_in_class(type(one), "elsewhere.py", lines["One"])
    assert is_in_file(type(one), place, lines["neither"])
    assert not is_in_file(type(one), "elsewhere.py", 1)
