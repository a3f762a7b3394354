"""The service: which filters it watches, and until when."""

import asyncio
import errno
import os
import threading
from collections.abc import Collection
from pathlib import Path

import pytest
from tests.kit import Lines

from pymosn.config.schema import Listener, MosnConfig, Server
from pymosn.config.schema.http_chain import StreamFilter
from pymosn.server.filter_watch import FilterWatch
from pymosn.server.inotify import Inotify
from pymosn.server.source_watch import Contents

PATIENCE = 20.0


class Refused(Inotify):
    def __init__(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


class Service:
    """The service with a folder of filters; `edits` are the texts of `on_change`."""

    def __init__(self, folder: Path) -> None:
        self.edits: asyncio.Queue[str] = asyncio.Queue()
        self.log = Lines()
        self.folder = folder
        self.paths: list[set[str]] = []
        self.loaded: Contents = {}
        self.inotify: type[Inotify] = Inotify
        self.watch = FilterWatch(
            str(folder), self._read, lambda: self.loaded, self._on_change, self.log, lambda: self.inotify()
        )

    def _read(self, paths: Collection[str]) -> Contents:
        self.paths.append(set(paths))
        return {folder: self._files(Path(folder)) for folder in {os.path.dirname(path) for path in paths}}

    def _files(self, folder: Path) -> dict[str, str]:
        return {file.name: file.read_text() for file in folder.glob("*.py")}

    def _on_change(self, text: str) -> None:
        self.loaded = {folder: self._files(Path(folder)) for folder in (str(self.folder), str(self.folder / "other"))}
        self.edits.put_nowait(text)

    def follow(self, *paths: str, watch_filters: bool = True, interval: float = 0.0) -> None:
        filters = [StreamFilter(type="python", config={"path": path, "class": "Edited"}) for path in paths]
        filters.append(StreamFilter(type="gzip", config={}))
        server = Server(
            listeners=[Listener(stream_filters=filters)], watch_filters=watch_filters, watch_filters_interval=interval
        )
        self.watch.follow(MosnConfig(servers=[server]))

    async def edit(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.edits.get()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "filter watch"]


def ended(watching: list[threading.Thread]) -> bool:
    for thread in watching:
        thread.join(PATIENCE)
    return not any(thread.is_alive() for thread in watching)


def test_follows_the_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        (tmp_path / "one.py").write_text("1")
        (tmp_path / "other").mkdir()
        service.follow("one.py")
        assert await service.edit() == "edit of one.py"
        first = threads()
        assert len(first) == 1
        service.follow("one.py")
        assert threads() == first
        (tmp_path / "one.py").write_text("2")
        (tmp_path / "two.py").write_text("2")
        assert await service.edit() == "edit of one.py, two.py"
        service.follow("one.py", "other/three.py")
        assert ended(first)
        (tmp_path / "other" / "three.py").write_text("3")
        assert await service.edit() == "edit of three.py"
        assert service.paths[-1] == {str(tmp_path / "one.py"), str(tmp_path / "other" / "three.py")}
        second = threads()
        service.follow("one.py", "other/three.py", interval=0.02)
        assert ended(second)
        (tmp_path / "one.py").write_text("4")
        assert await service.edit() == "edit of one.py"
        third = threads()
        service.follow("one.py", watch_filters=False)
        assert ended(third)
        assert threads() == []
        await service.watch.stop()

    asyncio.run(scenario())


def test_says_what_the_system_refuses(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        service.inotify = Refused
        (tmp_path / "one.py").write_text("1")
        service.follow("one.py")
        assert await service.edit() == "edit of one.py"
        watching = threads()
        await service.watch.stop()
        assert ended(watching)

        assert ["Too many open files" in line for line in service.log.lines] == [True]

    asyncio.run(scenario())


@pytest.mark.parametrize("interval", [0.0, 0.02])
def test_nothing_is_reported_after_the_stop(tmp_path: Path, interval: float) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        (tmp_path / "one.py").write_text("1")
        service.follow("one.py", interval=interval)
        watching = threads()
        await service.watch.stop()
        assert ended(watching)
        await asyncio.sleep(0)
        assert service.edits.empty()

    asyncio.run(scenario())
