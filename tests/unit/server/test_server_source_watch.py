"""What the filter watch notices, over real folders: each way to change a source, with notifications and by polling."""

import errno
import os
import queue
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymosn.server import source_watch
from pymosn.server.inotify import Q_OVERFLOW, Event, Inotify, wait
from pymosn.server.source_watch import Contents, SourceWatch
from pymosn.server.watched_paths import package_folders

#: Seconds to wait for what must come. A test that needs them all has failed.
PATIENCE = 20.0
POLLING = 0.02


def read_sources(paths: Collection[str]) -> Contents:
    found: dict[str, dict[str, str]] = {}
    for top in {os.path.dirname(path) for path in paths}:
        found[top] = {}
        for folder in package_folders(top):
            for file in Path(folder).glob("*.py"):
                if file.is_file():
                    found[top][str(file.relative_to(top))] = file.read_text()
    return found


class ObservedWatch(SourceWatch):
    """`is_waiting` is set while only a notification, or the next comparison, can notice an edit."""

    is_waiting: threading.Event

    def _wait(self, hints: Any, interval: float) -> None:
        self.is_waiting.set()
        super()._wait(hints, interval)


class Process:
    """Loads what the watch reports, as the supervisor does; records the reports."""

    def __init__(self, path: Path, polls: bool, inotify: Callable[[], Inotify] = Inotify) -> None:
        self.path = str(path)
        self.reports: queue.Queue[list[str]] = queue.Queue()
        self.warnings: queue.Queue[str] = queue.Queue()
        self.loads = True
        self.looks = 0
        self.after_looks: list[Callable[[], object]] = []
        self.loaded = read_sources([self.path])
        self._news = threading.Condition()
        self._watch = ObservedWatch([self.path], POLLING if polls else 0.0, self._read, lambda: self.loaded, inotify)
        self._watch.is_waiting = threading.Event()
        self._watch.on_edit = self._on_edit
        self._watch.on_warning = self.warnings.put
        self._thread = threading.Thread(target=self._watch.run)
        self._thread.start()

    def _read(self, paths: Collection[str]) -> Contents:
        with self._news:
            sources = read_sources(paths)
            self.looks += 1
            if self.after_looks:
                self.after_looks.pop()()
            self._news.notify_all()
        return sources

    def _on_edit(self, names: list[str]) -> None:
        if self.loads:
            self.load()
        self.reports.put(names)

    def load(self, edit: Callable[[], object] = lambda: None) -> None:
        """Makes an edit, and loads it before the watch can look."""
        self._watch.is_waiting.clear()
        with self._news:
            edit()
            self.loaded = read_sources([self.path])
            self._news.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), (self.loaded, list(self.reports.queue))

    def expect(self, content: str | None, name: str = "edited.py") -> None:
        """Waits until the process has loaded that file with that content; None: without the file."""
        folder = os.path.dirname(self.path)
        self.wait(lambda: self.loaded[folder].get(name) == content if folder in self.loaded else content is None)
        self.settled()

    def report(self) -> list[str]:
        return self.reports.get(timeout=PATIENCE)

    def settled(self) -> None:
        """Waits until the watch waits for the next edit."""
        assert self._watch.is_waiting.wait(PATIENCE)

    def end(self) -> None:
        self._watch.end()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


Watched = Callable[..., Process]


@pytest.fixture(params=["notifications", "polling"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # No comparison of attributes helps a notification that is missing.
    monkeypatch.setattr(source_watch, "CHECK_INTERVAL", 3600.0)
    return str(request.param)


@pytest.fixture
def watched(mode: str) -> Iterator[Watched]:
    started: list[Process] = []

    def start(path: Path, inotify: Callable[[], Inotify] = Inotify) -> Process:
        started.append(Process(path, mode == "polling", inotify))
        started[-1].settled()
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def notified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_watch, "CHECK_INTERVAL", 3600.0)


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def replace(path: Path, content: str) -> None:
    """As most editors and `rsync` do."""
    os.replace(write(path.with_name(".new"), content), path)


def relink(link: Path, target: str) -> None:
    """As `ln -sfT` and kubelet do: a link never points to nothing."""
    new = link.with_name(f"{link.name}_tmp")
    new.symlink_to(target)
    os.replace(new, link)


def test_rewritten_in_place(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    path.write_text("2")
    assert process.report() == ["edited.py"]
    process.expect("2")
    path.write_text("3")
    process.expect("3")


def test_renamed_over(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    for content in ("2", "3"):
        replace(path, content)
        process.expect(content)


def test_same_size_and_times(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    times = path.stat()
    path.write_text("2")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    process.expect("2")


def test_removed_and_made_again(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    path.unlink()
    process.expect(None)
    path.write_text("1")
    process.expect("1")


def test_written_by_another_name(watched: Watched, tmp_path: Path) -> None:
    """As a file that is mounted into a container is edited on its host."""
    path = write(tmp_path / "filters" / "edited.py", "1")
    other = tmp_path / "other.py"
    os.link(path, other)
    process = watched(path)
    other.write_text("2")
    process.expect("2")


def test_file_is_a_link(watched: Watched, tmp_path: Path) -> None:
    for version in "12":
        write(tmp_path / "versions" / f"v{version}.py", version)
    path = tmp_path / "filters" / "edited.py"
    path.parent.mkdir()
    path.symlink_to("../versions/v1.py")
    process = watched(path)
    relink(path, "../versions/v2.py")
    process.expect("2")
    (tmp_path / "versions" / "v2.py").write_text("3")
    process.expect("3")
    replace(tmp_path / "versions" / "v2.py", "4")
    process.expect("4")


def test_config_map(watched: Watched, tmp_path: Path) -> None:
    volume = tmp_path / "volume"

    def publish(version: str) -> None:
        """As kubelet does (AtomicWriter): a new folder, a new link, a rename; then the old folder is removed."""
        old = os.readlink(volume / "..data") if (volume / "..data").is_symlink() else ""
        write(volume / f"..2026_{version}" / "edited.py", version)
        write(volume / f"..2026_{version}" / "helper.py", f"helper {version}")
        relink(volume / "..data", f"..2026_{version}")
        if old:
            shutil.rmtree(volume / old)

    publish("1")
    for name in ("edited.py", "helper.py"):
        (volume / name).symlink_to(f"..data/{name}")
    process = watched(volume / "edited.py")
    for version in ("2", "3", "4"):
        publish(version)
        process.expect(version)
        process.expect(f"helper {version}", "helper.py")


def test_current_link(watched: Watched, tmp_path: Path) -> None:
    for version in "12":
        write(tmp_path / "releases" / version / "filters" / "edited.py", version)
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "releases" / "1")
    process = watched(current / "filters" / "edited.py")
    relink(current, "releases/2")
    process.expect("2")
    write(tmp_path / "releases" / "2" / "filters" / "edited.py", "3")
    process.expect("3")


def test_links_in_the_middle(watched: Watched, tmp_path: Path) -> None:
    for version in "12":
        write(tmp_path / f"real{version}" / "deep" / "edited.py", version)
    (tmp_path / "b").symlink_to("real1")
    (tmp_path / "a").symlink_to(tmp_path / "sub" / ".." / "b")
    (tmp_path / "sub").mkdir()
    process = watched(tmp_path / "a" / "deep" / "edited.py")
    relink(tmp_path / "b", "real2")
    process.expect("2")
    os.replace(tmp_path / "real1", tmp_path / "old")
    (tmp_path / "real1").symlink_to("old")
    relink(tmp_path / "a", "real1")
    process.expect("1")


def test_folder_renamed_and_made_again(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "filters" / "edited.py", "1")
    process = watched(path)
    path.parent.rename(tmp_path / "away")
    process.expect(None)
    write(path, "2")
    process.expect("2")
    path.write_text("3")
    process.expect("3")


def test_folder_deleted_and_made_again(watched: Watched, tmp_path: Path) -> None:
    """The new folder may get the inode of the old one."""
    path = write(tmp_path / "filters" / "edited.py", "1")
    process = watched(path)
    for content in ("2", "3"):
        shutil.rmtree(path.parent)
        write(path, content)
        process.expect(content)
        path.write_text(content + "!")
        process.expect(content + "!")


def test_ancestor_replaced(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "app" / "conf" / "filters" / "edited.py", "1")
    write(tmp_path / "next" / "conf" / "filters" / "edited.py", "2")
    process = watched(path)
    (tmp_path / "app").rename(tmp_path / "before")
    (tmp_path / "next").rename(tmp_path / "app")
    process.expect("2")
    replace(path, "3")
    process.expect("3")


def test_missing_folders(watched: Watched, tmp_path: Path) -> None:
    process = watched(tmp_path / "not" / "yet" / "edited.py")
    write(tmp_path / "not" / "yet" / "edited.py", "1")
    process.expect("1")
    shutil.rmtree(tmp_path / "not")
    process.expect(None)
    write(tmp_path / "not" / "yet" / "edited.py", "2")
    process.expect("2")


def test_link_to_nothing(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "filters" / "edited.py"
    path.parent.mkdir()
    path.symlink_to(tmp_path / "later" / "real.py")
    process = watched(path)
    write(tmp_path / "later" / "real.py", "1")
    process.expect("1")


def test_modules_beside_the_filter(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    helper = tmp_path / "helper.py"
    process = watched(path)
    helper.write_text("a")
    assert process.report() == ["helper.py"]
    replace(helper, "b")
    process.expect("b", "helper.py")
    helper.unlink()
    process.expect(None, "helper.py")


def test_packages_beside_the_filter(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    inner = tmp_path / "package" / "inner"
    inner.mkdir(parents=True)
    write(inner / "module.py", "a")
    process.expect("a", "package/inner/module.py")
    replace(inner / "module.py", "b")
    process.expect("b", "package/inner/module.py")
    shutil.move(tmp_path / "package", tmp_path / "renamed")
    process.expect("b", "renamed/inner/module.py")
    process.expect(None, "package/inner/module.py")
    shutil.rmtree(tmp_path / "renamed")
    process.expect(None, "renamed/inner/module.py")


def test_package_behind_a_link(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "filters" / "edited.py", "1")
    (path.parent / "package").symlink_to("../shared/package")
    process = watched(path)
    write(tmp_path / "shared" / "package" / "module.py", "a")
    process.expect("a", "package/module.py")
    write(tmp_path / "shared" / "package" / "module.py", "b")
    process.expect("b", "package/module.py")


def test_helper_behind_a_link(watched: Watched, tmp_path: Path) -> None:
    path = write(tmp_path / "filters" / "edited.py", "1")
    helper = write(tmp_path / "shared" / "helper", "a")
    (path.parent / "helper.py").symlink_to("../shared/helper")
    process = watched(path)
    helper.write_text("b")
    process.expect("b", "helper.py")


def test_no_change_of_content(watched: Watched, tmp_path: Path) -> None:
    """A touch, new permissions, and the same content again are looked at, and are no edits."""
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    for change in (path.touch, lambda: path.chmod(0o600), lambda: replace(path, "1")):
        before = process.looks
        change()
        process.wait(lambda before=before: process.looks > before)
    path.write_text("2")
    process.expect("2")
    assert process.report() == ["edited.py"]
    assert process.reports.empty()


def test_edit_before_the_first_look(mode: str, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    loaded = read_sources([str(path)])
    path.write_text("2")
    reports: queue.Queue[list[str]] = queue.Queue()
    watch = SourceWatch([str(path)], POLLING if mode == "polling" else 0.0, read_sources, lambda: loaded)
    watch.on_edit = reports.put
    thread = threading.Thread(target=watch.run)
    thread.start()
    assert reports.get(timeout=PATIENCE) == ["edited.py"]
    watch.end()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_unknown_start(mode: str, tmp_path: Path) -> None:
    """Without a record of what was read last, the first look counts."""
    path = write(tmp_path / "edited.py", "1")
    reports: queue.Queue[list[str]] = queue.Queue()
    looked = threading.Semaphore(0)

    def read(paths: Collection[str]) -> Contents:
        sources = read_sources(paths)
        looked.release()
        return sources

    watch = SourceWatch([str(path)], POLLING if mode == "polling" else 0.0, read, lambda: None)
    watch.on_edit = reports.put
    thread = threading.Thread(target=watch.run)
    thread.start()
    assert looked.acquire(timeout=PATIENCE)
    assert looked.acquire(timeout=PATIENCE)
    for content in ("2", "1"):
        path.write_text(content)
        assert reports.get(timeout=PATIENCE) == ["edited.py"]
    watch.end()
    thread.join(PATIENCE)
    assert reports.empty()


def test_reported_once(watched: Watched, tmp_path: Path) -> None:
    """While the process has not read an edit yet, or could not, further looks do not report it again."""
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    process.loads = False
    path.write_text("2")
    assert process.report() == ["edited.py"]
    before = process.looks
    path.touch()
    process.wait(lambda: process.looks > before)
    process.loads = True
    path.write_text("3")
    process.expect("3")
    assert process.reports.qsize() == 1


def test_read_by_the_process_itself(watched: Watched, tmp_path: Path) -> None:
    """A reload on request has read the edit: the watch does not cause another one."""
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    before = process.looks
    process.load(lambda: path.write_text("2"))
    process.wait(lambda: process.looks > before)
    replace(tmp_path / "helper.py", "3")
    assert process.report() == ["helper.py"]


def test_written_slowly(watched: Watched, tmp_path: Path) -> None:
    """A file that somebody writes after each time that it was read is not loaded half."""
    path = write(tmp_path / "edited.py", "1")
    process = watched(path)
    half = "2" * 1000
    with path.open("r+", buffering=1) as file:
        process.after_looks = [lambda: file.write(half + "\n")] * 5
        file.write("\n")
        process.expect("\n" + (half + "\n") * 5)
    assert process.report() == ["edited.py"]
    assert process.reports.empty()


def test_noise(notified: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other entries of the folder and of those above do not cause a look, and do not delay one."""
    monkeypatch.setattr(source_watch, "SETTLE_TIME", 3600.0)
    monkeypatch.setattr(source_watch, "TIME_RESOLUTION", 0.0)
    path = write(tmp_path / "app" / "filters" / "edited.py", "1")
    process = Process(path, polls=False)
    process.settled()
    before = process.looks
    done = threading.Event()
    rounds = threading.Semaphore(0)

    def make_noise() -> None:
        while not done.wait(0.001):
            for noise in (tmp_path / "app" / "noise", tmp_path / "noise.py", path.parent / "mosn.log"):
                write(noise, "x").unlink()
            rounds.release()

    noise = threading.Thread(target=make_noise)
    noise.start()
    try:
        for _ in range(100):
            assert rounds.acquire(timeout=PATIENCE)
        assert process.looks == before
        for content, edit in (("2", write), ("3", replace), ("4", replace)):
            edit(path, content)
            process.expect(content)
            assert process.report() == ["edited.py"]
    finally:
        done.set()
        noise.join()
        process.end()


class Refused(Inotify):
    def __init__(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


class Limited(Inotify):
    """The system has no watch left for the filter's folder and what is in it."""

    def watch(self, path: str, mask: int) -> int:
        if "filters" in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return super().watch(path, mask)


@pytest.mark.parametrize(("inotify", "reason"), [(Refused, "Too many open files"), (Limited, "No space left on device: /")])
def test_refused(
    notified: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inotify: type[Inotify], reason: str
) -> None:
    monkeypatch.setattr(source_watch, "REFUSED_INTERVAL", POLLING)
    path = write(tmp_path / "filters" / "edited.py", "1")
    process = Process(path, False, inotify)
    try:
        for content in ("2", "3"):
            replace(path, content)
            process.expect(content)
        assert reason in process.warnings.get(timeout=PATIENCE)
        assert process.warnings.empty()
    finally:
        process.end()


class Overflowing(Inotify):
    """The queue overflows with the first event; the others are lost."""

    def read(self) -> list[Event]:
        super().read()
        return [Event(-1, Q_OVERFLOW, "")]


def test_overflow(notified: None, tmp_path: Path) -> None:
    path = write(tmp_path / "edited.py", "1")
    process = Process(path, False, Overflowing)
    try:
        process.settled()
        path.write_text("2")
        process.expect("2")
    finally:
        process.end()


def test_missed_notification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Attributes are compared also with notifications, at a longer interval."""

    class Deaf(Inotify):
        def read(self) -> list[Event]:
            super().read()
            return []

    monkeypatch.setattr(source_watch, "CHECK_INTERVAL", POLLING)
    path = write(tmp_path / "edited.py", "1")
    process = Process(path, False, Deaf)
    try:
        process.settled()
        path.write_text("2")
        process.expect("2")
        assert process.warnings.empty()
    finally:
        process.end()


@pytest.mark.parametrize("interval", [0.0, POLLING])
def test_remote_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interval: float) -> None:
    """One line recommends polling, unless it is configured."""
    monkeypatch.setattr(source_watch, "remote_mounts", lambda plan, mounts: ["nfs4 at /mnt/filters"])
    path = write(tmp_path / "edited.py", "1")
    reports: queue.Queue[list[str]] = queue.Queue()
    warnings: list[str] = []
    watch = SourceWatch([str(path)], interval, read_sources, dict)
    watch.on_edit = reports.put
    watch.on_warning = warnings.append
    thread = threading.Thread(target=watch.run)
    thread.start()
    assert reports.get(timeout=PATIENCE) == ["edited.py"]
    path.rename(tmp_path / "other.py")
    assert reports.get(timeout=PATIENCE) == ["other.py"]
    watch.end()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    named = ["nfs4 at /mnt/filters" in text and "`watch_filters_interval`" in text for text in warnings]
    assert named == ([] if interval else [True])


def test_failing_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source_watch, "REFUSED_INTERVAL", POLLING)
    path = write(tmp_path / "edited.py", "1")
    failures = 3

    def read(paths: Collection[str]) -> Contents:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ValueError("unreadable")
        return read_sources(paths)

    reports: queue.Queue[list[str]] = queue.Queue()
    warnings: queue.Queue[str] = queue.Queue()
    watch = SourceWatch([str(path)], 0.0, read, dict)
    watch.on_edit = reports.put
    watch.on_warning = warnings.put
    thread = threading.Thread(target=watch.run)
    thread.start()
    assert reports.get(timeout=PATIENCE) == ["edited.py"]
    assert "ValueError: unreadable" in warnings.get(timeout=PATIENCE)
    watch.end()
    thread.join(PATIENCE)
    assert list(warnings.queue) == []


def test_a_wait_may_be_longer_than_the_system_allows() -> None:
    """`watch_filters_interval: 1000h`."""
    readable, end = os.pipe()
    os.close(end)
    assert wait(1e12, readable) == {readable}
    os.close(readable)
