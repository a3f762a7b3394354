"""Change at run time. A change goes one way, whoever sends it: checked, bound, built by every worker, in force in all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pymosn.assembly.packed_config import encode, encode_cluster
from pymosn.config.diagnostics import Diagnostic, Places, Severity
from pymosn.config.schema import MosnConfig
from pymosn.control.discovery import Discovery
from pymosn.control.plane import Candidate, ChangeResult, Edit
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.messages import Command, Configure, Prepare, Retire, SetHosts
from pymosn.server.sockets import close_all

#: Seconds that workers get for building a configuration, and for putting it in force.
PREPARE_TIME: Final = 30.0
COMMIT_TIME: Final = 10.0


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the process runs; see `launch.Launch`."""

    name: str
    config_dir: str
    base_dir: str
    workers: int
    log_ceiling: str | None


class Changes:
    """The configuration in force, and the only way to another one. One change at a time; later ones wait.

    `config` is as it was given, `effective` has the addresses of STRICT_DNS clusters for their names. Each of `followers`
    is called with the effective configuration after it has changed.
    """

    def __init__(
        self,
        config: MosnConfig,
        places: Places,
        site: ProcessInfo,
        fleet: Fleet,
        listeners: ListenerSockets,
        discovery: Discovery,
        log: Log,
    ) -> None:
        """`places`: where the values of `config` stand, for faults that workers find."""
        self.config = config
        self.effective = config
        self.version = 1
        self.last = ChangeResult(attempt=0, source="start", applied=True, version=1, message="", faults=[])
        self.followers: list[Callable[[MosnConfig], None]] = []
        self._places = places
        self._site = site
        self._fleet = fleet
        self._listeners = listeners
        self._discovery = discovery
        self._log = log
        self._lock = asyncio.Lock()
        self._is_closed = False
        self._encoded = encode(config)

    async def begin(self) -> None:
        """Looks up the names of the first configuration; call it before workers start."""
        await self._discovery.prepare(self.config)
        self._put(self.config)

    def briefing(self, number: int) -> Command:
        """What the new worker `number` (from 1) is told."""
        site = self._site
        return Configure(self._encoded, site.config_dir, site.base_dir, site.workers, site.log_ceiling, number - 1)

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        """Puts in force what `edit` makes of the configuration in force. When anything is against it, nothing changes.

        `source` names where it comes from, for the log.
        """
        async with self._lock:
            number = self.last.attempt + 1
            edited = edit(self.config)
            faults = list(edited.faults)
            objections = _errors(faults)
            if edited.config is not None and not objections:
                faults += _only_at_start(self.config, edited.config)
                objections = await self._try(number, edited.config)
                objections = [fault.placed(edited.places, self._site.name) for fault in objections]
                faults += objections
            applied = edited.config is not None and not objections
            if applied:
                self.version += 1
                self._places = edited.places
            message = f"version {self.version} is in force" if applied else "refused; nothing has changed"
            self.last = ChangeResult(
                attempt=number, source=source, applied=applied, version=self.version, message=message, faults=faults
            )
            self._tell(self.last)
            return self.last

    async def reload_filters(self, source: str) -> ChangeResult:
        """Puts the configuration in force once more, so that filters are made anew whose files have changed."""
        return await self.apply(source, lambda before: Candidate(before, [], self._places))

    async def push_hosts(self, name: str) -> None:
        """Gives the workers the hosts that discovery has found for a cluster."""
        async with self._lock:
            self._put(self.config)
            for cluster in self.effective.cluster_manager.clusters:
                if cluster.name == name:
                    self._fleet.order(SetHosts(encode_cluster(cluster)))

    def close(self) -> None:
        """From now on nothing changes any more."""
        self._is_closed = True

    async def _try(self, number: int, config: MosnConfig) -> list[Diagnostic]:
        """Puts a checked configuration in force everywhere, or nowhere: then returns why."""
        if self._is_closed:
            return [_fault("the process is ending")]
        await self._discovery.prepare(config)
        lines = self._listeners.prepare(config.servers[0].listeners, self._site.workers)
        if lines:
            return [_fault(line) for line in lines]
        encoded = encode(self._discovery.expand(config))
        prepare = Prepare(number, encoded, self._site.config_dir, self._site.base_dir)

        def orders(worker: int) -> list[tuple[Command, Sequence[int]]]:
            return [*self._listeners.handover_new(worker), (prepare, ())]

        objections = await self._fleet.prepare(number, orders, PREPARE_TIME)
        if self._is_closed:
            objections.append(_fault("the process is ending"))
        if objections:
            self._fleet.abandon(number)
            self._listeners.abandon()
            return objections
        unneeded = self._listeners.commit()
        self._put(config)
        await self._fleet.commit(number, COMMIT_TIME)
        # Each worker must hold the last copy of its socket: connections to one that is open but not served would wait.
        close_all(unneeded)
        self._fleet.order(Retire(config.servers[0].graceful_timeout))
        return []

    def _put(self, config: MosnConfig) -> None:
        self.config = config
        self._discovery.follow(config)
        self.effective = self._discovery.expand(config)
        self._encoded = encode(self.effective)
        for follower in self.followers:
            follower(self.effective)

    def _tell(self, outcome: ChangeResult) -> None:
        self._log.write(INFO if outcome.applied else ERROR, f"change from {outcome.source}: {outcome.message}")
        for fault in outcome.faults:
            self._log.write(WARN if fault.severity == "warning" else ERROR, f"change from {outcome.source}: {fault.text()}")


def _errors(faults: list[Diagnostic]) -> list[Diagnostic]:
    return [fault for fault in faults if fault.severity == "error"]


def _fault(text: str, severity: Severity = "error", path: str = "") -> Diagnostic:
    return Diagnostic(severity=severity, file="", line=0, column=0, path=path, message=text)


def _only_at_start(old: MosnConfig, new: MosnConfig) -> list[Diagnostic]:
    """A warning for each change that only a new start puts in force."""
    one, other = old.servers[0], new.servers[0]
    pairs = {
        "admin": (old.admin, new.admin),
        "pid": (old.pid, new.pid),
        "servers[0].processor": (one.processor, other.processor),
        "servers[0].default_log_path": (one.default_log_path, other.default_log_path),
        "servers[0].default_log_level": (one.default_log_level, other.default_log_level),
        "servers[0].global_log_roller": (one.global_log_roller, other.global_log_roller),
    }
    text = "has changed, which takes effect at the next start"
    return [_fault(text, "warning", path) for path, (before, after) in pairs.items() if before != after]
