"""The hosts of a cluster from a file: one `HOST:PORT` on each line; `#` begins a comment."""

import asyncio
from pathlib import Path

import msgspec

from pymosn.api import ChangeRejected, Extension, Plane, SetHosts


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`file`: relative to this one. `interval`: seconds between two checks of it."""

    file: str
    cluster: str
    interval: float = 5.0


def read_hosts(path: Path) -> list[str]:
    """The addresses in a file."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


class HostsFile(Extension):
    """Sets the hosts of a cluster whenever the file has other ones; an invalid file changes nothing."""

    Config = Settings

    async def start(self, plane: Plane) -> None:
        self._plane = plane
        self._last: list[str] | None = None
        await self._update()
        plane.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.config.interval)
            try:
                await self._update()
            except (OSError, ValueError, ChangeRejected) as error:
                self._plane.write(f"the hosts stay as they are: {error}")

    async def _update(self) -> None:
        """Sets the hosts if the file has changed, so that an invalid one is reported once."""
        path = Path(__file__).parent / self.config.file
        hosts = await asyncio.to_thread(read_hosts, path)
        if hosts != self._last:
            self._last = hosts
            await self._plane.apply(SetHosts(self.config.cluster, hosts))
