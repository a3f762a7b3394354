"""`on_reopen` of filters: every one that runs is called, whatever another one raises; also replaced and new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pymosn.assembly.packer import pack
from pymosn.assembly.prepared import PreparedConfig
from pymosn.assembly.steps import run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import MosnConfig
from pymosn.filters.sources import read_sources
from pymosn.observe.logs import LogSet

FILTERS = """
import asyncio
from pymosn.api import StreamFilter

class Notes(StreamFilter):
    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def note(self, what):
        with open(self.config["notes"], "a") as file:
            file.write(f"{self.config['name']} {what}\\n")

    async def start(self):
        self.note("starts")
        if self.config.get("slow"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.note("started")

    def on_reopen(self):
        self.note("reopens")
        exec(self.config.get("does", ""))

class Plain(StreamFilter):
    pass
"""


class Runtime:
    """A worker's runtime with filters that note what is called, in one file."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        (folder / "filters.py").write_text(FILTERS)
        self._folder = folder
        self.runtime = WorkerRuntime(1, 0, asyncio.get_running_loop(), LogSet(str(folder / "log")))

    def built(self, *filters: dict[str, Any]) -> PreparedConfig:
        entries = [
            {"type": "python", "config": {"path": "filters.py", "class": "Notes", "notes": str(self.notes), **each}}
            for each in filters
        ]
        entries.append({"type": "python", "config": {"path": "filters.py", "class": "Plain"}})
        chain = {"filters": [{"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}]}
        listener = {"name": "l", "address": "127.0.0.1:1", "stream_filters": entries, "filter_chains": [chain]}
        servers = [{"listeners": [listener], "routers": [{"router_config_name": "r"}]}]
        config = pack(msgspec.convert({"servers": servers}, MosnConfig), read_sources([self._folder / "filters.py"]))
        return run_whole(self.runtime.prepare(config, str(self._folder), str(self._folder)))

    async def live(self, *filters: dict[str, Any]) -> PreparedConfig:
        made = self.built(*filters)
        await made.start_filters()
        self.runtime.activate(made)
        return made

    def reopen(self) -> list[str]:
        """What the filters note meanwhile."""
        before = len(self.notes.read_text())
        self.runtime.reopen_logs()
        return self.notes.read_text()[before:].splitlines()

    @property
    def log(self) -> str:
        self.runtime.logs.flush()
        return (self._folder / "log").read_text()


async def each_filter(world: Runtime) -> None:
    await world.live({"name": "a"}, {"name": "b"})
    assert world.reopen() == ["a reopens", "b reopens"]
    await world.live({"name": "a"}, {"name": "c"})
    assert sorted(world.reopen()) == ["a reopens", "b reopens", "c reopens"], "an exchange may still use `b`"
    await world.runtime.retired.stop_filters()
    assert sorted(world.reopen()) == ["a reopens", "c reopens"]


async def a_prepared_filter(world: Runtime) -> None:
    """It has opened its file in `start`, and may become active later."""
    await world.live({"name": "a"})
    made = world.built({"name": "b"})
    await made.start_filters()
    assert world.reopen() == ["a reopens", "b reopens"]
    await made.stop_filters()
    run_whole(world.runtime.discard(made))
    assert world.reopen() == ["a reopens"]


async def a_filter_that_is_starting(world: Runtime) -> None:
    made = world.built({"name": "s", "slow": 1})
    starting = asyncio.create_task(made.start_filters())
    while "starts" not in world.notes.read_text():
        await asyncio.sleep(0)
    assert world.reopen() == []
    await starting
    assert world.notes.read_text().splitlines() == ["s starts", "s started", "s reopens"]
    world.runtime.activate(made)
    assert world.reopen() == ["s reopens"]


def run(folder: Path, scenario: Callable[[Runtime], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario(Runtime(folder))

    asyncio.run(whole())


@pytest.mark.parametrize("scenario", [each_filter, a_prepared_filter, a_filter_that_is_starting])
def test_each_filter_that_runs_is_called_once(tmp_path: Path, scenario: Callable[[Runtime], Awaitable[None]]) -> None:
    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "error",
    [
        "raise ValueError('no disk')",
        "import sys; sys.exit(3)",
        "raise KeyboardInterrupt",
        "raise BaseException('panic')",
        "raise asyncio.CancelledError",
        "raise StopIteration",
    ],
)
def test_an_error_affects_neither_the_other_filters_nor_the_worker(tmp_path: Path, error: str) -> None:
    async def scenario(world: Runtime) -> None:
        await world.live({"name": "a", "does": error}, {"name": "b"})
        assert world.reopen() == ["a reopens", "b reopens"]
        assert "`on_reopen` failed" in world.log
        assert world.runtime.metrics.group("filter", ("filter", "Notes")).counter("errors").value == 1

    run(tmp_path, scenario)
