"""What the admin API asks of the process. The supervisor implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec

from pymosn.config.diagnostics import Diagnostic, Places
from pymosn.config.schema import MosnConfig
from pymosn.core.counters import GroupData


class WorkerInfo(TypedDict):
    """One worker: `state` in one word, `started` in seconds since 1970."""

    pid: int
    state: str
    started: float


class Candidate(msgspec.Struct, frozen=True):
    """A configuration that is to come in force; None when the faults, which may be warnings only, forbid it.

    `places`: where its values stand, for faults that are found later.
    """

    config: MosnConfig | None
    faults: list[Diagnostic]
    places: Places = {}


#: Makes the next configuration of the one in force.
Edit = Callable[[MosnConfig], Candidate]


class ChangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change. `attempt` counts changes, `version` those that were applied, from 1 for the start.

    `source`: who asked for it. When it was not `applied` nothing has changed anywhere.
    """

    attempt: int
    source: str
    applied: bool
    version: int
    message: str
    faults: list[Diagnostic]


class HostView(TypedDict):
    """One host: its counters are sums over the workers.

    `health`: `unchecked` (nobody checks it), `healthy`, `failed_active_check`, or `ejected` when any worker leaves it out
    for what became of its requests. `failed_active_check`, `ejected`: how many workers leave it out for that.
    """

    address: str
    hostname: str
    weight: int
    health: str
    failed_active_check: int
    ejected: int
    requests_active: int
    requests_total: int
    connections_active: int


def health_text(host: HostView, workers: int) -> str:
    """`healthy`, or `ejected by 1 of 2 workers`."""
    if not host["ejected"]:
        return host["health"]
    ejected = f"ejected by {host['ejected']} of {workers} worker{'s' if workers > 1 else ''}"
    return f"{host['health']}, {ejected}" if host["health"] != "ejected" else ejected


class ClusterView(TypedDict):
    """One cluster as it is now, in all of the `workers`."""

    name: str
    workers: int
    type: str
    lb_type: str
    hosts: list[HostView]


class BlockView(TypedDict):
    """A filter's last standstill: it held up the loop of a worker for `seconds`; `stack`: the innermost call first."""

    seconds: float
    stack: list[str]


class FilterView(TypedDict):
    """A stream filter with its counters, summed over the workers. Filters of one name share them.

    `mean_us`: of the calls that were timed, one in 64, and of all that waited; None before there is one.
    """

    name: str
    listener: str
    type: str
    source: str
    on_error: str
    counters: dict[str, int]
    mean_us: float | None
    last_block: BlockView | None


class AllocationView(TypedDict):
    """What was allocated in a line of a filter's file while it was traced, and is still there."""

    line: str
    bytes: int
    blocks: int


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
    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        """Changes the configuration: in every worker, or nowhere."""

    @abstractmethod
    async def reload_filters(self, source: str) -> ChangeResult:
        """Makes the Python filters anew whose files have changed."""

    @abstractmethod
    def last_change(self) -> ChangeResult:
        """What became of the last change."""

    @abstractmethod
    async def live_clusters(self) -> list[ClusterView]:
        """The clusters with their hosts as they are now."""

    @abstractmethod
    async def filters(self) -> list[FilterView]:
        """The stream filters in force."""

    @abstractmethod
    async def trace_allocations(self, seconds: float) -> list[AllocationView]:
        """Traces for `seconds` what filters allocate and keep, in all workers."""

    @abstractmethod
    def current(self) -> MosnConfig:
        """The configuration in force with the addresses that were looked up, secrets and all: not to be shown."""

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
