"""Modules of filters, made from source in memory: what imports find, what runs again, and what a rollback leaves."""

import dataclasses
import gc
import importlib
import inspect
import pickle
import shutil
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.passes import one_of

from pymosn.api.stream_filter import StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.filters.errors import FilterLoadError
from pymosn.filters.module_names import PREFIX
from pymosn.filters.modules import ModuleDraft, ModuleStore

FOLDER = "/not/on/disk"


class Stage:
    """A worker's modules. `change` activates files of FOLDER."""

    def __init__(self) -> None:
        self.store = ModuleStore()
        self.entries = ["filter.py"]

    def draft(self, **files: str) -> ModuleDraft:
        return self.store.draft({FOLDER: encoded(files)})

    def change(self, **files: str) -> ModuleType:
        """Loads the filters and activates; returns the module of the first."""
        draft = self.draft(**files)
        loaded = [draft.load(Path(FOLDER, entry)) for entry in self.entries]
        draft.commit().forget()
        return loaded[0]

    def refuse(self, **files: str) -> str:
        """Tries to load the filters, which must fail; returns the error."""
        draft = self.draft(**files)
        *first, last = self.entries
        for entry in first:
            draft.load(Path(FOLDER, entry))
        with pytest.raises(FilterLoadError) as caught:
            draft.load(Path(FOLDER, last))
        draft.rollback()
        return str(caught.value)


def encoded(files: dict[str, str]) -> dict[str, bytes]:
    """`pkg__mod` stands for `pkg/mod.py`, `pkg__init` for `pkg/__init__.py`."""
    paths = {name.replace("__", "/").replace("init", "__init__") + ".py": text for name, text in files.items()}
    return {path: text.encode() for path, text in paths.items()}


@pytest.fixture
def stage() -> Iterator[Stage]:
    before = {name for name in sys.modules if name.startswith(PREFIX)}
    yield Stage()
    for name in [name for name in sys.modules if name.startswith(PREFIX) and name not in before]:
        del sys.modules[name]


HELPER = "RUNS = []\nANSWER = {}\n"


@pytest.mark.parametrize(
    "text",
    [
        "import helpers\nanswer = helpers.ANSWER",
        "import helpers as h\nanswer = h.ANSWER",
        "from helpers import *\nanswer = ANSWER",
        "from . import helpers\nanswer = helpers.ANSWER",
        "from .helpers import ANSWER as answer",
        "import importlib\nanswer = importlib.import_module('helpers').ANSWER",
        "from importlib import import_module\nanswer = import_module('.helpers', __package__).ANSWER",
        "import importlib\nanswer = importlib.import_module(f'{__package__}.helpers').ANSWER",
        "answer = __import__('helpers').ANSWER",
        "answer = __import__('helpers', globals(), {}, ['ANSWER'], 1).ANSWER",
        "answer = __import__(__package__ + '.helpers').helpers.ANSWER",
        "exec('import helpers')\nanswer = helpers.ANSWER",
        "exec('import helpers', space := {})\nanswer = space['helpers'].ANSWER",
    ],
)
def test_ways_of_importing_a_neighbour(stage: Stage, text: str) -> None:
    assert stage.change(filter=text, helpers="ANSWER = 42").answer == 42
    assert FOLDER not in sys.path
    assert "helpers" not in sys.modules


PACKAGE = {"pkg__init": "from .inner import ANSWER\nPLAIN = 1", "pkg__inner": "ANSWER = 42", "pkg__deep__leaf": "LEAF = 7"}


@pytest.mark.parametrize(
    "text",
    [
        "import pkg\nanswer = pkg.ANSWER",
        "import pkg.inner\nanswer = pkg.inner.ANSWER",
        "import pkg.inner as inner\nanswer = inner.ANSWER",
        "from pkg import inner, PLAIN\nanswer = inner.ANSWER",
        "from .pkg import inner\nanswer = inner.ANSWER",
        "from .pkg.inner import ANSWER as answer",
        "import pkg.deep.leaf\nanswer = pkg.deep.leaf.LEAF * 6",
        "from pkg.deep import leaf\nanswer = leaf.LEAF * 6",
        "from importlib import import_module\nanswer = import_module('pkg.deep.leaf').LEAF * 6",
    ],
)
def test_ways_of_importing_from_a_package(stage: Stage, text: str) -> None:
    assert stage.change(filter=text, **PACKAGE).answer == 42


def test_modules_of_a_package_import_each_other(stage: Stage) -> None:
    files = {
        "filter": "from pkg.sub.leaf import answer, own",
        "pkg__init": "",
        "pkg__sub__init": "",
        "pkg__sub__leaf": "from ..base import BASE\nfrom . import twin\nfrom ... import top\nimport top as same\n"
        "answer = BASE + twin.TWIN + top.TOP\nown = same is top",
        "pkg__sub__twin": "TWIN = 2",
        "pkg__base": "BASE = 30",
        "top": "TOP = 10",
    }
    made = stage.change(**files)
    assert (made.answer, made.own) == (42, True)


SELF = """
import sys

class Lazy:
    ANSWER = ['a']
    {extra}

sys.modules[__name__] = Lazy()
"""


@pytest.mark.parametrize("extra", ["", "__slots__ = ()", "def __getattr__(self, name): raise AttributeError(name)"])
@pytest.mark.parametrize(
    "text",
    [
        "import helpers\nanswer = helpers.ANSWER",
        "from helpers import ANSWER as answer",
        "from . import helpers\nanswer = helpers.ANSWER",
        "import pkg.mod\nanswer = pkg.mod.ANSWER",
        "from pkg import mod\nanswer = mod.ANSWER",
        "from lazy.mod import ANSWER as answer",
    ],
)
def test_a_module_that_replaces_itself(stage: Stage, text: str, extra: str) -> None:
    source = SELF.format(extra=extra)
    files = {"helpers": source, "pkg__init": "", "pkg__mod": source, "lazy__init": source, "lazy__mod": "ANSWER = ['a']"}
    first = stage.change(filter=text, **files)
    assert first.answer == ["a"]
    second = stage.change(filter=text + "\nEDITED = 1", **files)
    assert second.answer is first.answer, "it did not run again"
    edited = {name: content.replace("'a'", "'b'") for name, content in files.items()}
    stage.refuse(filter=text + "\n1 / 0", **edited)
    assert stage.change(filter=text, **edited).answer == ["b"]


def test_a_module_finds_its_own_names_while_it_runs(stage: Stage) -> None:
    source = "import logging.config\nclass H(logging.Handler): pass\n" + (
        "logging.config.dictConfig({'version': 1, 'incremental': False, 'disable_existing_loggers': False,"
        " 'handlers': {'h': {'()': f'{__name__}.H'}}})\n"
    )
    stage.change(filter=source)
    assert "ZeroDivisionError" in stage.refuse(filter=source + "1 / 0")
    package = stage.change(filter="from . import helpers", helpers="")
    assert "ZeroDivisionError" in stage.refuse(filter="from . import helpers, other", helpers="", other="1 / 0")
    assert not hasattr(sys.modules[package.__package__ or ""], "other")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = 1\n\0", f"{FOLDER}/helpers.py:2: "),
        ("a = 1\n".encode("utf-16"), f"{FOLDER}/helpers.py:1: "),
        (b"a = " + b"1+" * 100_000 + b"1", f"{FOLDER}/helpers.py:1: RecursionError"),
        (b"a = " + b"-" * 200_000 + b"1", f"{FOLDER}/helpers.py:1: MemoryError"),
        (b"# coding: nonsense\na = 1", f"{FOLDER}/helpers.py:0: unknown encoding"),
        (b"a = '\xe9'", f"{FOLDER}/helpers.py:1: "),
    ],
)
def test_a_file_that_cannot_be_compiled_is_named(stage: Stage, content: bytes, expected: str) -> None:
    stage.change(filter="import helpers", helpers="")
    files = {"filter.py": b"import helpers", "helpers.py": content}
    for act in (ModuleDraft.compile, ModuleDraft.load):
        draft = stage.store.draft({FOLDER: files})
        with pytest.raises(FilterLoadError) as caught:
            act(draft, Path(FOLDER, "filter.py"))
        assert str(caught.value).startswith(expected)
        draft.rollback()


def test_what_is_missing_is_an_import_error(stage: Stage) -> None:
    assert "No module named 'nothing'" in stage.refuse(filter="import nothing")
    assert "No module named 'pkg.nothing'" in stage.refuse(filter="import pkg.nothing", pkg__init="")
    assert "cannot import name 'nothing'" in stage.refuse(filter="from . import nothing")
    assert "beyond the folder" in stage.refuse(filter="from .. import nothing")
    assert f"{FOLDER}/helpers.py:2: ZeroDivisionError" in stage.refuse(filter="import helpers", helpers="\n1/0")
    assert f"{FOLDER}/helpers.py:1: " in stage.refuse(filter="import helpers", helpers="def (:")
    assert "SystemExit" in stage.refuse(filter="import helpers", helpers="raise SystemExit")


def test_installed_packages_and_the_standard_library_come_first(stage: Stage) -> None:
    text = "import json, msgspec\nfrom email import message\nanswer = json.dumps, msgspec.Struct, message.Message"
    made = stage.change(filter=text, json="", msgspec="", email__message="")
    import msgspec

    assert made.answer[1] is msgspec.Struct
    stage.entries = ["jwt.py"]
    pytest.importorskip("jwt")
    assert stage.change(jwt="import jwt\nanswer = jwt.encode").answer.__module__.startswith("jwt.")


def test_a_neighbour_comes_before_what_lies_in_the_current_directory_or_another_folder(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "helpers.py").write_text("ANSWER = 'wrong'")
    monkeypatch.chdir(here)
    for entry in (str(there), "", str(here)):
        monkeypatch.syspath_prepend(entry)
    folders = {FOLDER: encoded({"filter": "import helpers", "helpers": "ANSWER = 1"}), str(there): {}}
    draft = stage.store.draft(folders)
    assert draft.load(Path(FOLDER, "filter.py")).helpers.ANSWER == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("near", "from near.helpers import ANSWER"),
        ("near", "import near.helpers\nANSWER = near.helpers.ANSWER"),
        ("near", "import near.helpers as h\nANSWER = h.ANSWER"),
        ("near", "from near import helpers\nANSWER = helpers.ANSWER"),
        ("near/inner", "from near.inner.helpers import ANSWER"),
        ("near/inner", "import importlib\nANSWER = importlib.import_module('near.inner.helpers').ANSWER"),
    ],
)
def test_the_folder_may_be_named_as_a_package_of_the_current_directory(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    folder = tmp_path / path
    folder.mkdir(parents=True)
    (folder / "helpers.py").write_text("ANSWER = 'from disk'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    for answer in (1, 2):
        draft = stage.store.draft({str(folder): encoded({"filter": text, "helpers": f"ANSWER = {answer}"})})
        found = draft.load(folder / "filter.py").ANSWER
        assert found == answer
        draft.commit().forget()


def test_a_folder_that_is_called_like_a_package_is_not_that(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("http", "msgspec"):
        (tmp_path / name).mkdir()
        text = {"filter": f"from {name} import client, json as helpers", "client": "", "json": ""}
        if name == "http":
            text["filter"] = "from http import client\nassert client.HTTPConnection"
        else:
            monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)] + [str(tmp_path)])
            text["filter"] = "from msgspec import json\nassert json.decode"
        stage.store.draft({str(tmp_path / name): encoded(text)}).load(tmp_path / name / "filter.py")


def test_two_folders_have_modules_of_their_own(stage: Stage) -> None:
    folders = {f"/{name}": encoded({"filter": "import helpers", "helpers": f"NAME = '{name}'"}) for name in ("a", "b")}
    draft = stage.store.draft(folders)
    one, two = (draft.load(Path(f"/{name}/filter.py")) for name in ("a", "b"))
    assert (one.helpers.NAME, two.helpers.NAME) == ("a", "b")


def test_what_a_module_knows_about_itself(stage: Stage) -> None:
    text = "def broken():\n    return 1 / 0  # of the text in memory\n"
    made = stage.change(filter=text + "from pkg import inner", pkg__init="", pkg__inner="class A: pass")
    assert made.__file__ == f"{FOLDER}/filter.py"
    assert made.__package__ == made.inner.__spec__.parent.removesuffix(".pkg")
    assert made.inner.__package__ == made.inner.__name__.removesuffix(".inner")
    assert sys.modules[made.inner.__package__].__path__ == [f"{FOLDER}/pkg"]
    assert inspect.getsource(made.broken) == text
    assert made.__loader__.get_source(made.__name__).startswith(text)
    try:
        made.broken()
    except ZeroDivisionError:
        assert "# of the text in memory" in traceback.format_exc()
    assert importlib.import_module(f"{made.__package__}.pkg.inner") is made.inner
    assert isinstance(pickle.loads(pickle.dumps(made.inner.A())), made.inner.A)


def test_dataclasses_and_hints_find_the_module(stage: Stage) -> None:
    text = "from __future__ import annotations\nimport dataclasses, typing\n"
    text += "@dataclasses.dataclass\nclass A:\n    a: typing.Any\n"
    made = stage.change(filter=text + "hints = typing.get_type_hints(A)")
    assert dataclasses.asdict(made.A(1)) == {"a": 1}


def test_an_init_of_the_folder_is_the_body_of_the_package(stage: Stage) -> None:
    made = stage.change(init="SHARED = []", filter="from . import SHARED, helpers", helpers="from . import SHARED")
    assert made.SHARED is made.helpers.SHARED


@pytest.mark.parametrize("entry", ["key-check.py", "filter.v2.py", "plain", "a b.py", "class.py"])
def test_files_that_no_import_could_name(stage: Stage, entry: str) -> None:
    draft = stage.store.draft({FOLDER: {entry: b"import helpers\nfrom . import helpers as same", "helpers.py": b""}})
    made = draft.load(Path(FOLDER, entry))
    assert made.__file__ == f"{FOLDER}/{entry}"
    assert made.same is made.helpers


def test_data_files_and_compiled_modules_come_from_disk(stage: Stage, tmp_path: Path) -> None:
    import _bisect

    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "data.txt").write_text("42")
    text = """
import pkg, pkgutil
from importlib import resources
from pkg import _bisect
from pkg._bisect import insort_left
answer = resources.files(pkg).joinpath("data.txt").read_text(), pkgutil.get_data(pkg.__name__, "data.txt")
same = resources.files(__package__).joinpath("pkg", "data.txt").read_text()
"""
    files = {"filter.py": text.encode(), "pkg/__init__.py": b""}
    native = getattr(_bisect, "__file__", None)
    if native is None:
        pytest.skip("this Python has no extension module to copy")
    shutil.copy(native, tmp_path / "pkg")
    made = [stage.store.draft({str(tmp_path): files}).load(tmp_path / "filter.py") for _ in range(2)]
    assert made[0].answer == ("42", b"42")
    assert made[0].same == "42"
    assert made[0].insort_left is made[1]._bisect.insort_left, "it is loaded once"


# ---- changes


def test_a_module_runs_once_for_all_that_use_it(stage: Stage) -> None:
    stage.entries = ["filter.py", "other.py", "filter.py"]
    files = {
        "filter": "import helpers\nimport other",
        "other": "import helpers\nhelpers.RUNS.append(1)",
        "helpers": "RUNS = []",
    }
    first = stage.change(**files)
    assert first.helpers.RUNS == [1]
    assert first.other.helpers is first.helpers
    assert stage.change(**files) is first


def test_only_what_changed_and_its_users_run_again(stage: Stage) -> None:
    files = {
        "filter": "import user, state, lone",
        "user": "from helpers import ANSWER\nimport state",
        "helpers": "ANSWER = 1",
        "state": "SHARED = []",
        "lone": "import state",
    }
    first = stage.change(**files)
    first.state.SHARED.append("lives on")
    second = stage.change(**{**files, "helpers": "ANSWER = 2"})
    assert (first.user.ANSWER, second.user.ANSWER) == (1, 2)
    assert second is not first
    assert second.user is not first.user
    assert second.user.state is second.state is first.state
    assert second.lone is first.lone
    assert second.state.SHARED == ["lives on"]


def test_an_edit_of_an_unused_file_runs_nothing_again(stage: Stage) -> None:
    first = stage.change(filter="def later():\n    import unused\n    return unused.ANSWER", unused="ANSWER = 1")
    assert stage.change(filter="def later():\n    import unused\n    return unused.ANSWER", unused="ANSWER = 2") is first
    assert first.later() == 2


LATER = {"filter": "def later():\n    from helpers import ANSWER\n    return ANSWER"}


def test_a_late_import_gets_the_active_source(stage: Stage) -> None:
    first = stage.change(**LATER, helpers="ANSWER = 1")
    assert first.later() == 1
    second = stage.change(**LATER, helpers="ANSWER = 2")
    assert second is not first, "it has used the helper"
    assert (first.later(), second.later()) == (1, 2)
    assert f"{FOLDER}/helpers.py:1: ZeroDivisionError" in stage.refuse(**LATER, helpers="1 / 0")
    assert second.later() == 2


def test_active_filters_see_nothing_of_a_change_before_it_is_committed(stage: Stage) -> None:
    first = stage.change(**LATER, helpers="ANSWER = 1", other="")
    assert first.later() == 1
    draft = stage.draft(**LATER, helpers="ANSWER = 2", other="from helpers import ANSWER")
    assert draft.load(Path(FOLDER, "other.py")).ANSWER == 2
    assert first.later() == 1
    draft.load(Path(FOLDER, "filter.py"))
    assert first.later() == 1
    draft.commit()
    assert first.later() == 1, "an exchange in flight stays with the version that it began with"


def test_a_module_that_stays_imports_from_the_new_version_once_that_is_active(stage: Stage) -> None:
    files = {"filter": "import stays, edited", "stays": "def later():\n    import unused\n    return unused.ANSWER"}
    first = stage.change(**files, edited="", unused="ANSWER = 1")
    draft = stage.draft(**files, edited="# new", unused="ANSWER = 2")
    second = draft.load(Path(FOLDER, "filter.py"))
    assert second.stays is first.stays
    draft.commit()
    assert second.stays.later() == 2


def test_what_was_imported_while_a_change_was_prepared_lives_on(stage: Stage) -> None:
    files = {
        "filter": "import stays, edited",
        "stays": "def later():\n    import state\n    return state.SHARED",
        "state": "SHARED = []",
    }
    first = stage.change(**files, edited="")
    draft = stage.draft(**files, edited="# new")
    shared = first.stays.later()
    draft.load(Path(FOLDER, "filter.py"))
    draft.commit()
    assert first.stays.later() is shared


def test_a_rollback_leaves_nothing(stage: Stage) -> None:
    first = stage.change(filter="import pkg", pkg__init="")
    before = {name for name in sys.modules if name.startswith(PREFIX)}
    draft = stage.draft(filter="import pkg.added, helpers", pkg__init="", pkg__added="", helpers="")
    draft.load(Path(FOLDER, "filter.py"))
    draft.rollback()
    assert {name for name in sys.modules if name.startswith(PREFIX)} == before
    assert not hasattr(first.pkg, "added")
    assert stage.change(filter="import pkg", pkg__init="") is first


def test_a_file_that_appears_or_vanishes_is_a_change(stage: Stage) -> None:
    text = "try:\n    import helpers\nexcept ImportError:\n    helpers = None\n"
    assert stage.change(filter=text).helpers is None
    assert stage.change(filter=text, helpers="ANSWER = 1").helpers.ANSWER == 1
    assert stage.change(filter=text, helpers__init="ANSWER = 2").helpers.ANSWER == 2
    assert stage.change(filter=text).helpers is None


def test_a_package_changes_with_its_modules(stage: Stage) -> None:
    files = {"filter": "import pkg.inner as inner, pkg.state as state", "pkg__init": "", "pkg__state": "SHARED = []"}
    first = stage.change(**files, pkg__inner="ANSWER = 1")
    second = stage.change(**files, pkg__inner="ANSWER = 2")
    assert (first.inner.ANSWER, second.inner.ANSWER) == (1, 2)
    assert second.state is first.state
    assert "pkg/__init__.py:1: ZeroDivisionError" in stage.refuse(**{**files, "pkg__init": "1/0"}, pkg__inner="ANSWER = 2")
    assert "pkg/inner.py:1: ZeroDivisionError" in stage.refuse(**files, pkg__inner="1/0")


@pytest.mark.parametrize(
    ("filter", "where"),
    [
        ("from pkg.deep.inner import A", "pkg__init"),
        ("from pkg.deep.inner import A", "pkg__deep__init"),
        ("from pkg.deep import inner", "pkg__init"),
        ("import pkg.deep.inner", "pkg__init"),
        ("from helper import A", "pkg__init"),
        ("from helper import A", "init"),
        ("def later():\n    from pkg.deep.inner import A\nlater()", "pkg__deep__init"),
        ("", "init"),
    ],
)
def test_the_code_of_a_package_around_a_module_matters(stage: Stage, filter: str, where: str) -> None:
    files = {"pkg__init": "", "pkg__deep__init": "", "pkg__deep__inner": "A = []", "init": ""}
    files |= {"filter": filter, "helper": "from pkg.deep.inner import A"}
    first = stage.change(**files)
    assert "__init__.py:1: ZeroDivisionError" in stage.refuse(**{**files, where: "1 / 0"})
    second = stage.change(**{**files, where: "# edited"})
    assert second is not first
    if hasattr(first, "A"):
        assert second.A is first.A, "the module itself has not changed"


def test_what_a_package_holds_lives_on_while_another_module_of_it_is_edited(stage: Stage) -> None:
    files = {
        "filter": "from pkg import state, handler",
        "pkg__init": "",
        "pkg__state": "from .base import B\nSHARED = []",
        "pkg__base": "B = 1",
        "pkg__handler": "from . import state\nfrom .state import SHARED\nimport pkg.base",
    }
    first = stage.change(**files)
    second = stage.change(**{**files, "pkg__handler": files["pkg__handler"] + "\n# edited"})
    assert second.handler is not first.handler
    assert second.state is first.state
    third = stage.change(**{**files, "filter": files["filter"] + "\n# edited"})
    assert third.state is first.state


def test_a_filter_is_not_loaded_again_for_an_edit_of_another(stage: Stage) -> None:
    stage.entries = ["filter.py", "other.py"]
    first = stage.change(init="A = 1", filter="", other="from . import A")
    assert stage.change(init="A = 1", filter="", other="from . import A\n# edited") is first


def test_a_broken_edit_of_what_no_configured_filter_imports_is_no_fault(stage: Stage) -> None:
    stage.entries = ["filter.py", "other.py"]
    stage.change(filter="", other="import helpers", helpers="")
    stage.entries = ["filter.py"]
    assert stage.change(filter="# edited", other="1/0", helpers="1/0")


def test_a_circle_of_imports(stage: Stage) -> None:
    files = {"filter": "import one", "one": "import two\nONE = 1", "two": "import one\ndef get():\n    return one.ONE"}
    assert stage.change(**files).one.two.get() == 1


def test_a_circle_of_imports_in_a_package_that_stays(stage: Stage) -> None:
    """The package ran in an earlier version, and its name is that of this version."""
    stage.change(filter="from . import pkg", pkg__init="")
    one, two = "from . import two\nONE = 1", "from . import one\ndef get():\n    return one.ONE"
    changed = stage.change(filter="from pkg import one", pkg__init="", pkg__one=one, pkg__two=two)
    assert changed.one.two.get() == 1
    assert len(imported_names(stage)) == len(stage.store.folders[FOLDER].modules)


def imported_names(stage: Stage) -> list[str]:
    """The names in `sys.modules` of the modules that are active."""
    active = [loaded.module for loaded in stage.store.folders[FOLDER].modules.values()]
    return [name for name, module in sys.modules.items() if any(module is known for known in active)]


def test_an_object_of_another_worker_or_of_an_earlier_version_can_be_read(stage: Stage) -> None:
    first = stage.change(filter="import helpers", helpers="class A:\n    VERSION = 1")
    data = pickle.dumps(first.helpers.A())
    second = stage.change(filter="import helpers", helpers="class A:\n    VERSION = 2")
    assert pickle.loads(data).VERSION == 2
    name = second.helpers.__name__
    foreign = data.replace(first.helpers.__name__.encode(), name.replace(name.split(".")[0], _other(name)).encode())
    assert pickle.loads(foreign).VERSION == 2
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{_other(name)}.nothing")


def _other(name: str) -> str:
    """The package of a version that does not exist, as long as that of the first version."""
    root = name.split(".")[0]
    return root[: root.rindex("_") + 1] + "9" * (len(root) - root.rindex("_") - 1)


def test_threads_wait_for_a_module_that_another_runs(stage: Stage) -> None:
    text = "def later():\n    import slow\n    return slow.READY"
    slow = "import threading\nentered.set()\nassert go.wait(10)\nREADY = True"
    import builtins

    made = stage.change(filter=text, slow="import builtins\nentered, go = builtins.pymosn_test_events\n" + slow)
    entered, go = events = threading.Event(), threading.Event()
    results: list[bool] = []
    builtins.pymosn_test_events = events  # type: ignore[attr-defined]
    try:
        threads = [threading.Thread(target=lambda: results.append(made.later())) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert entered.wait(10)
        go.set()
        for thread in threads:
            thread.join(10)
    finally:
        del builtins.pymosn_test_events  # type: ignore[attr-defined]
    assert results == [True] * 4


@pytest.mark.parametrize("base", [StreamFilter, Transcoder])
def test_a_class_is_freed_with_its_instances(base: type[StreamFilter]) -> None:
    class Inner(base):  # type: ignore[misc,valid-type]
        pass

    class Outer(Inner):
        pass

    before = sys.getrefcount(Inner), sys.getrefcount(Outer)
    for _ in range(10):
        Inner({})
        Outer({})
    gc.collect()
    assert (sys.getrefcount(Inner), sys.getrefcount(Outer)) == before


def test_modules_that_stay_keep_no_earlier_version_alive(stage: Stage) -> None:
    files = {"helpers": "", "stays": "import json", "later": "def f():\n    import stays\n"}
    first = stage.change(filter="import helpers, stays, later\nlater.f()", **files)
    replaced = weakref.ref(first)
    stays = first.stays
    del first
    assert stage.change(filter="import helpers, stays, later\nEDITED = 1", **files).stays is stays
    gc.collect()
    assert replaced() is None


def test_thousands_of_edits_leave_no_modules(stage: Stage) -> None:
    stage.change(filter="import helpers", helpers="")
    made = weakref.ref(stage.change(filter="import helpers\nclass A: pass", helpers=""))
    count = len([name for name in sys.modules if name.startswith(PREFIX)])
    for number in range(2000 // one_of(4)):
        stage.change(filter=f"import helpers\nclass A: pass\n# {number}", helpers=f"# {number // 2}")
        if number % 7 == 0:
            stage.refuse(filter=f"import helpers\n1/0 # {number}", helpers=f"# {number // 2}")
    gc.collect()
    assert made() is None
    assert len([name for name in sys.modules if name.startswith(PREFIX)]) == count
