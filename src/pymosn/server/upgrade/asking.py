"""The admin API's side of an upgrade: begins one, and passes its progress on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from pymosn.server.upgrade.generations import Generations
from pymosn.server.upgrade.predecessor import Upgrade
from pymosn.server.upgrade.request import UpgradeRequest


class Upgrades:
    """Begins upgrades in tasks of their own: an upgrade does not end with the call that began it."""

    def __init__(
        self, upgrade: Upgrade, generations: Generations, begin: Callable[[Coroutine[Any, Any, object]], None]
    ) -> None:
        self._upgrade = upgrade
        self._generations = generations
        self._begin = begin

    @property
    def number(self) -> int:
        """The number of this generation, from 1."""
        return self._generations.number

    def view(self) -> dict[str, Any]:
        """See `Generations.view`."""
        return self._generations.view()

    async def run(self, request: UpgradeRequest) -> AsyncIterator[dict[str, Any]]:
        """`{"progress": text}` meanwhile, and at last `{"done": bool, "lines": [...], ...}`."""
        news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._begin(self._run(request, news))
        while True:
            item = await news.get()
            yield item
            if "done" in item:
                return

    async def _run(self, request: UpgradeRequest, news: asyncio.Queue[dict[str, Any]]) -> None:
        last: dict[str, Any] = {"done": False, "lines": ["the upgrade failed; see the process log"], "pid": 0}
        try:
            last = (await self._upgrade.run(request, lambda text: news.put_nowait({"progress": text})))._asdict()
        finally:
            news.put_nowait(last)
