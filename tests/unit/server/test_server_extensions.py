"""The runner of extensions, with a configuration that is not in a process."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ChangeResult, Edit
from pymosn.core.log import Log
from pymosn.filters.sources import Sources, read_sources
from pymosn.server.extensions import LAST_RETRY, Extensions
from pymosn.server.run_options import StartError

CODE = """
from pymosn.api import Extension, Secret, SetHosts
import msgspec

class Settings(msgspec.Struct):
    token: Secret[str]

class Tried(Extension):
    Config = Settings

    async def start(self, plane):
        plane.write("token " + self.config.token)
        await plane.apply(SetHosts("a", ["127.0.0.1:1"]))
"""


#: Extensions without settings. `calls` are those of their objects, in order.
MANY = """
from pymosn.api import ChangeRejected, Extension, Put, SetHosts
import asyncio

calls = []

class First(Extension):
    async def start(self, plane):
        calls.append(("start", type(self).__name__))
        self.plane = plane
        await plane.apply(Put("cluster", {"name": type(self).__name__}))

    async def stop(self):
        try:
            await self.plane.apply(SetHosts("a", ["127.0.0.1:6"]))
        except ChangeRejected as error:
            calls.append(("rejected", str(error)))
        calls.append(("stop", type(self).__name__))

class Second(First):
    pass

class Failing(Extension):
    async def start(self, plane):
        calls.append(("start", type(self).__name__))
        raise SystemExit(9)

class FailingToo(Failing):
    pass

class Leaves(Extension):
    async def start(self, plane):
        waiting = asyncio.create_task(plane.apply(SetHosts("a", ["127.0.0.1:6"])))
        await asyncio.sleep(0)
        waiting.cancel()

class Exits(Extension):
    async def start(self, plane):
        for error in SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError:
            plane.create_task(self._fail(error))

    async def _fail(self, error):
        raise error("lost")
"""


def many(folder: Path, *names: str) -> Process:
    """A process with these extensions, and their calls."""
    return Process(folder, 0, MANY, [(name, {}) for name in names])


def calls_of(process: Process) -> list[tuple[str, str]]:
    [module] = [each for each in list(sys.modules.values()) if getattr(each, "__file__", "") == process.path]
    found: list[tuple[str, str]] = module.calls
    return found


class Lines(Log):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)


class Process:
    """A process that rejects the first `rejections` changes."""

    def __init__(
        self,
        folder: Path,
        rejections: int,
        code: str = CODE,
        named: Sequence[tuple[str, dict[str, str]]] = (("Tried", {"token": "s3cret-token"}),),
    ) -> None:
        """`named`: the classes of its extensions, and their settings."""
        path = folder / "code.py"
        path.write_text(code)
        self.path = str(path)
        self.folder = str(folder)
        self.active = self.with_extensions(named)
        self.sources: Sources = read_sources([path])
        self.rejections = rejections
        self.attempts = 0
        self.runner: Extensions | None = None

    def with_extensions(self, named: Sequence[tuple[str, dict[str, str]]]) -> MosnConfig:
        blocks = [{"path": "code.py", "class": name, "config": settings} for name, settings in named]
        extends = [{"type": "python", "config": block} for block in blocks]
        text = {"servers": [{}], "cluster_manager": {"clusters": [{"name": "a"}]}, "extends": extends}
        loaded = load_text(json.dumps(text), "test", config_dir=self.folder)
        assert loaded.config is not None, loaded.errors
        return loaded.config

    @property
    def config(self) -> MosnConfig:
        return self.active

    def whole_config(self) -> dict[str, Any]:
        return {}

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        candidate = edit(self.active)
        self.attempts += 1
        applied = self.attempts > self.rejections
        applied = applied and candidate.config is not None
        if candidate.config is not None and applied:
            if self.runner is not None and candidate.config is not self.active:
                # As any change: `Changes._apply`.
                assert await self.runner.prepare(candidate.config, self.sources) == []
                await asyncio.sleep(0.01)
                self.runner.activate()
            self.active = candidate.config
        return ChangeResult(attempt=1, source=source, applied=applied, version=1, message="no", faults=candidate.faults)


class Started:
    """The runner after a change that adds the extension; timers are called by `elapse`."""

    def __init__(self, folder: Path, rejections: int = 0, process: Process | None = None) -> None:
        """Without extensions, which `add` or `start` adds."""
        self.process = process or Process(folder, rejections)
        self.log = Lines()
        self.is_serving = False
        self.delays: list[float] = []
        self._timers: list[Callable[[], object]] = []
        self._tasks: list[asyncio.Task[object]] = []
        self.marks: dict[str, Any] = {}
        self.runner = Extensions(
            str(folder),
            self.process,
            self._begin,
            self._call_later,
            list,
            self.marks,
            self.log,  # type: ignore[arg-type]
        )
        self.runner.active = self.process

    async def serve(self) -> None:
        """Starts without an extension: they are added later."""
        active, self.process.active = self.process.active, self.process.with_extensions([])
        await self.runner.start()
        self.process.active = active

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _call_later(self, delay: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        self.delays.append(delay)
        self._timers.append(call)
        return asyncio.get_running_loop().call_later(3600, lambda: None)

    async def settle(self) -> None:
        while self._tasks:
            await self._tasks.pop()

    async def add(self) -> None:
        if not self.is_serving:
            self.is_serving = True
            await self.serve()
        assert await self.runner.prepare(self.process.active, self.process.sources) == []
        self.runner.activate()
        await self.settle()

    async def add_again(self) -> None:
        """After another change of the file."""
        assert await self.runner.prepare(self.process.active, self.process.sources) == []
        self.runner.activate()
        await self.settle()

    async def elapse(self) -> None:
        self._timers.pop()()
        await self.settle()


def test_a_failed_start_is_repeated_ever_later(tmp_path: Path) -> None:
    async def run() -> None:
        started = Started(tmp_path, rejections=9)
        await started.add()
        for _ in range(9):
            await started.elapse()
        assert started.delays == [1, 2, 4, 8, 16, 32, LAST_RETRY, LAST_RETRY, LAST_RETRY]
        assert started.process.active.cluster_manager.clusters[0].hosts[0].address == "127.0.0.1:1"
        assert "extension 'Tried' runs" in started.log.lines
        await started.runner.stop()

    asyncio.run(run())


def test_secrets_are_hidden(tmp_path: Path) -> None:
    async def run() -> None:
        started = Started(tmp_path)
        await started.add()
        assert "s3cret-token" not in "\n".join(started.log.lines)
        assert [*started.marks.values()] == [frozenset({("config", "token")})]
        await started.runner.stop()

    asyncio.run(run())


def test_secrets_are_hidden_in_the_error_of_a_start(tmp_path: Path) -> None:
    async def run() -> None:
        code = CODE.replace("await plane", "raise ValueError('bad token ' + self.config.token)\n        await plane")
        started = Started(tmp_path, process=Process(tmp_path, 0, code))
        with pytest.raises(StartError) as raised:
            await started.runner.start()
        text = "\n".join([*raised.value.lines, *started.log.lines])
        assert "bad token" in text
        assert "s3cret-token" not in text
        await started.runner.stop()

    asyncio.run(run())


def test_what_was_abandoned_never_starts(tmp_path: Path) -> None:
    async def run() -> None:
        started = Started(tmp_path)
        await started.serve()
        started.is_serving = True
        assert await started.runner.prepare(started.process.active, started.process.sources) == []
        started.runner.abandon()
        started.runner.activate()
        await started.settle()
        assert started.process.attempts == 0
        await started.add()
        assert started.process.attempts == 1

    asyncio.run(run())


def test_the_same_settings_and_code_keep_the_object(tmp_path: Path) -> None:
    async def run() -> None:
        started = Started(tmp_path)
        await started.add()
        await started.add()
        assert started.process.attempts == 1

    asyncio.run(run())


def test_each_of_several_is_started_once(tmp_path: Path) -> None:
    async def run() -> None:
        process = many(tmp_path, "First", "Second")
        started = Started(tmp_path, process=process)
        process.runner = started.runner
        await started.runner.start()
        await started.settle()
        assert calls_of(process) == [("start", "First"), ("start", "Second")]
        assert {cluster.name for cluster in process.active.cluster_manager.clusters} == {"a", "First", "Second"}
        await started.runner.stop()
        assert calls_of(process)[2:] == [("stop", "First"), ("stop", "Second")]

    asyncio.run(run())


def test_one_that_was_removed_changes_nothing_any_more(tmp_path: Path) -> None:
    async def run() -> None:
        process = many(tmp_path, "First", "Second")
        started = Started(tmp_path, process=process)
        await started.runner.start()
        process.active = process.with_extensions([("Second", {})])
        await started.add_again()
        reason = "rejected; nothing changed: it was removed from the configuration"
        assert calls_of(process)[2:] == [("rejected", reason), ("stop", "First")]
        [cluster] = process.active.cluster_manager.clusters
        assert cluster.hosts == []
        await started.runner.stop()

    asyncio.run(run())


def test_several_that_fail_are_tried_again_together_and_not_by_changes_of_others(tmp_path: Path) -> None:
    async def run() -> None:
        process = many(tmp_path, "Failing", "First", "FailingToo")
        started = Started(tmp_path, process=process)
        process.runner = started.runner
        await started.add()
        tries = [("start", "Failing"), ("start", "First"), ("start", "FailingToo")]
        assert calls_of(process) == tries
        for _ in range(4):
            await started.elapse()
        assert started.delays == [1, 2, 4, 8, 16]
        assert calls_of(process)[3:] == [tries[0], tries[2]] * 4
        await started.runner.stop()

    asyncio.run(run())


def test_no_exception_of_a_background_task_ends_the_process(tmp_path: Path) -> None:
    async def run() -> None:
        process = many(tmp_path, "Exits")
        started = Started(tmp_path, process=process)
        await started.runner.start()
        await started.runner.stop()
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "RuntimeError"):
            assert f"extension 'Exits': background task failed: {name}: lost" in "\n".join(started.log.lines)

    asyncio.run(run())


def test_a_change_is_made_and_its_error_lost_if_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async def run(rejections: int) -> tuple[int, list[object]]:
        unhandled: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        process = many(tmp_path, "Leaves")
        process.rejections = rejections
        await Started(tmp_path, process=process).runner.start()
        await asyncio.sleep(0)
        gc.collect()
        return len(process.active.cluster_manager.clusters[0].hosts), unhandled

    assert asyncio.run(run(0)) == (1, [])
    assert asyncio.run(run(1)) == (0, [])


def test_a_module_that_finishes_too_late_is_never_activated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, done = threading.Event(), threading.Event()
    monkeypatch.setattr("pymosn.server.extensions.LOAD_TIME", 0.05)
    monkeypatch.setitem(sys.modules, "pymosn_late", SimpleNamespace(go=go, done=done))

    async def run() -> None:
        code = "import pymosn_late\npymosn_late.go.wait(10)\n" + CODE + "\npymosn_late.done.set()\n"
        process = Process(tmp_path, 0, code)
        started = Started(tmp_path, process=process)
        await started.serve()
        faults = await started.runner.prepare(process.active, process.sources)
        assert [fault.message for fault in faults] == ["the modules of extensions did not run within 0.05 s"]
        started.runner.abandon()
        go.set()
        assert await asyncio.to_thread(done.wait, 10)
        threads = [thread for thread in threading.enumerate() if thread.name == "blocking call"]
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)
        # The next change has no extension.
        assert await started.runner.prepare(process.with_extensions([]), process.sources) == []
        started.runner.activate()
        await started.settle()
        assert process.attempts == 0
        await started.runner.stop()

    asyncio.run(run())
