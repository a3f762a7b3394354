"""Each way in which a deployment replaces a filter is active within a second, and no request fails."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

import pytest
from live_edits import LIMIT, Versions, publish, relink, source, write_files
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, Upstream

from load_client import Load, bad, summary

pytestmark = pytest.mark.once

WORKERS = 2
CLIENTS = 8


class Way:
    """One way to deploy a filter into a folder. `path`: as configured, relative to the folder."""

    path = "filters/edited.py"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        self.deploy("1")

    def deploy(self, version: str) -> None:
        raise NotImplementedError


class ConfigMap(Way):
    def deploy(self, version: str) -> None:
        publish(self.folder / "filters", version, source(version))


class CurrentLink(Way):
    path = "current/filters/edited.py"

    def deploy(self, version: str) -> None:
        write_files(self.folder / "releases" / version / "filters", source(version))
        relink(self.folder / "current", f"releases/{version}")


class NewFolder(Way):
    """The old folder is renamed away, and the new one gets its name."""

    def deploy(self, version: str) -> None:
        write_files(self.folder / f"next{version}" / "filters", source(version))
        if (self.folder / "filters").exists():
            (self.folder / "filters").rename(self.folder / f"until{version}")
        (self.folder / f"next{version}" / "filters").rename(self.folder / "filters")


class NewFolderOfItsAncestor(Way):
    path = "app/conf/filters/edited.py"

    def deploy(self, version: str) -> None:
        write_files(self.folder / f"app{version}" / "conf" / "filters", source(version))
        if (self.folder / "app").exists():
            (self.folder / "app").rename(self.folder / f"until{version}")
        (self.folder / f"app{version}").rename(self.folder / "app")


class InPlace(Way):
    def deploy(self, version: str) -> None:
        write_files(self.folder / "filters", source(version))


class FilesBehindLinks(Way):
    def begin(self) -> None:
        super().begin()
        for name in source("1"):
            (self.folder / "filters").mkdir(exist_ok=True)
            (self.folder / "filters" / name).symlink_to(f"../shared/{name}")

    def deploy(self, version: str) -> None:
        write_files(self.folder / "shared.new", source(version))
        for name in source(version):
            (self.folder / "shared").mkdir(exist_ok=True)
            os.replace(self.folder / "shared.new" / name, self.folder / "shared" / name)


class Package(Way):
    """The helper is a package, which is replaced as a whole."""

    def deploy(self, version: str) -> None:
        files = source(version)
        write_files(self.folder / f"next{version}", {"__init__.py": "from helper.inner import *\n"})
        write_files(self.folder / f"next{version}" / "inner", {"__init__.py": files["helper.py"]})
        shutil.rmtree(self.folder / "filters" / "helper", ignore_errors=True)
        write_files(self.folder / "filters", {"edited.py": files["edited.py"]})
        (self.folder / f"next{version}").rename(self.folder / "filters" / "helper")


def started(start: Start, hops: TwoHops, path: str, **keys: object) -> Pymosn:
    entry = {"type": "python", "config": {"path": path, "class": "Edited"}}
    hops.server["listeners"][0]["stream_filters"] = [entry]
    hops.server.update(keys)
    proxy = start(hops.config, "--workers", str(WORKERS))
    proxy.wait_for(READY)
    return proxy


WAYS = [ConfigMap, CurrentLink, NewFolder, NewFolderOfItsAncestor, InPlace, FilesBehindLinks, Package]


@pytest.mark.parametrize("way", WAYS)
def test_active_within_a_second(start: Start, upstream: Upstream, tmp_path: Path, way: type[Way]) -> None:
    async def scenario() -> None:
        hops = TwoHops(upstream.port)
        deployment = way(tmp_path)
        deployment.begin()
        proxy = await asyncio.to_thread(started, start, hops, str(tmp_path / way.path))
        versions = Versions(hops.client_port, lambda: [proxy.process.pid, *proxy.worker_pids()], WORKERS)
        load = Load(hops.client_port, CLIENTS)
        await load.reaches(20)
        for version in ("2", "3", "4"):
            await versions.after(lambda version=version: deployment.deploy(version), version)
        await load.reaches(len(load.asked) + 20)
        load.stop()
        asked = await load.done()
        assert bad(asked) == [], summary(asked)
        assert max(versions.times) < LIMIT, versions.times

    asyncio.run(scenario())


def test_polling(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    """As for a file system that does not report the edits of others."""

    async def scenario() -> None:
        hops = TwoHops(upstream.port)
        deployment = ConfigMap(tmp_path)
        deployment.begin()
        proxy = await asyncio.to_thread(
            started, start, hops, str(tmp_path / "filters" / "edited.py"), watch_filters_interval="0.2s"
        )
        assert not any(link.endswith("inotify") for link in descriptors(proxy.process.pid))
        versions = Versions(hops.client_port, lambda: [proxy.process.pid, *proxy.worker_pids()], WORKERS)
        for version in ("2", "3"):
            await versions.after(lambda version=version: deployment.deploy(version), version)
        assert max(versions.times) < LIMIT, versions.times

    asyncio.run(scenario())


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(os.readlink(entry))
    return found
