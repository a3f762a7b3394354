"""What the admin API asks of the process. The supervisor implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypedDict

from pymosn.core.counters import GroupData


class WorkerInfo(TypedDict):
    """One worker: `state` in one word, `started` in seconds since 1970."""

    pid: int
    state: str
    started: float


class ControlPlane(ABC):
    """Asynchronous where workers must be asked. Configurations are in MOSN's keys, with the secrets taken out."""

    @abstractmethod
    def state(self) -> int:
        """The stage of the process by MOSN's numbers: 6 is running, 8 is draining."""

    @abstractmethod
    def pid(self) -> int:
        """The supervisor's process id."""

    @abstractmethod
    def version(self) -> str:
        """pymosn's version."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The configuration in force."""

    @abstractmethod
    def listeners(self) -> dict[str, Any]:
        """The listeners in force by name."""

    @abstractmethod
    def clusters(self) -> dict[str, Any]:
        """The clusters in force by name."""

    @abstractmethod
    def routers(self) -> dict[str, Any]:
        """The router tables in force by name."""

    @abstractmethod
    async def stats(self) -> list[GroupData]:
        """The metrics of all workers, added up or one worker's behind the other's."""

    @abstractmethod
    def log_levels(self) -> dict[str, str]:
        """The level of each log that has one, by path."""

    @abstractmethod
    async def set_log_level(self, path: str, level: str) -> None:
        """Changes a level in every process. KeyError for an unknown path, ValueError for a bad level."""

    @abstractmethod
    async def switch_log(self, path: str, enabled: bool) -> None:
        """Switches a log on or off in every process. KeyError for an unknown path."""

    @abstractmethod
    def features(self) -> dict[str, bool]:
        """The feature gates."""

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """The workers alive."""
