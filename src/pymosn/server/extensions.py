"""Runs the extensions of the process: see `pymosn.api.extension`.

A change of the configuration that adds or edits an extension runs its module and creates the object before anything is
activated (`prepare`), so that a mistake rejects the change. The object is started after the change, because `start` may
change the configuration itself; at the start of the process before it is ready. A failed start is repeated later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from pymosn.api.extension import Extension
from pymosn.assembly.extensions import Entry, extension_files, make_extension, marks_of, python_extensions, secrets_of
from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostic, Diagnostics
from pymosn.config.overlay import Overlay
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import Candidate
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.core.errors import describe
from pymosn.core.foreign import outcome
from pymosn.core.log import ERROR, INFO, Log
from pymosn.filters.modules import ModuleDraft, ModuleStore, Replaced
from pymosn.filters.secret_fields import Paths
from pymosn.filters.sources import Sources, folder_and_name
from pymosn.server.extension_plane import Configuration, ExtensionPlane
from pymosn.server.run_options import StartError

#: Seconds for running the modules of all extensions, for `start` of one, and for `stop`.
LOAD_TIME: Final = 10.0
START_TIME: Final = 10.0
STOP_TIME: Final = 5.0
#: Seconds until a failed start is repeated: at first, and at most.
FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 60.0


class Active(Protocol):
    """The active configuration and the source of its code."""

    config: MosnConfig

    @property
    def sources(self) -> Sources: ...


class Running:
    """One object of an extension. `key`: see `Entry.key`."""

    def __init__(self, entry: Entry, key: bytes, made: Extension, plane: ExtensionPlane) -> None:
        self.name = entry.settings.known_name()
        self.key = key
        self.plane = plane
        self._made = made
        self._is_started = False

    async def start(self) -> str:
        """Starts it, within bounded time; returns the error without secrets, or an empty text."""
        error = await outcome(self._start, START_TIME)
        if error is None:
            return ""
        self._is_started = False
        await self.plane.end_tasks()
        return self.plane.without_secrets(f"`start` failed: {describe(error)}")

    async def _start(self) -> None:
        self._is_started = True
        await self._made.start(self.plane)

    async def stop(self) -> None:
        """Ends its tasks and stops it, within bounded time; an error is logged."""
        await self.plane.end_tasks()
        if self._is_started:
            self._is_started = False
            error = await outcome(lambda: self._made.stop(), STOP_TIME)
            if error is not None:
                self.plane.log(ERROR, f"`stop` failed: {describe(error)}")
            await self.plane.end_tasks()
        self.plane.close("it has stopped")


class _Prepared(NamedTuple):
    """What a change will activate."""

    draft: ModuleDraft
    running: dict[str, Running]


class Extensions(Service):
    """All extensions of the active configuration."""

    name = "extensions"

    def __init__(
        self,
        config_dir: str,
        process: Configuration,
        begin: Callable[[Coroutine[Any, Any, object]], object],
        call_later: Callable[[float, Callable[[], object]], asyncio.TimerHandle],
        stream_filters: Callable[[], Collection[str]],
        marks: dict[str, Paths],
        log: Log,
    ) -> None:
        """`begin`: starts a task. `stream_filters`: the names of filters of installed packages.

        `marks` gets the fields that extensions mark as secret: see `config.dump.Marks`.
        """
        #: The configuration to start with, set before `start`.
        self.active: Active | None = None
        self._config_dir = config_dir
        self._process = process
        self._begin = begin
        self._call_later = call_later
        self._stream_filters = stream_filters
        self._marks = marks
        self._log = log
        self._store = ModuleStore()
        # By name: the objects of the active configuration, and those that run.
        self._wanted: dict[str, Running] = {}
        self._running: dict[str, Running] = {}
        self._overlay = Overlay()
        self._prepared: _Prepared | None = None
        # Modules of objects that may still run.
        self._replaced: list[Replaced] = []
        self._switching = asyncio.Lock()
        self._retry: asyncio.TimerHandle | None = None
        self._delay = FIRST_RETRY
        self._is_serving = False

    async def start(self) -> None:
        assert self.active is not None
        self._is_serving = True
        # None of them may be started by a change of another one.
        async with self._switching:
            faults = await self.prepare(self.active.config, self.active.sources)
            if faults:
                raise StartError(faults=faults)
            if self._prepared is not None:
                self._commit(self._prepared)
            for running in list(self._wanted.values()):
                self._running[running.name] = running
                error = await running.start()
                if error:
                    raise StartError(lines=[f"extension {running.name!r}: {error}"])
                self._log.write(INFO, f"extension {running.name!r} runs")

    async def stop(self) -> None:
        self._is_serving = False
        self._wanted = {}
        if self._retry is not None:
            self._retry.cancel()
        await self._switch()

    # ---- called by `Changes`

    def joined(self, candidate: Candidate) -> Candidate:
        """What was read from the file with the changes of the extensions that it names."""
        if candidate.config is None:
            return candidate
        faults = list(candidate.faults)
        owners = [entry.settings.known_name() for entry in python_extensions(candidate.config)]
        config, missing = self._overlay.joined(candidate.config, owners)
        faults += [
            Diagnostic(severity="warning", message=f"extension {name!r} has set hosts of {cluster!r}, which is gone")
            for name, cluster in missing
        ]
        if config is candidate.config:
            return candidate
        report = Diagnostics()
        check(config, report, self._stream_filters())
        faults += [fault for fault in report.in_order() if fault.severity == "error"]
        return replace(candidate, config=config, faults=faults)

    async def prepare(self, config: MosnConfig, sources: Sources) -> list[Diagnostic]:
        """Creates the extensions that are new or differ; returns the errors."""
        entries = python_extensions(config)
        if not self._is_serving or not (entries or self._wanted):
            return []
        late: list[bool] = []
        try:
            found = await off_loop(LOAD_TIME, self._prepare, config, entries, sources, late)
        except TimeoutError:
            late.append(True)
            return [Diagnostic(message=f"the modules of extensions did not run within {LOAD_TIME:g} s")]
        if isinstance(found, _Prepared):
            self._prepared = found
            return []
        return found

    def _prepare(
        self, config: MosnConfig, entries: list[Entry], sources: Sources, late: list[bool]
    ) -> _Prepared | list[Diagnostic]:
        """`late`: not empty if the result is no longer needed."""
        folders = {folder_and_name(file)[0] for file in extension_files(config, self._config_dir).values()}
        draft = self._store.draft(sources.only(folders).folders, sources.faults)
        faults: list[Diagnostic] = []
        found: dict[str, Running] = {}
        for entry in entries:
            name, key = entry.settings.known_name(), entry.key(self._config_dir, draft)
            known = self._wanted.get(name)
            if known is None or known.key != key:
                made = make_extension(entry, self._config_dir, draft)
                if not isinstance(made, Extension):
                    faults += made
                    continue
                # The key of a module that has just run is another.
                known = self._new(entry, entry.key(self._config_dir, draft), made)
            found[name] = known
        if faults or late:
            draft.rollback()
            return faults
        return _Prepared(draft, found)

    def _new(self, entry: Entry, key: bytes, made: Extension) -> Running:
        self._marks.update(marks_of(entry, made))
        secrets = secrets_of(entry, made)
        name = entry.settings.known_name()
        plane = ExtensionPlane(name, self._process, self._overlay, self._log, secrets, self._stream_filters)
        return Running(entry, key, made, plane)

    def activate(self) -> None:
        """Makes what was prepared active; it starts afterwards."""
        if self._prepared is not None and self._commit(self._prepared):
            self._begin(self._switch())

    def abandon(self) -> None:
        """Forgets what was prepared."""
        if self._prepared is not None:
            self._prepared.draft.rollback()
            self._prepared = None

    # ----

    def _commit(self, prepared: _Prepared) -> bool:
        """Whether an object is new or gone."""
        self._prepared = None
        replaced = prepared.draft.commit()
        if prepared.running == self._wanted:
            replaced.forget()
            return False
        self._replaced.append(replaced)
        for name, running in [*self._wanted.items(), *self._running.items()]:
            if name not in prepared.running:
                # What it is about to change would outlive it.
                running.plane.close("it was removed from the configuration")
        self._wanted = prepared.running
        self._overlay.keep(self._wanted)
        self._delay = FIRST_RETRY
        return True

    async def _switch(self) -> None:
        """Stops the objects that are no longer configured, and starts those that are."""
        async with self._switching:
            for name, running in list(self._running.items()):
                if self._wanted.get(name) is not running:
                    await running.stop()
                    del self._running[name]
            while self._replaced:
                self._replaced.pop().forget()
            failed = False
            for name, running in list(self._wanted.items()):
                if name not in self._running and self._is_serving and self._wanted.get(name) is running:
                    failed = not await self._try(running) or failed
            self._repeat(failed)

    async def _try(self, running: Running) -> bool:
        error = await running.start()
        if error:
            running.plane.log(ERROR, f"{error}; again in {self._delay:g} s")
            return False
        self._running[running.name] = running
        self._log.write(INFO, f"extension {running.name!r} runs")
        return True

    def _repeat(self, failed: bool) -> None:
        """Tries again later those that have failed: all at once."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if failed and self._is_serving:
            self._retry = self._call_later(self._delay, self._begin_switch)
            self._delay = min(2 * self._delay, LAST_RETRY)

    def _begin_switch(self) -> None:
        self._begin(self._switch())
