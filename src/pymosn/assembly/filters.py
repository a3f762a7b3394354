"""Builds the stream and connection filters of one worker from the configuration; unchanged filters are reused."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pymosn.api.connection_filter import SharedState
from pymosn.api.stream_filter import ClusterClient, FilterContext, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.assembly.share import WorkerShare
from pymosn.assembly.steps import Steps
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.dump import filter_id
from pymosn.config.read import settings_class
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import StreamFilter as FilterConfig
from pymosn.config.schema.network_filters import PROTOCOLS, ProxyFilter, PythonConfig
from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS
from pymosn.config.typed import typed
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.errors import is_a, reason
from pymosn.core.foreign import Late, outcome
from pymosn.core.log import ERROR, Log
from pymosn.core.redaction import KnownSecrets
from pymosn.filters.collectors import Registrations
from pymosn.filters.errors import FilterConfigError, FilterLoadError, describe, problems_of
from pymosn.filters.loading import PROTOCOLS as PROTOCOL_ENTRY_POINTS
from pymosn.filters.loading import (
    Loaded,
    installed,
    load_connection_filter,
    load_filter,
    load_installed,
    load_installed_connection_filter,
)
from pymosn.filters.modules import ModuleDraft, ModuleStore
from pymosn.filters.permissions import writable_fault
from pymosn.filters.secret_fields import NO_PATHS, Paths, redacted_settings, secret_fields
from pymosn.filters.sources import read_sources
from pymosn.filters.stream import shipped
from pymosn.filters.stream.shipped import SHIPPED, data_file, spec_of
from pymosn.proxy.connection_filters import ConnectionFilterHandle, ConnectionFilters
from pymosn.proxy.filter_code import FilterClassError
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.stream.registry import protocols

#: Seconds that `start` and `stop` of a filter may take.
START_TIME: Final = 10.0
STOP_TIME: Final = 5.0
BUILT_PROTOCOLS: Final = frozenset(protocols().names())

T = TypeVar("T")

#: The settings of a stream filter, or of a connection filter.
Entry = FilterConfig | PythonConfig
#: The identity of a filter: its listener or filter chain, its index there, its configuration, and its module.
FilterKey = tuple[str, int, bytes, bytes]


class NotAsync(Exception):
    """`start` of a filter is a plain method."""


class BuiltFilter(msgspec.Struct, eq=False):
    """A filter, with its path in the configuration."""

    handle: FilterHandle | ConnectionFilterHandle
    path: str
    context: FilterContext
    #: The secrets of its settings, which errors must not show.
    secrets: KnownSecrets
    #: The Prometheus collectors that it has registered while it was made and started.
    registered: Registrations
    #: Whether its `start` has succeeded, so that `stop` must be called.
    is_started: bool = False
    #: Whether logs were reopened while it was not started yet.
    must_reopen: bool = False

    def is_busy(self) -> bool:
        """Whether an open connection has an object of the filter's class."""
        return isinstance(self.handle, ConnectionFilterHandle) and self.handle.in_use > 0

    async def start(self) -> list[Diagnostic]:
        """Starts the filter, within bounded time; returns the error."""
        error = await outcome(self._start, START_TIME)
        if error is None:
            self.is_started = True
            if self.must_reopen:
                self.reopen()
            return []
        if is_a(error, Late):
            text = f"`start` {reason(error)}"
        elif is_a(error, NotAsync):
            text = "`start` must be `async def`"
        else:
            text = f"does not start: {self.secrets.hide(describe(error))}"
        return [error_at(self.path, f"filter {self.handle.name!r} {text}")]

    async def _start(self) -> None:
        with self.registered.recording():
            starting: object = self.handle.filter.start()
            if not isinstance(starting, Awaitable):
                raise NotAsync
            await starting

    def reopen(self) -> None:
        """Makes the filter reopen its files, or as soon as it has started; an error is logged and counted."""
        self.must_reopen = not self.is_started
        if self.is_started:
            try:
                self.handle.filter.on_reopen()
            except BaseException as error:  # whatever it is, neither the other filters nor the worker may suffer
                self.handle.errors.value += 1
                text = f"`on_reopen` failed: {self.secrets.hide(describe(error))}"
                self.context.write(text, ERROR)

    async def stop(self) -> bool:
        """Cancels the tasks of the filter and stops it, within bounded time; false after an error, which is logged."""
        error = await outcome(self._stop, STOP_TIME)
        if error is not None:
            text = reason(error) if is_a(error, Late) else f"failed: {self.secrets.hide(describe(error))}"
            self.context.write(f"`stop` {text}", ERROR)
        return error is None

    async def _stop(self) -> None:
        await self.context.end_tasks()
        if self.is_started:
            self.is_started = False
            stopping: object = self.handle.filter.stop()
            if isinstance(stopping, Awaitable):
                await stopping


async def start_filters(filters: Iterable[BuiltFilter]) -> list[Diagnostic]:
    """Starts filters concurrently; returns their errors."""
    results = await asyncio.gather(*(built.start() for built in filters))
    return [fault for faults in results for fault in faults]


async def stop_filters(filters: Iterable[BuiltFilter]) -> bool:
    """Stops filters concurrently: one that takes all its time takes nothing from the others. Whether all have succeeded."""
    return all(await asyncio.gather(*(built.stop() for built in filters)))


class FilterBuilder(msgspec.Struct, eq=False):
    """Builds the filters of one configuration; collects errors in `faults`. Unchanged filters stay the same objects.

    `config_dir`: directory for relative paths. `before`: the active filters. `modules`: those of filters in Python files.
    """

    config_dir: str
    metrics: Metrics
    log: Log
    clusters: Mapping[str, ClusterClient]
    before: Mapping[FilterKey, BuiltFilter]
    modules: ModuleDraft = msgspec.field(default_factory=lambda: ModuleStore().draft({}))
    clock: Clock = msgspec.field(default_factory=Clock)
    share: WorkerShare = WorkerShare()
    #: This proxy's, as control planes get it.
    node: Mapping[str, Any] = {}
    faults: list[Diagnostic] = []
    built: dict[FilterKey, BuiltFilter] = {}
    #: The fields that the new filters mark as secret.
    marks: dict[str, Paths] = {}
    #: The keys of the filters that were asked for.
    used: list[FilterKey] = []
    #: The secret fields of classes of settings, by their identity: finding them takes a millisecond.
    fields: dict[int, tuple[Any, Paths]] = {}

    def chain(self, config: ListenerConfig, path: str) -> StreamFilters:
        """The filters of the listener at `path`."""
        made = [
            self._get(config.known_name(), i, entry, f"{path}.stream_filters[{i}]")
            for i, entry in enumerate(config.stream_filters)
            if entry.type not in NO_OP_STREAM_FILTERS
        ]
        return StreamFilters([b.handle for b in made if b is not None and isinstance(b.handle, FilterHandle)])

    def proxy_chain(self, config: ListenerConfig, index: int, path: str) -> StreamFilters | None:
        """The filters of the proxy of that filter chain; None if it has those of the listener."""
        proxy = config.filter_chains[index].acting_filters().proxy
        if proxy is None or proxy.stream_filters is None:
            return None
        made = [self._get(place, i, entry, inner) for place, i, entry, inner in _proxy_filters(config, path, index)]
        return StreamFilters([b.handle for b in made if b is not None and isinstance(b.handle, FilterHandle)])

    def connection_chain(self, config: ListenerConfig, index: int, path: str) -> ConnectionFilters:
        """The connection filters of the filter chain with that index, of the listener at `path`."""
        made = [self._get(place, i, entry, inner) for place, i, entry, inner in _connection_filters(config, path, index)]
        return ConnectionFilters([b.handle for b in made if b is not None and isinstance(b.handle, ConnectionFilterHandle)])

    def connection_filter(
        self, config: ListenerConfig, chain: int, index: int, entry: PythonConfig
    ) -> ConnectionFilterHandle | None:
        """One of these alone; None after an error."""
        built = self._get(f"{config.known_name()}\0{chain}", index, entry, "")
        return built.handle if built is not None and isinstance(built.handle, ConnectionFilterHandle) else None

    def keep(self, keys: Iterable[FilterKey]) -> None:
        """Keeps active filters, of a listener that has not changed."""
        self.built.update((key, self.before[key]) for key in keys)

    def note_replaced(self, listeners: Iterable[ListenerConfig]) -> None:
        """Notes which active filters will be replaced by those of `listeners`, or removed, besides those of `keep`."""
        kept = {self._key(place, i, entry) for config in listeners for place, i, entry, _ in all_filters(config, "")}
        for key, built in self.before.items():
            if key not in kept and key not in self.built:
                self.modules.collectors.replace(built.registered)

    def check(self, config: ListenerConfig, path: str) -> Steps[None]:
        """Finds, in steps, what prevents the new filters of the listener at `path` from being built.

        Runs no code of theirs: shipped filters are created, and files are compiled.
        """
        for place, i, entry, inner in all_filters(config, path):
            if self._key(place, i, entry) in self.before:
                continue
            if is_from_file(entry):
                self._attempt(partial(self.modules.compile, self._file(entry)), entry, inner)
            elif isinstance(entry, FilterConfig) and entry.type in SHIPPED:
                self._attempt(partial(self._load, entry), entry, inner)
            yield

    def _get(self, place: str, index: int, entry: Entry, path: str) -> BuiltFilter | None:
        key = self._key(place, index, entry)
        built = self.before.get(key) or self._build(entry, path)
        if built is not None:
            self.built[key] = built
            self.used.append(key)
        return built

    def _key(self, place: str, index: int, entry: Entry) -> FilterKey:
        version = b""
        if is_from_file(entry):
            version = self.modules.key(self._file(entry))
        elif isinstance(entry, FilterConfig) and data_file(entry.type, entry.config) is not None:
            version = self.modules.version(self._file(entry))
        return place, index, msgspec.json.encode(entry), version

    def new(self) -> list[BuiltFilter]:
        """The filters that were not reused."""
        return [built for key, built in self.built.items() if key not in self.before]

    def _build(self, entry: Entry, path: str) -> BuiltFilter | None:
        registered = self.modules.collectors.record()
        with registered.recording():
            return self._attempt(partial(self._built, entry, path, registered), entry, path)

    def _built(self, entry: Entry, path: str, registered: Registrations) -> BuiltFilter:
        """Creates a filter. Raises whatever its code raises."""
        handle: FilterHandle | ConnectionFilterHandle
        made: StreamFilter | SharedState
        if isinstance(entry, FilterConfig):
            made = self._load(entry)
            timeout = -1.0 if entry.timeout is None else entry.timeout
            name = filter_name(entry)
            handle = FilterHandle(name, made, self.metrics, entry.on_error, timeout, entry.name, entry.disabled)
            _check_protocols(handle.protocols)
        else:
            kind, made = self._load_connection_filter(entry)
            handle = ConnectionFilterHandle(entry.known_name(), kind, made, self.metrics)
        secrets = KnownSecrets()
        self._hide(entry, getattr(handle.kind, "Config", None) or settings_class(entry), secrets)
        group = self.metrics.group("filter", ("filter", handle.name))
        count, index = self.share.count, self.share.index
        key = f"{entry.type}/{entry.name}" if isinstance(entry, FilterConfig) and entry.name else ""
        context = FilterContext(
            handle.name, self.log, self.clusters, self.clock, group, count, index, self.metrics, key, self.node
        )
        made.context = context
        return BuiltFilter(handle, path, context, secrets, registered)

    def _attempt(self, make: Callable[[], T], entry: Entry, path: str) -> T | None:
        """The result of `make`; None after an error of the filter at `path`, which is added without secrets."""
        secrets = KnownSecrets()
        self._hide(entry, settings_class(entry), secrets)
        try:
            return make()
        except FilterConfigError as error:
            problems = problems_of(error)
            self.faults += [error_at(f"{path}.config{inner}", secrets.hide(text)) for inner, text in problems]
        except (FilterLoadError, FilterClassError) as error:
            self.faults.append(error_at(path, secrets.hide(reason(error))))
        except BaseException as error:  # an attribute of the filter's class, or settings that a check has missed
            name = entry.type if isinstance(entry, FilterConfig) else filter_name(entry)
            text = f"filter {name!r} does not start: {describe(error)}"
            self.faults.append(error_at(path, secrets.hide(text)))
        return None

    def _hide(self, entry: Entry, kind: Any, secrets: KnownSecrets) -> None:
        """Collects the secrets in the settings of a filter, whose class is `kind`, and removes them from the log."""
        known = self.fields.get(id(kind))
        if known is None:
            known = self.fields[id(kind)] = kind, secret_fields(kind)
        fields = known[1]
        if fields:
            self.marks[filter_id(entry)] = fields | self.marks.get(filter_id(entry), NO_PATHS)

        def keep(secret: object) -> None:
            secrets.add(secret)
            self.log.hide(secret)

        redacted_settings(entry.config, fields, keep)

    def _load(self, entry: FilterConfig) -> StreamFilter:
        if entry.type not in SHIPPED:
            return load_installed(entry.type, dict(entry.config))
        if not is_from_file(entry):
            return self._make_shipped(entry)
        settings = {key: value for key, value in entry.config.items() if key not in ("path", "class")}
        made = load_filter(self._file(entry), str(entry.config["class"]), settings, self.modules)
        if entry.type == "transcoder" and not isinstance(made, Transcoder):
            raise FilterLoadError(f"{entry.config['class']} is not a subclass of pymosn.api.Transcoder")
        return made

    def _make_shipped(self, entry: FilterConfig) -> StreamFilter:
        spec = spec_of(entry.type)
        config = entry.config
        found = data_file(entry.type, config)
        if found is not None:
            content = self.modules.content(self._file(entry))
            config = {**config, found[0].content: base64.b64encode(content).decode()}
        assert spec.make is not None
        return spec.make(typed(config, spec.settings))

    def _load_connection_filter(self, entry: PythonConfig) -> Loaded:
        if entry.name:
            return load_installed_connection_filter(entry.name, dict(entry.config))
        return load_connection_filter(self._file(entry), entry.class_, dict(entry.config), self.modules)

    def _file(self, entry: Entry) -> Path:
        return Path(self.config_dir, file_of(entry))


def all_filters(config: ListenerConfig, path: str) -> Iterator[tuple[str, int, Entry, str]]:
    """The filters of the listener at `path`: where it is (see FilterKey), index, settings and path of each."""
    for i, entry in enumerate(config.stream_filters):
        yield config.known_name(), i, entry, f"{path}.stream_filters[{i}]"
    for i in range(len(config.filter_chains)):
        yield from _proxy_filters(config, path, i)
        yield from _connection_filters(config, path, i)


def _proxy_filters(config: ListenerConfig, path: str, index: int) -> Iterator[tuple[str, int, FilterConfig, str]]:
    place = f"{config.known_name()}\0{index}\0proxy"
    for i, filter in enumerate(config.filter_chains[index].filters):
        if isinstance(filter, ProxyFilter):
            for j, entry in enumerate(filter.config.stream_filters or ()):
                if entry.type not in NO_OP_STREAM_FILTERS:
                    yield place, j, entry, f"{path}.filter_chains[{index}].filters[{i}].config.stream_filters[{j}]"
            return


def _connection_filters(config: ListenerConfig, path: str, index: int) -> Iterator[tuple[str, int, PythonConfig, str]]:
    place = f"{config.known_name()}\0{index}"  # no name has a NUL
    for i, entry in config.filter_chains[index].connection_filters() if index < len(config.filter_chains) else ():
        yield place, i, entry, f"{path}.filter_chains[{index}].filters[{i}].config"


def is_from_file(entry: Entry) -> bool:
    """Whether a filter is a class in a file."""
    if isinstance(entry, PythonConfig):
        return not entry.name
    return shipped.is_from_file(entry.type, entry.config)


def has_file(entry: Entry) -> bool:
    """Whether a filter is a class in a file, or reads one."""
    return is_from_file(entry) or (isinstance(entry, FilterConfig) and data_file(entry.type, entry.config) is not None)


def file_of(entry: Entry) -> str:
    """The path of the file of a filter, as configured."""
    if isinstance(entry, PythonConfig):
        return entry.path
    found = data_file(entry.type, entry.config)
    return str(entry.config.get("path", "")) if found is None else found[1]


def file_key(entry: Entry) -> str:
    """The key of a filter's block with the path of its file."""
    if isinstance(entry, PythonConfig):
        return "path"
    found = data_file(entry.type, entry.config)
    return f"config.{'path' if found is None else found[0].path}"


def _check_protocols(names: Iterable[str]) -> None:
    """Raises FilterClassError for an unknown protocol name: the filter would silently never run."""
    for name in names:
        if name not in PROTOCOLS and name not in BUILT_PROTOCOLS and name not in installed(PROTOCOL_ENTRY_POINTS):
            known = ", ".join(sorted({*PROTOCOLS, *BUILT_PROTOCOLS} - {"Auto", "X"}))
            raise FilterClassError(f"protocols: unknown protocol {name!r}; known: {known}")


def filter_name(entry: Entry) -> str:
    """The name of a filter in counters and logs: its class, or its type."""
    if isinstance(entry, PythonConfig):
        return entry.known_name()
    return str(entry.config.get("class", entry.type)) if is_from_file(entry) else entry.type


def check_filters(listeners: list[ListenerConfig], config_dir: str) -> list[Diagnostic]:
    """Builds the filters of a checked configuration, and returns the errors.

    This runs the filters' modules and constructors, but not `start`.
    """
    modules = modules_on_disk(listeners, config_dir)
    builder = FilterBuilder(config_dir, Metrics(), Log(), {}, {}, modules)
    for i, listener in enumerate(listeners):
        builder.chain(listener, f"servers[0].listeners[{i}]")
        for j in range(len(listener.filter_chains)):
            builder.proxy_chain(listener, j, f"servers[0].listeners[{i}]")
            builder.connection_chain(listener, j, f"servers[0].listeners[{i}]")
    modules.rollback()
    return builder.faults


def modules_on_disk(listeners: list[ListenerConfig], config_dir: str) -> ModuleDraft:
    """The modules of filters as they are on disk now, outside of a worker."""
    return modules_of(filter_files(listeners, config_dir).values())


def modules_of(files: Collection[str]) -> ModuleDraft:
    """The modules of these files, and what they import, as they are on disk now."""
    sources = read_sources(files)
    faults = dict(sources.faults)
    if os.geteuid() == 0:
        for file in files:
            fault = writable_fault(Path(file), (0,))
            if fault:
                text = f"not imported as root, because any user of this machine could change it: {fault}"
                faults.setdefault(os.path.abspath(file), text)
    return ModuleStore().draft(sources.folders, faults)


def filter_files(listeners: list[ListenerConfig], config_dir: str) -> dict[str, str]:
    """The files of filters, code and others, by the path of the key in the configuration."""
    return {
        f"{path}.{file_key(entry)}": os.path.join(config_dir, file_of(entry))
        for i, listener in enumerate(listeners)
        for _, _, entry, path in all_filters(listener, f"servers[0].listeners[{i}]")
        if has_file(entry)
    }
