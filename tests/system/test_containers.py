"""The real program as in a container: memory and CPU limits of cgroups, and as the first process of a pid namespace."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import READY, TwoHops, eventually

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

MIB = 1 << 20

#: A filter that keeps memory from its import on.
HEAVY = """
from pymosn.api import StreamFilter

kept = b"x" * {size}


class Heavy(StreamFilter):
    pass
"""

#: A filter that tells when its memory is freed.
FREED = """
import weakref

from pymosn.api import Exchange, StreamFilter


class Kept:
    pass


kept = Kept()
weakref.finalize(kept, print, "freed {version}", flush=True).atexit = False


class Heavy(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        pass
"""

#: A filter that leaves an orphan behind, which ends by itself.
ORPHAN = """
import subprocess

from pymosn.api import Exchange, StreamFilter


class Orphans(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        subprocess.run(["sh", "-c", "sleep 0.05 & true"], check=True)
"""

Enter = Callable[[dict[str, str]], str]


@pytest.fixture
def cgroup() -> Iterator[Enter]:
    """Makes a cgroup with these files, such as `memory.max`; the result is the shell command that enters it."""
    made: list[Path] = []

    def make(files: dict[str, str]) -> str:
        folders: dict[Path, None] = {}
        for file, value in files.items():
            folder = _hierarchy(file.partition(".")[0]) / f"pymosn-test-{os.getpid()}"
            try:
                if folder not in folders:
                    folder.mkdir()
                    made.append(folder)
                (folder / file).write_text(value)
            except OSError as error:
                pytest.skip(f"cannot create a cgroup with limits: {error}")
            folders[folder] = None
        return " && ".join(f"echo $$ > {folder}/cgroup.procs" for folder in folders)

    yield make
    for folder in made:
        assert eventually(partial(_is_empty, folder))
        folder.rmdir()


def _is_empty(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text()


def _hierarchy(controller: str) -> Path:
    """Where groups of a controller can be made: the hierarchy of version 1, else the one of version 2."""
    root = Path("/sys/fs/cgroup")
    own = root / controller if (root / controller / "cgroup.procs").exists() else root
    if not os.access(own, os.W_OK):
        pytest.skip("needs a writable cgroup")
    return own


def limits(memory: int = 0, cpus: float = 0.0) -> dict[str, str]:
    """The files of a cgroup with these limits, in the version that this machine has."""
    found = {}
    if memory:
        is_old = (Path("/sys/fs/cgroup/memory") / "cgroup.procs").exists()
        found["memory.limit_in_bytes" if is_old else "memory.max"] = str(memory)
    if cpus:
        if (Path("/sys/fs/cgroup/cpu") / "cgroup.procs").exists():
            found |= {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(int(cpus * 100_000))}
        else:
            found["cpu.max"] = f"{int(cpus * 100_000)} 100000"
    return found


def test_a_small_container_gets_fewer_workers_that_serve(cgroup: Enter, start: Start, two_hops: TwoHops) -> None:
    proxy = start(two_hops.config, "--workers", "8", before=cgroup(limits(256 * MIB)))
    proxy.wait_for(READY)
    proxy.wait_for(
        "starting 3 instead of 8 workers: the memory limit is 256 MiB; the supervisor needs 64 MiB, and each worker 64 MiB"
    )
    assert len(proxy.worker_pids()) == 3
    assert [two_hops.get()[0] for _ in range(20)] == [200] * 20
    assert "no longer accepting" not in proxy.output


def test_a_limit_below_that_of_an_idle_worker_is_refused(start: Start, two_hops: TwoHops) -> None:
    two_hops.server["overload"] = {"memory_limit": 20 * MIB}
    proxy = start(two_hops.config)
    what = r"servers\[0\].overload.memory_limit, which is 20 MiB"
    proxy.wait_for(rf"a worker uses \d+ MiB before its first request, too much for {what}")
    assert proxy.process.wait(20) == 1


def test_filters_that_need_more_than_the_share_are_refused(
    cgroup: Enter, start: Start, two_hops: TwoHops, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "heavy.py").write_text(HEAVY.format(size=60 * MIB))
    entry = {"type": "python", "config": {"path": "heavy.py", "class": "Heavy"}}
    two_hops.server["listeners"][0]["stream_filters"] = [entry]
    proxy = start(two_hops.config, "--workers", "2", before=cgroup(limits(256 * MIB)))
    proxy.wait_for(
        r"a worker uses \d+ MiB before its first request, too much for its share of the memory limit, which is 96 MiB: "
        r"\(256 MiB - 64 MiB for the supervisor\) / 2 workers; 1 would have enough"
    )
    assert proxy.process.wait(20) == 1


def test_an_edit_after_which_workers_could_not_serve_is_rejected(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    heavy = tmp_path / "conf" / "heavy.py"
    heavy.write_text(HEAVY.format(size=1))
    entry = {"type": "python", "config": {"path": "heavy.py", "class": "Heavy"}}
    two_hops.server["listeners"][0]["stream_filters"] = [entry]
    two_hops.server["overload"] = {"memory_limit": 100 * MIB}
    proxy = start(two_hops.config, "--workers", "2")
    proxy.wait_for(READY)
    heavy.write_text(HEAVY.format(size=80 * MIB))
    proxy.wait_for(
        r"a worker uses \d+ MiB with this configuration and the active one, too much for servers\[0\].overload.memory_limit"
    )
    assert json.loads(two_hops.admin("/api/v1/last_change"))["applied"] is False
    assert two_hops.get()[0] == 200
    heavy.write_text(HEAVY.format(size=2))
    assert eventually(lambda: json.loads(two_hops.admin("/api/v1/last_change"))["applied"] is True)


def test_an_edit_frees_what_the_old_filter_kept(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    heavy = tmp_path / "conf" / "heavy.py"
    heavy.write_text(FREED.format(version=1))
    entry = {"type": "python", "config": {"path": "heavy.py", "class": "Heavy"}}
    two_hops.server["listeners"][0]["stream_filters"] = [entry]
    proxy = start(two_hops.config, "--workers", "2")
    proxy.wait_for(READY)
    assert two_hops.get()[0] == 200
    for version in (2, 3):
        heavy.write_text(FREED.format(version=version))
        assert eventually(lambda version=version: proxy.output.count(f"freed {version - 1}") == 2), "one for each worker"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_the_quota_of_cpu_time_decides_the_number_of_workers(cgroup: Enter, start: Start, two_hops: TwoHops) -> None:
    two_hops.server["processor"] = "auto"
    proxy = start(two_hops.config, before=cgroup(limits(cpus=1.0)), GOMAXPROCS="")
    proxy.wait_for(READY)
    assert len(proxy.worker_pids()) == 1


#: Makes the import of a library hang, so that a signal arrives during the start.
HANGING_IMPORT = """
import sys, time
from importlib.abc import MetaPathFinder


class Hangs(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "click":
            open("importing", "w").close()
            time.sleep(600)
        return None


sys.meta_path.insert(0, Hangs())
"""


def as_first_process(folder: Path, *arguments: str, path: str = "") -> "subprocess.Popen[bytes]":
    """Starts pymosn as process 1 of a pid namespace; its output is in the file `out`. `path`: put before PYTHONPATH."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare")
    environment = worker_environment(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, environment.get("PYTHONPATH", "")]))
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "pymosn", *arguments]
    with (folder / "out").open("wb") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, cwd=folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_first_process_of_a_container_can_be_stopped_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_IMPORT)
    process = as_first_process(tmp_path, "start", path=str(tmp_path))
    try:
        assert eventually((tmp_path / "importing").exists)
        os.kill(_children(process.pid)[0], number)
        assert process.wait(20) == 128 + number
    finally:
        process.kill()
        process.wait()


def test_the_first_process_of_a_container_reaps_orphans(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "orphans.py").write_text(ORPHAN)
    entry = {"type": "python", "config": {"path": "orphans.py", "class": "Orphans"}}
    two_hops.server["listeners"][0]["stream_filters"] = [entry]
    path = tmp_path / "conf" / "mosn.json"
    path.write_text(json.dumps(two_hops.config))
    process = as_first_process(tmp_path, "start", "-c", str(path), "--workers", "2")
    try:
        assert eventually(lambda: re.search(READY, (tmp_path / "out").read_text()) is not None)
        first = _children(process.pid)
        assert len(first) == 1
        before = len(_children(first[0]))
        assert [two_hops.get()[0] for _ in range(5)] == [200] * 5
        assert eventually(lambda: len(_children(first[0])) == before), "orphans are zombies of the first process"
        os.kill(first[0], signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    """The children of a process, zombies too."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
