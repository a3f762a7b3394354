"""Live edits of a filter: its source, the ways in which deployments replace it, and the wait until all workers have it."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from pymosn_process import PATIENCE, Stopwatch

from load_client import Client

#: Seconds in which an edit is active in all workers.
LIMIT = 1.0

FILTER = """
import os
from pymosn.api import Reply, StreamFilter
from helper import HELPED

class Edited(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/version":
            return Reply(200, f"{os.getpid()} VERSION {HELPED}")
"""


def source(version: str) -> dict[str, str]:
    """The files of a version of the filter."""
    return {"edited.py": FILTER.replace("VERSION", version), "helper.py": f"HELPED = {version!r}\n"}


def write_files(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def relink(link: Path, target: str) -> None:
    """Replaces a link in one step."""
    new = link.with_name(f"{link.name}_tmp")
    new.symlink_to(target)
    os.replace(new, link)


def publish(volume: Path, version: str, files: dict[str, str]) -> None:
    """Writes a ConfigMap as kubelet does: a new folder, the link `..data` to it in one step, and the old folder removed."""
    old = os.readlink(volume / "..data") if (volume / "..data").is_symlink() else ""
    write_files(volume / f"..2026_{version}", files)
    relink(volume / "..data", f"..2026_{version}")
    for name in files:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    if old:
        shutil.rmtree(volume / old)


class Versions:
    """Asks the workers which version of the filter they run."""

    def __init__(self, port: int, pids: Callable[[], list[int]], workers: int) -> None:
        """`pids`: of all processes, for the time that they waited for a core."""
        self._port = port
        self._pids = pids
        self._workers = workers
        #: Seconds that each edit took to be active in all workers: without waits for a core, and all in all.
        self.times: list[float] = []
        self.elapsed: list[float] = []

    async def after(self, edit: Callable[[], None], version: str) -> None:
        """Makes an edit, and waits until all workers run that version."""
        watch = Stopwatch(self._pids())
        began = time.monotonic()
        edit()
        await self.active(version)
        self.times.append(watch.seconds())
        self.elapsed.append(time.monotonic() - began)

    async def active(self, version: str) -> None:
        """Waits until all workers run that version."""
        seen: dict[str, str] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while list(seen.values()) != [f"{version} {version}"] * self._workers:
                    pid, _, answer = (await self._ask()).partition(" ")
                    seen[pid] = answer
        except TimeoutError:
            raise AssertionError(f"expected version {version} in {self._workers} workers, got {seen}") from None

    async def _ask(self) -> str:
        """Of one worker, by a connection of its own."""
        answer = bytearray()

        async def keep(piece: bytes) -> None:
            answer.extend(piece)

        client = Client(self._port)
        asked = await client.send("/version", [b"GET /version HTTP/1.1\r\nhost: test\r\n\r\n"], keep)
        await client.close()
        assert asked.is_good, asked
        return answer.decode()
