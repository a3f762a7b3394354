"""The runner of extensions, with a configuration that is not in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ChangeResult, Edit
from pymosn.core.log import Log
from pymosn.filters.sources import Sources, read_sources
from pymosn.server.extensions import LAST_RETRY, Extensions

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


class Lines(Log):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)


class Process:
    """A process that rejects the first `rejections` changes."""

    def __init__(self, folder: Path, rejections: int) -> None:
        path = folder / "code.py"
        path.write_text(CODE)
        text = """{"servers": [{}], "cluster_manager": {"clusters": [{"name": "a"}]}, "extends": [{"type": "python",
            "config": {"path": "code.py", "class": "Tried", "config": {"token": "s3cret-token"}}}]}"""
        loaded = load_text(text, "test", config_dir=str(folder))
        assert loaded.config is not None, loaded.errors
        self.active: MosnConfig = loaded.config
        self.sources: Sources = read_sources([path])
        self.rejections = rejections
        self.attempts = 0

    def config(self) -> dict[str, Any]:
        return {}

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        candidate = edit(self.active)
        self.attempts += 1
        applied = self.attempts > self.rejections
        if applied:
            assert candidate.config is not None
            self.active = candidate.config
        return ChangeResult(attempt=1, source=source, applied=applied, version=1, message="no", faults=[])


class Started:
    """The runner after a change that adds the extension; timers are called by `elapse`."""

    def __init__(self, folder: Path, rejections: int = 0) -> None:
        self.process = Process(folder, rejections)
        self.log = Lines()
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


def test_what_was_abandoned_never_starts(tmp_path: Path) -> None:
    async def run() -> None:
        started = Started(tmp_path)
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
