"""The active configuration, and the only way to change it.

Every change takes the same path, whatever its source (SIGHUP, the admin API, an edited filter file):

1. *edit*: the requester turns the active configuration into a `Candidate`, which is checked and may be rejected here; if
   it is not the operator's own, so are the files that it names (`config/check/paths.py`). A reload reads the code of all
   filters and the certificates and keys again; any other change keeps the active ones, and reads only what is new;
2. names in STRICT_DNS clusters are resolved;
3. `Check`: every worker checks what it can without running code of filters and without creating files; new extensions of
   the process are created, but not started;
4. the sockets of new listeners are bound;
5. `Prepare`: every worker builds the configuration next to the active one, which imports and starts new filters; if there
   may be new code of filters, one worker before the others;
6. `Activate`: if no worker reported a fault, all switch, and so do the services of this process; otherwise `Abandon`;
7. `Retire`: the workers drain the listeners that are no longer configured.

What xDS adds (a `Layer`) is joined with the configuration that edits work on, so that each keeps the other. If an item of
xDS cannot be activated, it keeps its last good state and the rest is activated. Other hosts of clusters alone are sent to
the workers by `SetHosts`, without steps 3 to 7.

Nothing has any effect before step 6, so a change is applied everywhere or nowhere. Log files are created in step 6, and the
socket files of step 4 are removed if the change is abandoned. Code of filters runs only in step 5, when everything else
has passed. A worker that fails after it has prepared is killed and replaced, and its successor starts with the new
configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from pymosn.assembly.packed_change import PackedChange, change_of, encode_change
from pymosn.assembly.packed_config import PackedConfig, encode
from pymosn.assembly.packer import Packer
from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.control.certificates import Used, used_certificates
from pymosn.control.discovery import Discovery
from pymosn.control.plane import Candidate, ChangeResult, Edit
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.control.xds.layer import Layer, Merged, Merger, Owner, differs_in_hosts_only
from pymosn.core.counters import Metrics
from pymosn.core.log import WARN, Log
from pymosn.filters.sources import Sources
from pymosn.server import change_steps
from pymosn.server.allowed_files import AllowedFiles
from pymosn.server.change_steps import Extending, FollowAll, NoExtensions, Reads, Tried, files_of, part_commands
from pymosn.server.filter_files import FilterFiles
from pymosn.server.fleet import Fleet
from pymosn.server.isolation import isolate
from pymosn.server.layer_faults import LayerResult, faults_by_owner, shared_addresses
from pymosn.server.listeners import ListenerSockets
from pymosn.server.logs import process_log_path
from pymosn.server.messages import Check, Command, Configure, Prepare, Retire, SetHosts
from pymosn.server.pid_file import pid_path
from pymosn.server.resources import MANY, LargeConfiguration
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.sockets import close_all
from pymosn.server.tls_files import TlsFiles, TlsRead
from pymosn.server.upgrade.kept_config import export_config

#: Seconds that workers get for building a configuration, and for activating it.
PREPARE_TIME: Final = 30.0
ACTIVATE_TIME: Final = 10.0
#: Seconds for reading the configuration file.
RELOAD_TIME: Final = 10.0
#: Clusters whose hosts are sent to the workers before the event loop does something else.
SLICE: Final = 50
#: Clusters whose hosts are sent one by one, each of which costs a worker copies of dictionaries of all; more are one change.
MOST_SENT: Final = 200


class Changes(Service):
    """Applies one change at a time.

    `own`: the configuration of the file, with the changes of the admin API. `config`: joined with what xDS adds.
    `effective`: with addresses for names in STRICT_DNS.
    """

    name = "configuration"

    def __init__(
        self,
        options: RunOptions,
        fleet: Fleet,
        listeners: ListenerSockets,
        filter_files: FilterFiles,
        tls_files: TlsFiles,
        discovery: Discovery,
        follow_all: FollowAll,
        log: Log,
        services: Callable[[], list[tuple[str, int]]] = list,
    ) -> None:
        """`follow_all` is called with the effective configuration whenever it has changed. `services`: see `Configure`."""
        self.own = self.config = self.effective = options.config
        #: The configuration that the file has, as far as this process knows.
        self.file_config = options.config
        self.layer = Layer()
        self._merger = Merger()
        self.merged = self._merger.merge(self.own, self.layer)
        #: Called with the items of xDS that could not be activated by a change from elsewhere, and why.
        self.on_rejected: Callable[[Mapping[Owner, str]], None] = lambda faults: None
        #: Called with the result of each change.
        self.noted: Callable[[ChangeResult], None] = lambda result: None
        # Tells what the workers report about each try; a change may take several, or none.
        self._tries = 0
        self.last = ChangeResult(attempt=0, source="start", applied=True, version=1, message="", faults=[])
        #: How often a change was applied and rejected, and when the active configuration became active.
        self.counts = Metrics()
        for key in ("applied", "rejected"):
            self.counts.group("config", ("config", "active")).counter(key)
        self.activated = time.time()
        self._options = options
        #: The positions of the values of the active file; empty after a change by the admin API.
        self.places = options.places
        self._fleet = fleet
        self._listeners = listeners
        self._filter_files = filter_files
        self._tls_files = tls_files
        self._discovery = discovery
        self._follow_all = follow_all
        self._log = log
        self._services = services
        self._lock = asyncio.Lock()
        self._reloading = asyncio.Lock()
        #: Around each reload, for the service manager.
        self.announced: Callable[[], contextlib.AbstractAsyncContextManager[None]] = contextlib.nullcontext
        #: The extensions of the process.
        self.extensions: Extending = NoExtensions()
        # Why changes are rejected; empty while they are not.
        self._rejection = ""
        # The active source of filters, and the active configuration as the workers have it.
        self._sources = Sources()
        #: The active files of TLS contexts.
        self.material = TlsMaterial()
        # The warnings about them that were reported.
        self._tls_faults: list[Diagnostic] = []
        self._packer = Packer()
        self._packed = self._packer.pack(options.config)
        self._incarnations = itertools.count()
        self._large = LargeConfiguration()
        #: The source of the active configuration's filters as it was last read from disk, whether it was activated or not.
        self.last_read = Sources()
        folders, pid = (options.config_dir, options.base_dir), os.path.realpath(pid_path(options.config, options.base_dir))
        self._files = AllowedFiles(
            *folders,
            files_of(options.places) | options.config_files | {pid},
            process_log_path(options.config, options.base_dir),
        )

    async def start(self) -> None:
        """Resolves the names in the first configuration and activates it in this process.

        StartError if any user could change the code of a filter, or a certificate or key is unusable.
        """
        self.merged = self._merger.merge(self.own, self.layer)
        self.config = self.merged.config
        self._sources, faults = await self._filter_files.read(self.config, Sources())
        self.last_read = self._sources
        self.material, found = self._tls_files.first
        faults += [*found, *self._tls_files.unreadable_keys()]
        self._tls_faults = found
        faults = [fault.placed(self.places, self._options.source.name) for fault in faults]
        if any(fault.severity == "error" for fault in faults):
            raise StartError(faults=faults)
        for fault in faults:
            self._log.write(WARN, fault.text())
        await self._discovery.prepare(self.config)
        packed = self._packer.pack(self._discovery.expand(self.config), self._sources, self.material)
        self._activate(self.merged, packed)

    async def stop(self) -> None:
        self._discovery.close()

    def certificates(self) -> list[Used]:
        """The certificates in use. Takes some time if there are many: to be called in a thread."""
        return used_certificates(self.config, self.material, self._tls_files.absolute)

    def export(self) -> bytes:
        """The configuration of the file with the changes of the admin API, for the next generation that keeps it."""
        return export_config(self.own, self.places, self._files.config_files)

    def configure(self, worker_id: int) -> list[Command]:
        """The commands that configure a new worker."""
        options = self._options
        size, index = self._fleet.size, worker_id - 1
        folders, tail = (options.config_dir, options.base_dir), (self._services(), next(self._incarnations))
        last = Configure(encode(self._packed), *folders, size, options.log_ceiling, index, *tail)
        return [*part_commands(self._packed.parts, self._packed.parts), last]

    async def apply(
        self,
        source: str,
        edit: Edit,
        *,
        reads_filters: bool = False,
        reads_tls: bool = False,
        tls_read: TlsRead | None = None,
    ) -> ChangeResult:
        """Activates the configuration that `edit` makes of the active one, or none. `source`: the requester, for the log.

        `reads_filters`: reads the files of all filters again. Otherwise their active source stays, whatever is on disk.
        `reads_tls`: the same for certificates and keys. `tls_read`: what was just read; then only new warnings are reported.
        """
        async with self._lock:
            # In a thread, because reading and checking a large configuration takes seconds.
            candidate = await asyncio.to_thread(edit, self.own)
            faults = list(candidate.faults)
            reads = Reads(reads_filters, reads_tls, tls_read)
            if candidate.config is self.own and reads == Reads():
                return replace(self.last, source=source, applied=True, message="nothing differs", faults=faults)
            applied = False
            if candidate.config is not None and all(fault.severity != "error" for fault in faults):
                faults += change_steps.only_at_start(self.own, candidate.config)
                errors = []
                if not candidate.is_trusted:
                    errors += change_steps.extension_errors(self.own, candidate.config)
                    errors += self._files.change_errors(self.own, candidate.config)
                if not errors:
                    tried = await self._try(candidate.config, self.layer, reads)
                    faults += [warning.placed(candidate.places, self._options.source.name) for warning in tried.warnings]
                    errors = tried.errors
                    if tried.rejected:
                        self.on_rejected(tried.rejected)
                faults += [error.placed(candidate.places, self._options.source.name) for error in errors]
                applied = not errors
            if applied:
                self.places = candidate.places
            if candidate.is_trusted:
                self.file_config = self.own if applied else self.file_config
                self._files.add_config_files(files_of(candidate.places))
            return self._note(source, applied, faults)

    async def apply_layer(self, layer: Layer) -> LayerResult:
        """Activates what xDS adds now, instead of what it added before."""
        async with self._lock:
            # In threads, as everything that takes time in proportion to the size of the configuration.
            merged = await asyncio.to_thread(self._merger.merge, self.own, layer)
            if merged.config is self.config:
                self.layer, self.merged = layer, merged
                return LayerResult(True, {}, "")
            if await asyncio.to_thread(differs_in_hosts_only, self.layer, layer) and await self._change_hosts(layer, merged):
                return LayerResult(True, {}, "")
            tried = await self._try(self.own, layer, Reads(), may_send_hosts=True)
            message = _text(tried.errors)
            if message and not self._rejection:
                # The faults name no item: it is found by activating parts.
                rejected = await isolate(self.layer, layer, message, self._activate_part)
                if rejected:
                    tried, message = tried._replace(errors=[], rejected=rejected), ""
            if not tried.sent_hosts:
                faults = [Diagnostic(message=f"{owner.kind} {owner.name}: {why}") for owner, why in tried.rejected.items()]
                self._note("xDS", not tried.errors, [*tried.warnings, *faults, *tried.errors])
            return LayerResult(not tried.errors, tried.rejected, message)

    async def _activate_part(self, layer: Layer) -> str:
        """Activates a layer; returns why it, or an item of it, could not be. Empty if it was."""
        if self._rejection:
            return self._rejection
        # What is active already would not be tried at all if it could be sent as hosts.
        tried = await self._try(self.own, layer, Reads(), may_send_hosts=layer is not self.layer)
        return _text(tried.errors) or "; ".join(tried.rejected.values())

    async def _change_hosts(self, layer: Layer, merged: Merged) -> bool:
        """Activates other hosts of clusters, which needs no reading or checking; false if more has changed."""
        before = self._packed
        expanded = self._discovery.expand(merged.config)
        packed = await asyncio.to_thread(self._packer.pack, expanded, self._sources, self.material)
        change = change_of(before, packed)
        if not change.is_of_hosts(before) or len(change.clusters) > MOST_SENT:
            return False
        self.layer = layer
        self._activate(merged, packed, only_hosts=True)
        await self._send_hosts(before, packed, change)
        return True

    async def _try(self, own: MosnConfig, layer: Layer, reads: Reads, *, may_send_hosts: bool = False) -> Tried:
        """Activates a configuration with a layer. Items of the layer that cannot be activated keep their last state."""
        rejected: dict[Owner, str] = {}
        while True:
            self._tries += 1
            merged = await asyncio.to_thread(self._merger.merge, own, layer)
            sources, found = await self._read_filters(merged.config, reads.filters)
            material, more = await self._read_tls(merged.config, reads.tls, reads.tls_read)
            new = [fault for fault in more if fault not in self._tls_faults]
            found = found + (more if reads.tls_read is None and not may_send_hosts else new)
            errors = [fault for fault in found if fault.severity == "error"]
            warnings = [fault for fault in found if fault.severity != "error"]
            sent_hosts = False
            if not errors:
                errors = shared_addresses(merged)
            if not errors:
                errors, sent_hosts = await self._apply(self._tries, merged, sources, material, may_send_hosts)
            faults = faults_by_owner(errors, merged)
            if not faults:
                if not errors:
                    self.layer = layer
                    self._tls_faults = more if reads.tls else [*self._tls_faults, *new]
                return Tried(errors, warnings, rejected, sent_hosts)
            for owner, why in faults.items():
                layer = layer.reverted(owner, self.layer if owner not in rejected else Layer())
                rejected[owner] = why

    def _note(self, source: str, applied: bool, faults: list[Diagnostic]) -> ChangeResult:
        """Records and logs the result of a change."""
        self.counts.group("config", ("config", "active")).counter("applied" if applied else "rejected").value += 1
        if applied:
            self.activated = time.time()
        version = self.last.version + int(applied)
        message = f"version {version} is active" if applied else "rejected; nothing changed"
        self.last = ChangeResult(
            attempt=self.last.attempt + 1, source=source, applied=applied, version=version, message=message, faults=faults
        )
        change_steps.log_result(self._log, self.last, self._rejection)
        self.noted(self.last)
        return self.last

    async def reload_filters(self, source: str) -> ChangeResult:
        """Activates the same configuration again, which reloads the filters whose files have changed."""
        return await self.apply(source, lambda active: Candidate(active, [], self.places), reads_filters=True)

    async def reload_tls(self, source: str, read: TlsRead) -> ChangeResult:
        """Activates the same configuration again with the certificates and keys that were read."""
        return await self.apply(source, lambda active: Candidate(active, [], self.places), reads_tls=True, tls_read=read)

    @property
    def sources(self) -> Sources:
        """The active source of filters and extensions."""
        return self._sources

    @property
    def config_path(self) -> str | None:
        """The absolute path of the configuration file; None for the built-in example."""
        path = self._options.source.path
        return None if path is None else os.path.join(self._options.config_dir, os.path.basename(path))

    async def reload(self, source: str) -> ChangeResult:
        """Reads the configuration file again and activates it. Requires `config_path`."""
        # Of two reloads, the one requested later is the last to be applied.
        async with self._reloading, self.announced():
            try:
                loaded = await off_loop(RELOAD_TIME, self._options.source.load_here)
            except TimeoutError:
                loaded = self._options.source.unreadable(f"cannot be read within {RELOAD_TIME:g} s")
            candidate = Candidate(loaded.config, loaded.faults, loaded.places, is_trusted=True)
            join = self.extensions.joined
            return await self.apply(source, lambda active: join(candidate), reads_filters=True, reads_tls=True)

    async def push_hosts(self) -> None:
        """Sends the workers the hosts of the clusters for which discovery has found others."""
        async with self._lock:
            before = self._packed
            expanded = self._discovery.expand(self.config)
            packed = await asyncio.to_thread(self._packer.pack, expanded, self._sources, self.material)
            # The workers receive the listeners that a cluster reaches with the next change.
            packed = replace(packed, reach=before.reach)
            self._activate(self.merged, packed, only_hosts=True)
            await self._send_hosts(before, packed, change_of(before, packed))

    async def _send_hosts(self, before: PackedConfig, after: PackedConfig, change: PackedChange) -> None:
        """Sends the workers the clusters that have changed."""
        for sent, (name, packed) in enumerate(change.clusters.items(), 1):
            # Hosts that another cluster has, too, are sent: it may lose them before, and then the workers forget them.
            known = before.clusters[name].hosts
            for command in [*part_commands(packed.hosts, after.parts, known), SetHosts(name, packed)]:
                self._fleet.send(command)
            if not sent % SLICE:
                await asyncio.sleep(0)

    def reject_all(self, reason: str = "the process is shutting down") -> None:
        """Rejects all changes from now on."""
        self._rejection = reason

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Waits for the change in progress, and makes others wait until the end of the block: an upgrade."""
        async with self._lock:
            yield

    def item_path_errors(self, item: MosnConfig) -> list[Diagnostic]:
        """The errors of files that an item of xDS names. `item`: a configuration with nothing else. Called in threads."""
        return self._files.item_errors(self.own, item)

    async def _read_filters(self, config: MosnConfig, reads_all: bool) -> tuple[Sources, list[Diagnostic]]:
        """The source of filters for a configuration, and the faults. `reads_all`: also of what is active."""
        read, faults = await self._filter_files.read(config, Sources() if reads_all else self._sources)
        self.last_read = self.last_read.updated(read.only(self._sources.folders))
        return self._sources.updated(read).only(self._filter_files.folders(config)), faults

    async def _read_tls(
        self, config: MosnConfig, reads_all: bool, read: TlsRead | None
    ) -> tuple[TlsMaterial, list[Diagnostic]]:
        """The files of TLS contexts for a configuration, and the faults. `reads_all`: also of what is active.

        `read`: what was just read, maybe for a configuration that is no longer active.
        """
        if read is not None and read.config is config:
            return read.material, read.faults
        return await self._tls_files.read(config, TlsMaterial() if reads_all else self.material, self.material)

    async def _apply(
        self, change: int, merged: Merged, sources: Sources, material: TlsMaterial, may_send_hosts: bool
    ) -> tuple[list[Diagnostic], bool]:
        """Activates a valid configuration everywhere, or nowhere; then returns the reasons.

        The second value: whether only hosts had changed, and were sent because `may_send_hosts`.
        """
        if self._rejection:
            return [Diagnostic(message=self._rejection)], False
        config = merged.config
        await self._discovery.prepare(config)
        packed = await asyncio.to_thread(self._packer.pack, self._discovery.expand(config), sources, material)
        before = self._packed
        difference = await asyncio.to_thread(change_of, before, packed)
        if may_send_hosts and difference.is_of_hosts(before) and len(difference.clusters) <= MOST_SENT:
            self._activate(merged, packed, only_hosts=True)
            await self._send_hosts(before, packed, difference)
            return [], True
        encoded = await asyncio.to_thread(encode_change, difference)
        check = [*part_commands(difference.digests(), packed.parts, before.parts), Check(change, encoded)]
        errors = await self._fleet.check(change, check, PREPARE_TIME)
        if not errors:
            errors = await self.extensions.prepare(config, sources)
        if not errors:
            errors = self._bind(merged)
        if not errors:

            def commands(worker_id: int) -> list[tuple[Command, Sequence[int]]]:
                return [*self._listeners.handover_new(worker_id), (Prepare(change), ())]

            is_other_source = sources.digests != self._sources.digests
            runs_new_code = is_other_source or config.servers[0].listeners != self.config.servers[0].listeners
            errors = await self._fleet.prepare(change, commands, PREPARE_TIME, runs_new_code)
        if self._rejection:
            errors.append(Diagnostic(message=self._rejection))
        if errors:
            self._fleet.abandon(change)
            self._listeners.abandon()
            self.extensions.abandon()
            return errors, False
        unneeded = self._listeners.activate()
        self.last_read = sources.updated(self.last_read).only(sources.folders)
        self._sources = sources
        self.material = material
        self._activate(merged, packed)
        self.extensions.activate()
        await self._fleet.activate(change, ACTIVATE_TIME)
        # Closed only now: each worker must hold the last copy of its socket, because clients that connect to an open socket
        # that is not served would wait.
        close_all(unneeded)
        self._fleet.send(Retire(config.servers[0].graceful_timeout))
        return [], False

    def _bind(self, merged: Merged) -> list[Diagnostic]:
        """Binds the sockets of new listeners; returns the errors, with the paths of those of xDS."""
        lines = self._listeners.prepare(merged.config.servers[0].listeners, self._fleet.size)
        return change_steps.listener_faults(merged, self._listeners.faulty, lines)

    def _activate(self, merged: Merged, packed: PackedConfig, *, only_hosts: bool = False) -> None:
        config = merged.config
        self.merged = merged
        self.own = merged.own
        self.config = config
        if not only_hosts:
            self._files.note_active(config)
        self._discovery.follow(config)
        self.effective = self._discovery.expand(config)
        self._packed = packed
        self._follow_all(self.effective, only_hosts)
        if len(packed.parts) > MANY:
            self._large.set_aside()


def _text(errors: Sequence[Diagnostic]) -> str:
    return "; ".join(error.text() for error in errors)
