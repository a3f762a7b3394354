"""Which code of filters is active does not depend on what lies on disk: dead workers, refused edits, imports, reloads."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, _listener, eventually, free_ports, get
from test_reload import Load

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

#: Answers `/who` with what its modules say; imports one helper at the top, one in a package, one lazily.
FILTER = """
import os
from pymosn.api import Reply, StreamFilter
import helpers
from .pkg import PACKAGE
from pkg.inner import INNER

class Who(StreamFilter):
    async def on_request(self, exchange):
        if exchange.request.path == "/who":
            from later import LATER
            return Reply(200, f"{os.getpid()} filter 1 {helpers.NAME} {PACKAGE} {INNER} {LATER}")
"""
FILES = {
    "filter.py": FILTER,
    "helpers.py": "NAME = 'helpers 1'",
    "pkg/__init__.py": "PACKAGE = 'pkg 1'",
    "pkg/inner.py": "INNER = 'inner 1'",
    "later.py": "LATER = 'later 1'",
}
ANSWER = "filter 1 helpers 1 pkg 1 inner 1 later 1"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # As editors do: never half a file.
        (path.parent / "new.tmp").write_text(text)
        (path.parent / "new.tmp").rename(path)


class Site:
    """A pymosn with two workers and filters of `folder`."""

    def __init__(
        self, start: Start, two_hops: TwoHops, folder: Path, watches: bool = False, *entries: dict[str, str]
    ) -> None:
        self.folder = folder
        self.hops = two_hops
        two_hops.server["watch_filters"] = watches
        entries = entries or ({"path": str(folder / "filter.py"), "class": "Who"},)
        two_hops.server["listeners"][0]["stream_filters"] = [{"type": "python", "config": entry} for entry in entries]
        self.proxy: Pymosn = start(two_hops.config)
        self.proxy.wait_for(READY)

    def ask(self, path: str = "/who", port: int = 0) -> tuple[int, str]:
        """The worker's process id and the rest of the answer."""
        status, text = get(port or self.hops.client_port, path)
        assert status == 200, text
        pid, _, rest = text.partition(" ")
        return int(pid), rest

    def answers(self, path: str = "/who", port: int = 0) -> set[str]:
        """The answers of both workers; each is asked on new connections until both have answered several times."""
        found: dict[int, list[str]] = {}

        def is_complete() -> bool:
            pid, rest = self.ask(path, port)
            found.setdefault(pid, []).append(rest)
            return set(found) >= set(self.proxy.worker_pids()) and all(len(known) > 2 for known in found.values())

        assert eventually(is_complete), found
        return {rest for known in found.values() for rest in known}

    def reload(self) -> dict[str, Any]:
        """The result of `POST /api/v1/reload_filters`."""
        result: dict[str, Any] = self.proxy.post("/api/v1/reload_filters")[1]
        return result

    def replace_workers(self) -> None:
        """Kills both workers, one after the other, and waits until both serve again."""
        for victim in self.proxy.worker_pids():
            expected = self.proxy.output.count(") is ready") + 1
            os.kill(victim, signal.SIGKILL)
            assert eventually(partial(self._has_said, ") is ready", expected)), self.proxy.output

    def _has_said(self, text: str, count: int) -> bool:
        return self.proxy.output.count(text) >= count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "filters"
    write(folder, **FILES)
    return folder


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        write(folder, **{name: text.replace(old, new)})

    return apply


def delete(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


#: Edits that are refused, with the text that says so; an empty text: nothing notices the edit but a reload.
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "syntax": (edit("filter.py", "class Who", "class (Who"), r"filter\.py:8: "),
    "raises": (edit("filter.py", "import os", "import os\n1 / 0"), r"filter\.py:3: ZeroDivisionError"),
    "class_gone": (edit("filter.py", "class Who", "class Whom"), "no class 'Who'"),
    "init_raises": (
        edit("filter.py", "    async def on", "    def __init__(self, config):\n        1 / 0\n\n    async def on"),
        r"filter\.py:10: ZeroDivisionError",
    ),
    "start_raises": (
        edit("filter.py", "    async def on", "    async def start(self):\n        1 / 0\n\n    async def on"),
        r"filter\.py:10: ZeroDivisionError",
    ),
    "file_deleted": (delete("filter.py"), r"filter\.py cannot be read: No such file"),
    "folder_deleted": (shutil.rmtree, r"filter\.py cannot be read: No such file"),
    "fifo": (lambda folder: (delete("filter.py")(folder), os.mkfifo(folder / "filter.py")), "not a regular file but a FIFO"),  # type: ignore[func-returns-value,dict-item]
    "helper": (edit("helpers.py", "NAME", "NAME = = "), r"helpers\.py:1: "),
    "helper_gone": (delete("helpers.py"), "No module named 'helpers'"),
    "package": (edit("pkg/__init__.py", "PACKAGE", "1 / 0\nPACKAGE"), r"pkg/__init__\.py:1: ZeroDivisionError"),
    "init_appears": (lambda folder: write(folder, **{"__init__.py": "1 / 0"}), r"filters/__init__\.py:1: ZeroDivisionError"),
    "inner": (edit("pkg/inner.py", "INNER", "NOTHING"), "cannot import name 'INNER'"),
    "later": (edit("later.py", "LATER", "1 / 0\nLATER"), r"later\.py:1: ZeroDivisionError"),
}


#: Those after which workers are killed one by one.
DEADLY = ("syntax", "class_gone", "init_raises", "file_deleted", "folder_deleted", "later")


@pytest.mark.parametrize("name", DEADLY)
def test_a_refused_edit_and_then_dead_workers(start: Start, two_hops: TwoHops, folder: Path, name: str) -> None:
    site = Site(start, two_hops, folder)
    assert site.answers() == {ANSWER}
    refuses(site, folder, name)
    load = Load(two_hops.client_port, 4, "/who")
    site.replace_workers()
    served = load.count
    assert eventually(lambda: load.count > served + 100)
    load.end()
    # Each of two killed workers takes the requests with it that it was serving: at most one for each client.
    assert len(load.failures) <= 8
    assert not [failure for failure in load.failures if failure[0].isdigit()], "no answer but 200"
    assert site.answers() == {ANSWER}
    assert "keeps crashing" not in site.proxy.output


def test_refused_edits_of_other_kinds_and_then_dead_workers(start: Start, two_hops: TwoHops, folder: Path) -> None:
    """Each of them alone, and then all of them together on disk while both workers are replaced."""
    site = Site(start, two_hops, folder)
    others = [name for name in REFUSED if name not in DEADLY]
    for name in others:
        refuses(site, folder, name)
        shutil.rmtree(folder)
        write(folder, **FILES)
    for name in sorted(others, key="fifo".__eq__):  # it replaces a file that the others edit
        REFUSED[name][0](folder)
    site.replace_workers()
    assert site.answers() == {ANSWER}
    assert "keeps crashing" not in site.proxy.output


def refuses(site: Site, folder: Path, name: str) -> None:
    """Makes an edit, whose reload is refused, and leaves it on disk."""
    change, said = REFUSED[name]
    change(folder)
    result = site.reload()
    assert not result["applied"], name
    assert re.search(said, json.dumps(result["faults"]).replace("\\\\", "\\")), name
    assert site.answers() == {ANSWER}, name


def test_an_edit_that_is_not_watched_reaches_no_replaced_worker(start: Start, two_hops: TwoHops, folder: Path) -> None:
    site = Site(start, two_hops, folder)
    victims = site.proxy.worker_pids()
    write(folder, **{name: text.replace(" 1", " 2") for name, text in FILES.items()})
    os.kill(victims[0], signal.SIGKILL)
    site.proxy.wait_for(rf"pid {victims[0]}\) was killed by SIGKILL; replaced by")
    assert eventually(lambda: len(site.proxy.worker_pids()) == 2 and site.proxy.worker_pids() != victims)
    assert site.answers() == {ANSWER}, "also what it imports only now"
    assert site.reload()["applied"]
    assert site.answers() == {ANSWER.replace(" 1", " 2")}
    site.replace_workers()
    assert site.answers() == {ANSWER.replace(" 1", " 2")}


@pytest.mark.parametrize("broken", [True, False])
def test_an_unrelated_change_neither_fails_nor_brings_an_edit(
    start: Start, two_hops: TwoHops, folder: Path, broken: bool
) -> None:
    site = Site(start, two_hops, folder)
    write(folder, **{"filter.py": "def (" if broken else FILTER.replace("filter 1", "filter 2")})
    routers = two_hops.server["routers"][0]
    routers["virtual_hosts"][0]["routers"].insert(
        0, {"match": {"prefix": "/new"}, "direct_response": {"status": 200, "body": "0 route"}}
    )
    status, result = site.proxy.post("/api/v1/update_config", {"type": "router", "config": routers})
    assert (status, result["applied"]) == (200, True), result
    assert site.ask("/new") == (0, "route")
    assert site.answers() == {ANSWER}
    site.replace_workers()
    assert site.ask("/new") == (0, "route")
    assert site.answers() == {ANSWER}
    command = [sys.executable, "-m", "pymosn", "reload", "-c", str(folder.parent / "conf" / "mosn.json")]
    (folder.parent / "conf" / "mosn.json").write_text(json.dumps(two_hops.config))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=worker_environment(os.environ))
    assert done.returncode == (1 if broken else 0), done
    assert site.answers() == {ANSWER if broken else ANSWER.replace("filter 1", "filter 2")}


def test_a_change_that_names_a_new_folder_reads_only_that(start: Start, two_hops: TwoHops, folder: Path) -> None:
    site = Site(start, two_hops, folder)
    write(folder, **{"filter.py": "def ("})
    other = folder.parent / "conf" / "more"
    write(other, **FILES | {"helpers.py": "NAME = 'helpers of more'"})
    listener = two_hops.server["listeners"][0]
    listener["stream_filters"].insert(0, {"type": "python", "config": {"path": str(other / "filter.py"), "class": "Who"}})
    status, result = site.proxy.post("/api/v1/update_config", {"type": "listener", "config": listener})
    assert (status, result["applied"]) == (200, True), result
    assert site.answers() == {ANSWER.replace("helpers 1", "helpers of more")}
    listener["stream_filters"].pop(0)
    assert site.proxy.post("/api/v1/update_config", {"type": "listener", "config": listener})[1]["applied"]
    assert site.answers() == {ANSWER}


def test_an_edit_of_any_module_is_picked_up(start: Start, two_hops: TwoHops, folder: Path) -> None:
    site = Site(start, two_hops, folder)
    text = ANSWER
    for name in ("later", "pkg", "inner", "helpers", "filter"):
        file = {"pkg": "pkg/__init__.py", "inner": "pkg/inner.py"}.get(name, f"{name}.py")
        edit(file, f"{name} 1", f"{name} 2")(folder)
        assert site.answers() == {text}, "nothing watches"
        assert site.reload()["applied"]
        text = text.replace(f"{name} 1", f"{name} 2")
        assert site.answers() == {text}
    assert not list(folder.rglob("*.pyc"))


TWO_FOLDERS = """
import os
from pymosn.api import Reply, StreamFilter
import helpers
class Who(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == self.path:
            return Reply(200, f"{os.getpid()} {helpers.NAME}")
    def __init__(self, config):
        self.path = config["at"]
"""


def test_two_folders_with_helpers_of_one_name(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    entries = []
    for name in ("a", "b"):
        write(tmp_path / name, **{"filter.py": TWO_FOLDERS, "helpers.py": f"NAME = '{name}'"})
        entries.append({"path": str(tmp_path / name / "filter.py"), "class": "Who", "at": f"/{name}"})
    write(tmp_path, **{"helpers.py": "NAME = 'the current directory'"})
    site = Site(start, two_hops, tmp_path, False, *entries)
    assert [site.answers(f"/{name}") for name in ("a", "b")] == [{"a"}, {"b"}]
    write(tmp_path / "b", **{"helpers.py": "NAME = 'edited'"})
    assert site.reload()["applied"]
    assert [site.answers(f"/{name}") for name in ("a", "b")] == [{"a"}, {"edited"}]


SHARED = """
import os
from prometheus_client import REGISTRY, Counter
from pymosn.api import Reply, StreamFilter
import state
SEEN = Counter("seen", "Requests of one worker")
class Who(StreamFilter):
    VERSION = 1
    def __init__(self, config):
        self.made = Counter("made", "Requests of one worker") if config["first"] else None
    async def start(self):
        self.began = Counter("began", "Requests of one worker") if self.made else None
    def on_request(self, exchange):
        if exchange.request.path == "/who":
            state.COUNT.append(1)
            SEEN.inc()
            exposed = [REGISTRY.get_sample_value(f"{name}_total") for name in ("seen", "made", "began")]
            return Reply(200, f"{os.getpid()} {self.VERSION} {len(state.COUNT)} {exposed[0]:.0f} {exposed[1:]}")
"""


def test_shared_state_lives_on_and_counters_register_again(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    (other,) = free_ports(1)
    write(tmp_path / "filters", **{"filter.py": SHARED, "state.py": "COUNT = []"})
    path = str(tmp_path / "filters" / "filter.py")
    two_hops.server["listeners"].append(_listener("other", other, "client_router"))
    two_hops.server["listeners"][2]["stream_filters"] = [
        {"type": "python", "config": {"path": path, "class": "Who", "first": False}}
    ]
    site = Site(start, two_hops, tmp_path / "filters", False, {"path": path, "class": "Who", "first": True})  # type: ignore[dict-item]
    asked: dict[int, int] = {}
    for version in range(1, 5):
        seen: dict[int, int] = {}
        for turn in range(20):
            pid, text = site.ask(port=other if turn % 2 else 0)
            asked[pid] = asked.get(pid, 0) + 1
            seen[pid] = seen.get(pid, 0) + 1
            assert text == f"{version} {asked[pid]} {seen[pid]} [0.0, 0.0]", "both listeners share the modules"
        edit("filter.py", f"VERSION = {version}", f"VERSION = {version + 1}")(site.folder)
        result = site.reload()
        assert result["applied"], result
    write(site.folder, **{"filter.py": SHARED.replace("VERSION = 1", "1 / 0")})
    assert not site.reload()["applied"]
    assert site.ask()[1].startswith("5 ")


def test_a_folder_behind_a_link_that_gets_another_target(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    for version in (1, 2):
        write(tmp_path / f"v{version}", **{name: text.replace(" 1", f" {version}") for name, text in FILES.items()})
    (tmp_path / "current").symlink_to("v1")
    site = Site(start, two_hops, tmp_path / "current")
    assert site.answers() == {ANSWER}
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "current")
    site.replace_workers()
    assert site.answers() == {ANSWER}
    shutil.rmtree(tmp_path / "v1")
    assert site.reload()["applied"]
    assert site.answers() == {ANSWER.replace(" 1", " 2")}


def test_the_watched_file_too(start: Start, two_hops: TwoHops, folder: Path) -> None:
    site = Site(start, two_hops, folder, True)
    edit("filter.py", "class Who", "class (Who")(folder)
    site.proxy.wait_for(r"change from edit of .*: rejected")
    site.replace_workers()
    assert site.answers() == {ANSWER}
    write(folder, **{"filter.py": FILTER.replace("filter 1", "filter 2")})
    site.proxy.wait_for(r"change from edit of .*: version 2 is active")
    assert site.answers() == {ANSWER.replace("filter 1", "filter 2")}


def test_errors_show_the_line_of_the_active_source(start: Start, two_hops: TwoHops, folder: Path) -> None:
    raising = FILTER.replace("            from later", '            raise KeyError("x")\n            from later')
    write(folder, **{"filter.py": raising})
    site = Site(start, two_hops, folder)
    write(folder, **{"filter.py": "\n" * 50 + raising})
    assert get(two_hops.client_port, "/who")[0] == 500
    line = raising.splitlines().index('            raise KeyError("x")') + 1
    site.proxy.wait_for(rf"filter 'Who' failed: KeyError: 'x' \(at {folder}/filter\.py:{line} in on_request\)")


POOL = """
import os
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from pymosn.api import Reply, StreamFilter
from pkg.work import Task, work

class Who(StreamFilter):
    async def start(self):
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    async def stop(self):
        self.pool.shutdown()
    async def on_request(self, exchange):
        if exchange.request.path == "/who":
            import asyncio
            done = await asyncio.get_running_loop().run_in_executor(self.pool, work, Task(20))
            assert isinstance(done, Task)
            return Reply(200, f"{os.getpid()} {done.value}")
"""
WORK = """
from dataclasses import dataclass
@dataclass
class Task:
    value: int
def work(task):
    from pkg import late
    return Task(task.value + late.MORE)
"""


def test_a_pool_of_processes_after_an_edit(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    folder = tmp_path / "filters"
    write(folder, **{"filter.py": POOL, "pkg/work.py": WORK, "pkg/late.py": "MORE = 1"})
    site = Site(start, two_hops, folder)
    assert site.answers() == {"21"}
    write(folder, **{"pkg/work.py": WORK.replace("20", "20") + "# edited", "pkg/late.py": "MORE = 2"})
    assert site.answers() == {"21"}
    assert site.reload()["applied"]
    assert site.answers() == {"22"}


#: Blocks its worker at `/block`.
STUCK = """
import os, time
from pymosn.api import Reply, StreamFilter
IMPORTED
class Who(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/block":
            open(os.path.join(os.path.dirname(__file__), "blocked"), "w").close()
            time.sleep(100)
        return Reply(200, f"{os.getpid()} VERSION")
"""


def stuck(version: str, imported: str = "") -> str:
    return STUCK.replace("VERSION", version).replace("IMPORTED", imported)


def test_a_hung_worker_does_not_keep_an_edit_from_the_others(start: Start, two_hops: TwoHops, folder: Path) -> None:
    """The edit may be the remedy."""
    two_hops.server["worker_hang_limit"] = "4s"
    write(folder, **{"filter.py": stuck("1")})
    site = Site(start, two_hops, folder, True)
    with socket.create_connection(("127.0.0.1", two_hops.client_port)) as client:
        client.sendall(b"GET /block HTTP/1.1\r\nhost: a\r\n\r\n")
        marker = folder / "blocked"
        assert eventually(marker.exists)
        write(folder, **{"filter.py": stuck("2")})
        site.proxy.wait_for("change from edit of filter.py: version 2 is active")
    assert site.answers() == {"2"}


@pytest.mark.parametrize("imported", ["os._exit(3)", "os.abort()", "time.sleep(100)"])
def test_an_edit_that_kills_its_process_kills_one(start: Start, two_hops: TwoHops, folder: Path, imported: str) -> None:
    two_hops.server["worker_hang_limit"] = "2s"
    write(folder, **{"filter.py": stuck("1")})
    site = Site(start, two_hops, folder, True)
    before = set(site.proxy.worker_pids())
    write(folder, **{"filter.py": stuck("2", imported)})
    site.proxy.wait_for("change from edit of filter.py: rejected")
    site.proxy.wait_for(r"\) is ready")
    assert len(before & set(site.proxy.worker_pids())) == 1
    assert site.answers() == {"1"}
