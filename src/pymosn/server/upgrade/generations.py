"""What `/api/v1/upgrade` shows: the generations of this process that are alive, and the last upgrade that failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from pymosn.server.upgrade.inheritance import Inheritance
from pymosn.server.upgrade.messages import VERSION as MESSAGES
from pymosn.server.upgrade.messages import Estate
from pymosn.server.upgrade.predecessor import LEFT, Upgrade
from pymosn.server.upgrade.request import UpgradeRequest
from pymosn.server.upgrade.successor import Takeover
from pymosn.version import VERSION


class Generations:
    """The number of this generation, and what is known of its predecessor and successor."""

    def __init__(self, inheritance: Inheritance | None, workers: Callable[[], int]) -> None:
        #: 1 for a process that was not started by an upgrade.
        self.number: Final = 1 if inheritance is None else inheritance.estate.generation
        #: The process that the outside knows.
        self.main_pid: Final = os.getpid() if inheritance is None else inheritance.estate.main_pid
        self.upgrade: Upgrade | None = None
        self.takeover: Takeover | None = None
        self._workers = workers
        self._started = time.time()

    def estate(self, request: UpgradeRequest) -> Estate:
        """The first message to a successor."""
        return Estate(
            version=MESSAGES,
            program=VERSION,
            generation=self.number + 1,
            main_pid=self.main_pid,
            keeps_config=request.keeps_config,
            pid=os.getpid(),
            started=self._started,
            workers=self._workers(),
        )

    def view(self) -> dict[str, Any]:
        """`generations`, the oldest first; `last_failure`: why the last upgrade failed, empty if none did."""
        own = {
            "generation": self.number,
            "pid": os.getpid(),
            "state": self._state(),
            "started": round(self._started, 3),
            "workers": self._workers(),
            "version": VERSION,
        }
        upgrade = self.upgrade
        return {
            "main_pid": self.main_pid,
            "state": "idle" if upgrade is None else upgrade.state,
            "generations": [*self._older(), own, *self._successor()],
            "last_failure": [] if upgrade is None else upgrade.last_failure,
        }

    def _state(self) -> str:
        if self.upgrade is not None and self.upgrade.state == LEFT:
            return "leaving"
        return "starting" if self.takeover is not None and not self.takeover.has_taken else "serving"

    def _older(self) -> list[dict[str, Any]]:
        if self.takeover is None:
            return []
        state = "leaving" if self.takeover.has_taken else "serving"
        return [
            {
                "generation": each.generation,
                "pid": each.pid,
                "state": state,
                "started": round(each.started, 3),
                "workers": each.workers,
                "version": each.program,
                "connections": each.connections,
                "seconds_left": round(each.seconds, 1),
            }
            for each in self.takeover.older()
        ]

    def _successor(self) -> list[dict[str, Any]]:
        upgrade = self.upgrade
        if upgrade is None or upgrade.successor is None:
            return []
        return [
            {
                "generation": self.number + 1,
                "pid": upgrade.successor.pid,
                "state": "serving" if upgrade.state == LEFT else upgrade.state,
                "version": "" if upgrade.ready is None else upgrade.ready.program,
            }
        ]
