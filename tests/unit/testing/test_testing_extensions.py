"""Extensions of the process in tests without one: the kit, and the example, which is tested with it."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from pymosn.api import ChangeRejected, Extension, Plane, Put, SetHosts
from pymosn.config.dump import dump
from pymosn.config.load import load_file
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.modules import ModuleStore
from pymosn.filters.sources import read_sources
from pymosn.testing import ExtensionWorld, InvalidTest

EXAMPLE = Path(__file__).parents[3] / "examples" / "extensions" / "hosts_file.py"
CONFIG = {"servers": [{}], "cluster_manager": {"clusters": [{"name": "backend"}]}}


def example() -> Any:
    sources = read_sources([EXAMPLE])
    return ModuleStore().draft(sources.folders).load(EXAMPLE)


def test_the_example_sets_the_hosts_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "hosts.txt"
    file.write_text("127.0.0.1:1  # the first\n\n127.0.0.1:2\n")

    async def run() -> None:
        settings = {"file": str(file), "cluster": "backend", "interval": 0.001}
        async with ExtensionWorld(example().HostsFile, settings, CONFIG) as world:
            assert world.hosts("backend") == ["127.0.0.1:1", "127.0.0.1:2"]
            file.write_text("127.0.0.1:3\n")
            await world.until(lambda: world.hosts("backend") == ["127.0.0.1:3"])
            file.write_text("nowhere\n")
            await world.until(lambda: bool(world.lines))
            assert "missing port" in world.lines[0]
            assert world.hosts("backend") == ["127.0.0.1:3"]
            file.unlink()
            await world.until(lambda: len(world.lines) > 1)
            assert len(world.changes) == 2

    asyncio.run(run())


def test_the_shipped_files_of_the_example_fit_together() -> None:
    loaded = load_file(str(EXAMPLE.with_name("config.yaml")))
    assert loaded.config is not None
    assert loaded.errors == []
    settings = loaded.config.extends[0].config["config"]

    async def run() -> None:
        async with ExtensionWorld(example().HostsFile, settings, dump(loaded.config)) as world:
            assert world.hosts("backend") == ["127.0.0.1:8080"]

    asyncio.run(run())


def test_invalid_settings_are_found_before_the_start() -> None:
    with pytest.raises(FilterConfigError, match="intervall"):
        ExtensionWorld(example().HostsFile, {"file": "x", "cluster": "c", "intervall": 1})


class Own(Extension):
    async def start(self, plane: Plane) -> None:
        await plane.apply(Put("cluster", {"name": "own", "hosts": [{"address": "127.0.0.1:1"}]}))
        plane.write("started")

    async def stop(self) -> None:
        self.config["stopped"].set()


def test_the_world_is_the_plane() -> None:
    stopped = threading.Event()

    async def run() -> None:
        world = ExtensionWorld(Own, {"stopped": stopped})
        async with world:
            assert world.config()["cluster_manager"]["clusters"][0]["name"] == "own"
            assert world.lines == ["started"]
            with pytest.raises(ChangeRejected, match="there is no cluster 'other'") as rejected:
                await world.apply(SetHosts("own", []), SetHosts("other", []))
            assert len(rejected.value.faults) == 1
            assert world.hosts("own") == ["127.0.0.1:1"]

    asyncio.run(run())
    assert stopped.is_set()


def test_a_failed_task_fails_the_test() -> None:
    class Failing(Extension):
        async def start(self, plane: Plane) -> None:
            plane.create_task(self._fail())

        async def _fail(self) -> None:
            raise RuntimeError("lost")

    async def run() -> None:
        async with ExtensionWorld(Failing) as world:
            await world.until(lambda: False)  # does not wait for something that will not happen

    with pytest.raises(RuntimeError, match="lost"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "config"), [(Plane, None), (Own(None), None), (Own, {"servers": []}), (Own, {"servers": 1})]
)
def test_mistakes_of_tests_are_named(kind: Any, config: Any) -> None:
    with pytest.raises(InvalidTest):
        ExtensionWorld(kind, {}, config)
