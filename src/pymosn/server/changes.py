"""The active configuration, and the only way to change it.

Every change takes the same path, whatever its source (SIGHUP, the admin API, an edited filter file):

1. *edit*: the requester turns the active configuration into a `Candidate`, which is checked and may be rejected here;
2. names in STRICT_DNS clusters are resolved, and the sockets of new listeners are bound;
3. `Prepare`: every worker builds the configuration next to the active one and reports the faults it found;
4. `Activate`: if no worker reported any, all of them switch, and so do the services of this process; otherwise `Abandon`;
5. `Retire`: the workers drain the listeners that are no longer configured.

Nothing has any effect before step 4, so a change is applied everywhere or nowhere. A worker that fails after it has
prepared is killed and replaced, and its successor starts with the new configuration.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pymosn.assembly.packed_config import PackedConfig, Parts, encode, pack
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.control.discovery import Discovery
from pymosn.control.plane import Candidate, ChangeResult, Edit
from pymosn.control.service import Service
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.messages import Command, Configure, Part, Prepare, Retire, SetHosts
from pymosn.server.run_options import RunOptions
from pymosn.server.sockets import close_all

#: Seconds that workers get for building a configuration, and for activating it.
PREPARE_TIME: Final = 30.0
ACTIVATE_TIME: Final = 10.0


class Changes(Service):
    """Applies one change at a time. `config`: as it was written; `effective`: with addresses for names in STRICT_DNS."""

    name = "configuration"

    def __init__(
        self,
        options: RunOptions,
        fleet: Fleet,
        listeners: ListenerSockets,
        discovery: Discovery,
        follow_all: Callable[[MosnConfig], None],
        log: Log,
    ) -> None:
        """`follow_all` is called with the effective configuration whenever it has changed."""
        self.config = self.effective = options.config
        self.last = ChangeResult(attempt=0, source="start", applied=True, version=1, message="", faults=[])
        self._options = options
        self._places = options.places
        self._fleet = fleet
        self._listeners = listeners
        self._discovery = discovery
        self._follow_all = follow_all
        self._log = log
        self._lock = asyncio.Lock()
        self._is_shutting_down = False
        # The active configuration as the workers have it.
        self._packed = pack(options.config)

    async def start(self) -> None:
        """Resolves the names in the first configuration and activates it in this process."""
        await self._discovery.prepare(self.config)
        expanded = self._discovery.expand(self.config)
        self._activate(self.config, self._packed if expanded is self.config else pack(expanded))

    async def stop(self) -> None:
        self._discovery.close()

    def configure(self, worker_id: int) -> list[Command]:
        """The commands that configure a new worker."""
        options = self._options
        size, index = self._fleet.size, worker_id - 1
        encoded = encode(self._packed)
        last = Configure(encoded, options.config_dir, options.base_dir, size, options.log_ceiling, index)
        return [*_part_commands(self._packed.parts, {}), last]

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        """Activates the configuration that `edit` makes of the active one, or none. `source`: the requester, for the log."""
        async with self._lock:
            attempt = self.last.attempt + 1
            # In a thread, because reading and checking a large configuration takes seconds.
            candidate = await asyncio.to_thread(edit, self.config)
            faults = list(candidate.faults)
            applied = False
            if candidate.config is not None and all(fault.severity != "error" for fault in faults):
                faults += _only_at_start(self.config, candidate.config)
                errors = await self._apply(attempt, candidate.config)
                faults += [error.placed(candidate.places, self._options.source.name) for error in errors]
                applied = not errors
            if applied:
                self._places = candidate.places
            version = self.last.version + int(applied)
            message = f"version {version} is active" if applied else "rejected; nothing changed"
            self.last = ChangeResult(
                attempt=attempt, source=source, applied=applied, version=version, message=message, faults=faults
            )
            self._log.write(INFO if applied else ERROR, f"change from {source}: {message}")
            for fault in faults:
                self._log.write(WARN if fault.severity == "warning" else ERROR, f"change from {source}: {fault.text()}")
            return self.last

    async def reload_filters(self, source: str) -> ChangeResult:
        """Activates the same configuration again, which reloads the filters whose files have changed."""
        return await self.apply(source, lambda active: Candidate(active, [], self._places))

    async def push_hosts(self) -> None:
        """Sends the workers the hosts of the clusters for which discovery has found others."""
        async with self._lock:
            before = self._packed
            self._activate(self.config, await asyncio.to_thread(pack, self._discovery.expand(self.config)))
            after = self._packed
            for name, packed in after.clusters.items():
                if packed != before.clusters.get(name):
                    parts = {digest: after.parts[digest] for digest in (packed.head, *packed.hosts)}
                    for command in [*_part_commands(parts, before.parts), SetHosts(name, packed)]:
                        self._fleet.send(command)

    def reject_all(self) -> None:
        """Rejects all changes from now on, because the process is shutting down."""
        self._is_shutting_down = True

    async def _apply(self, change: int, config: MosnConfig) -> list[Diagnostic]:
        """Activates a valid configuration everywhere, or nowhere; then returns the reasons."""
        if self._is_shutting_down:
            return [Diagnostic(message="the process is shutting down")]
        await self._discovery.prepare(config)
        lines = self._listeners.prepare(config.servers[0].listeners, self._fleet.size)
        if lines:
            return [Diagnostic(message=line) for line in lines]
        packed = await asyncio.to_thread(pack, self._discovery.expand(config))
        prepare = [*_part_commands(packed.parts, self._packed.parts), Prepare(change, encode(packed))]

        def commands(worker_id: int) -> list[tuple[Command, Sequence[int]]]:
            return [*self._listeners.handover_new(worker_id), *((command, ()) for command in prepare)]

        errors = await self._fleet.prepare(change, commands, PREPARE_TIME)
        if self._is_shutting_down:
            errors.append(Diagnostic(message="the process is shutting down"))
        if errors:
            self._fleet.abandon(change)
            self._listeners.abandon()
            return errors
        unneeded = self._listeners.activate()
        self._activate(config, packed)
        await self._fleet.activate(change, ACTIVATE_TIME)
        # Closed only now: each worker must hold the last copy of its socket, because clients that connect to an open socket
        # that is not served would wait.
        close_all(unneeded)
        self._fleet.send(Retire(config.servers[0].graceful_timeout))
        return []

    def _activate(self, config: MosnConfig, packed: PackedConfig) -> None:
        self.config = config
        self._discovery.follow(config)
        self.effective = self._discovery.expand(config)
        self._packed = packed
        self._follow_all(self.effective)


def _part_commands(parts: Parts, known: Parts) -> list[Command]:
    """The commands that send `parts` to workers that have those in `known`."""
    return [Part(digest, content) for digest, content in parts.items() if digest not in known]


def _only_at_start(old: MosnConfig, new: MosnConfig) -> list[Diagnostic]:
    """A warning for each change that requires a restart."""
    old_server, new_server = old.servers[0], new.servers[0]
    keys = ("processor", "default_log_path", "default_log_level", "global_log_roller")
    changed = [key for key in ("admin", "pid") if getattr(old, key) != getattr(new, key)]
    changed += [f"servers[0].{key}" for key in keys if getattr(old_server, key) != getattr(new_server, key)]
    text = "changed; takes effect after a restart"
    return [Diagnostic(severity="warning", path=path, message=text) for path in changed]
