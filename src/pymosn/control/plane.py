"""The admin API's view of the process, implemented by the supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final, Protocol, TypedDict

import msgspec

from pymosn.config.diagnostics import Diagnostic, Places
from pymosn.config.dump import dump
from pymosn.config.schema import MosnConfig
from pymosn.control.certificates import CertificateView
from pymosn.control.envoy.facts import Facts
from pymosn.control.origins import Origins
from pymosn.core.counters import GroupData
from pymosn.filters.settings import Block
from pymosn.observe.families import Fact
from pymosn.observe.profile import Profile, Stack
from pymosn.observe.tap_options import TapOptions

# The stages of a process, with MOSN's numbers (key reference section 15).
STARTING: Final = 4
RUNNING: Final = 6
GRACEFUL_STOPPING: Final = 8
STOPPING: Final = 9

#: Seconds that an upgrade may take, at most.
LONGEST_UPGRADE: Final = 3600.0


#: The path of MOSN's start logger, which writes to standard error until the process log is open.
START_LOG: Final = ""


class WorkerInfo(TypedDict):
    """One worker: `state` is starting, running or draining, `started` in seconds since 1970."""

    pid: int
    state: str
    started: float


class Candidate(msgspec.Struct, frozen=True):
    """A configuration to be activated; None if one of the faults is an error.

    `places`: the position of each value in its source, for faults that are found later. `is_trusted`: whether the change is
    the operator's own, from the configuration file. Any other may only name files in certain folders: `config/check/paths`.
    """

    config: MosnConfig | None
    faults: list[Diagnostic]
    places: Places = {}
    is_trusted: bool = False


#: Makes a candidate of the active configuration.
Edit = Callable[[MosnConfig], Candidate]


class ChangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a change. `attempt` counts all changes; `version` counts applied ones and is 1 after the start.

    `source`: the requester. Unless it was `applied`, nothing has changed anywhere.
    """

    attempt: int
    source: str
    applied: bool
    version: int
    message: str
    faults: list[Diagnostic]


class UpgradeOptions(msgspec.Struct, kw_only=True):
    """How another process takes over. `keep_config`: with the active configuration instead of the file.

    None: as with the key `inherit_old_mosnconfig`. `timeout`: seconds. `command`: the words of another program.
    """

    keep_config: bool | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_UPGRADE)] = 60.0
    command: list[str] = []
    workers: Annotated[int, msgspec.Meta(ge=1)] | None = None


class HostView(TypedDict):
    """One host; its counters are sums over all workers.

    `health`: `unchecked` (no active checks), `healthy`, `failed_active_check`, or `ejected` if at least one worker ejected
    it because of failed requests. `failed_active_check`, `ejected`: number of workers that exclude it for that reason.
    """

    address: str
    hostname: str
    weight: int
    health: str
    failed_active_check: int
    ejected: int
    #: Why it is not used, as far as it is known; empty if it is used.
    why: str
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
    """The current state of one cluster in all workers; `workers` is their number."""

    name: str
    workers: int
    type: str
    lb_type: str
    hosts: list[HostView]


class BlockView(TypedDict):
    """The last time a filter blocked the event loop of a worker, for `seconds`; `stack`: innermost call first."""

    seconds: float
    stack: list[str]


class FaultView(TypedDict):
    """The last error of a filter. `time`: seconds since 1970; `stack`: innermost call first, empty without a traceback."""

    time: float
    worker: int
    phase: str
    message: str
    stack: list[str]


class FilterUse(TypedDict):
    """An entry of the configuration; `path`: within that of the listener."""

    listener: str
    path: str
    source: str
    on_error: str


class FilterView(TypedDict):
    """A stream or connection filter, summed over the workers and over all entries with its name, which share counters.

    `sampled` calls were timed: one in 61, and all that waited; the durations are None before the first. `p99_seconds` is
    estimated from a histogram whose buckets double in width.
    """

    name: str
    type: str
    listeners: list[str]
    calls: int
    errors: int
    mean_seconds: float | None
    p99_seconds: float | None
    sampled: int
    last_error: FaultView | None
    last_block: BlockView | None
    counters: dict[str, int]
    entries: list[FilterUse]


class HandshakeView(TypedDict):
    """A connection that was refused before or in its handshake. `time`: seconds since 1970; `client`: its IP address.

    `reason`: the word of the failure, as in logs and counters.
    """

    time: float
    client: str
    reason: str
    detail: str


class AllocationView(TypedDict):
    """Memory allocated by one line of a filter's file during a trace and still in use."""

    line: str
    bytes: int
    blocks: int


#: The process of the control plane as the target of a profile; workers have ids from 1.
SUPERVISOR: Final = 0


class ProfileError(Exception):
    """A profile cannot be made; `status`: of the response."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ExchangesView(TypedDict):
    """The failed exchanges of all workers, the newest first, and the slowest: `Story.shown` with `worker`, its number.

    `missed`: exchanges that were not kept because there were too many.
    """

    failed: list[dict[str, Any]]
    slow: list[dict[str, Any]]
    missed: int


class TooManyTaps(Exception):
    """No further tap can be started; the text is the reason."""


class ControlPlane(Protocol):
    """Methods that query workers are asynchronous. Configurations have MOSN's keys, and their secrets are removed."""

    def state(self) -> int:
        """The stage of the process as MOSN's number: 6 is running, 8 is draining."""

    def pid(self) -> int:
        """The supervisor's process id."""

    def version(self) -> str:
        """pymosn's version."""

    def config(self) -> dict[str, Any]:
        """The active configuration without listeners, clusters, router tables and extensions, as MOSN shows it."""

    def extends(self) -> list[dict[str, Any]]:
        """The extensions of the active configuration."""
        return []

    def listeners(self) -> dict[str, Any]:
        """The active listeners by name."""

    def clusters(self) -> dict[str, Any]:
        """The active clusters by name."""

    def routers(self) -> dict[str, Any]:
        """The active router tables by name."""

    def config_path(self) -> str | None:
        """The absolute path of the configuration file; None for the built-in example."""

    async def reload(self, source: str) -> ChangeResult:
        """Reads the configuration file again and activates it."""

    def stop(self, now: bool) -> None:
        """Requests the end of the process: after a drain, or with `now` immediately."""

    def shown(self, block: Block) -> dict[str, Any]:
        """A part of the active configuration as JSON-like values, without its secrets."""
        return dump(block)

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        """Changes the configuration in every worker, or nowhere."""

    async def reload_filters(self, source: str) -> ChangeResult:
        """Reloads the Python filters whose files have changed."""

    def last_change(self) -> ChangeResult:
        """The result of the last change."""

    async def live_clusters(self) -> list[ClusterView]:
        """The clusters with the current state of their hosts."""

    def cluster_views(self, groups: list[GroupData]) -> list[ClusterView]:
        """The clusters with the state that these metrics have. To be called in a thread: there may be many hosts."""
        return []

    async def filters(self) -> list[FilterView]:
        """The active stream and connection filters."""

    async def trace_allocations(self, seconds: float) -> list[AllocationView]:
        """Traces for `seconds` the memory that filters allocate and keep, in all workers."""

    async def cpu_profile(self, target: int, seconds: float) -> Profile:
        """Where a process uses CPU within `seconds`. `target`: id of a worker, or SUPERVISOR. Raises ProfileError."""
        raise NotImplementedError

    async def heap_profile(self, target: int, seconds: float) -> Profile:
        """The memory that a process allocates within `seconds` and keeps. Raises ProfileError."""
        raise NotImplementedError

    async def stacks(self, target: int) -> list[tuple[str, Stack]]:
        """The threads and tasks of a process by name, with their stacks. Raises ProfileError."""
        raise NotImplementedError

    async def exchanges(self, limit: int) -> ExchangesView:
        """The stories of recent exchanges, at most `limit` of each kind."""
        return {"failed": [], "slow": [], "missed": 0}

    def tap(self, options: TapOptions) -> AsyncIterator[bytes]:
        """Starts a tap, which ends when its reader does: lines of JSON. Raises TooManyTaps."""
        raise NotImplementedError

    def failed_handshakes(self, listener: str) -> list[HandshakeView]:
        """The last failed handshakes of a listener, the newest first."""
        return []

    def origins(self) -> Origins:
        """Where the parts of the active configuration come from."""
        return Origins({}, "")

    def current(self) -> MosnConfig:
        """The active configuration with resolved addresses. It contains secrets and must not be shown."""

    async def stats(self) -> list[GroupData]:
        """The metrics of all workers, summed or concatenated."""

    async def metric_facts(self) -> list[Fact]:
        """What `/metrics` has besides counters: the process, its workers, the configuration and certificates."""
        return []

    async def certificates(self) -> list[CertificateView]:
        """The certificates of all TLS contexts, those that expire first at the beginning."""

    def log_levels(self) -> dict[str, str]:
        """The levels of the logs that have one, by path, and of START_LOG."""

    async def set_log_level(self, path: str, level: str) -> None:
        """Changes a level in every process. KeyError for an unknown path, ValueError for an invalid level."""

    async def switch_log(self, path: str, enabled: bool) -> None:
        """Enables or disables a log in every process. KeyError for an unknown path."""

    def features(self) -> dict[str, bool]:
        """The feature gates."""

    def xds(self) -> dict[str, Any]:
        """What xDS adds and what it waits for; `mode` is `file` without xDS."""
        return {"mode": "file"}

    def xds_resource(self, name: str) -> list[dict[str, Any]]:
        """The resources of control planes that have a name: their versions and states, and who uses them."""
        return []

    def workers(self) -> list[WorkerInfo]:
        """The live workers."""

    def generations(self) -> dict[str, Any]:
        """The generations of this process that are alive: see `server/upgrade/generations.py`."""
        return {}

    def upgrade(self, source: str, options: UpgradeOptions) -> AsyncIterator[dict[str, Any]]:
        """Makes another process take over; gives its progress, and at last the result."""
        raise NotImplementedError

    # ---- what Envoy's views need

    def started(self) -> float:
        """When the process started, in seconds since 1970."""

    def bootstrap(self) -> dict[str, Any]:
        """The sections of xDS as Envoy's bootstrap. It contains secrets and must not be shown."""
        config = self.current()
        sections = {key: getattr(config, key) for key in ("node", "static_resources", "dynamic_resources")}
        found = {key: value for key, value in sections.items() if isinstance(value, dict)}
        endpoint = None if config.admin is None else config.admin.endpoint()
        if endpoint is not None:
            found["admin"] = {"address": {"socket_address": {"address": endpoint[0], "port_value": endpoint[1]}}}
        return found

    def facts(self, with_resources: bool = True) -> Facts:
        """What was received by xDS; without the resources it costs little."""
        return Facts()

    def is_draining(self) -> bool:
        """Whether clients are asked to go to another server."""
        return False

    def drain_listeners(self, inbound_only: bool, is_graceful: bool, stays: bool) -> None:
        """Drains the listeners; only those of type `ingress` with `inbound_only`.

        Graceful: all connections are asked to finish, new ones are served once, for `graceful_timeout`; then, unless
        `stays`, the listeners are closed. Otherwise they are closed at once, and their connections asked to finish.
        """

    def set_failing(self, is_failing: bool) -> None:
        """Fails readiness and asks all clients to go, or no longer."""
