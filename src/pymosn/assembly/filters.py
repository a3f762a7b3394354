"""Builds the stream filters of one worker from the configuration; unchanged filters are reused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pymosn.api.stream_filter import ClusterClient, FilterContext, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.assembly.share import WorkerShare
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.dump import filter_id
from pymosn.config.read import settings_class
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import StreamFilter as FilterConfig
from pymosn.config.schema.network_filters import PROTOCOLS
from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS
from pymosn.config.typed import typed
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.errors import reason
from pymosn.core.log import ERROR, Log
from pymosn.core.redaction import KnownSecrets
from pymosn.filters.errors import FilterConfigError, FilterLoadError, describe
from pymosn.filters.loading import PROTOCOLS as PROTOCOL_ENTRY_POINTS
from pymosn.filters.loading import installed, load_filter, load_installed
from pymosn.filters.modules import compile_file, source_digest
from pymosn.filters.secret_fields import NO_PATHS, Paths, redacted_settings, secret_fields
from pymosn.filters.stream.shipped import FROM_FILES, SHIPPED, spec_of
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.stream.registry import protocols

#: Seconds that `start` and `stop` of a filter may take.
START_TIME: Final = 10.0
STOP_TIME: Final = 5.0
BUILT_PROTOCOLS: Final = frozenset(protocols().names())

T = TypeVar("T")

#: The identity of a filter: its listener, its index there, its configuration, and a digest of its file.
FilterKey = tuple[str, int, bytes, bytes]


class BuiltFilter(msgspec.Struct, eq=False):
    """A filter, with its path in the configuration."""

    handle: FilterHandle
    path: str
    #: The secrets of its settings, which errors must not show.
    secrets: KnownSecrets
    #: Whether its `start` has succeeded, so that `stop` must be called.
    is_started: bool = False

    async def start(self) -> list[Diagnostic]:
        """Starts the filter, within bounded time; returns the error."""
        text = ""
        try:
            async with asyncio.timeout(START_TIME):
                starting: object = self.handle.filter.start()
                if isinstance(starting, Awaitable):
                    await starting
                    self.is_started = True
                else:
                    text = "`start` must be `async def`"
        except TimeoutError:
            text = f"`start` did not finish within {START_TIME:g} s"
        except BaseException as error:
            _raise_if_cancelled(error)
            text = f"does not start: {self.secrets.hide(describe(error))}"
        return [error_at(self.path, f"filter {self.handle.name!r} {text}")] if text else []

    async def stop(self) -> None:
        """Cancels the tasks of the filter and stops it, within bounded time; an error is logged."""
        context = self.handle.filter.context
        try:
            async with asyncio.timeout(STOP_TIME):
                await context.end_tasks()
                if self.is_started:
                    self.is_started = False
                    stopping: object = self.handle.filter.stop()
                    if isinstance(stopping, Awaitable):
                        await stopping
        except BaseException as error:
            _raise_if_cancelled(error)
            context.write(f"`stop` failed: {describe(error)}", ERROR)


def _raise_if_cancelled(error: BaseException) -> None:
    """Raises an error that is not the filter's own: the cancellation of the current task, or Ctrl-C."""
    task = asyncio.current_task()
    if isinstance(error, KeyboardInterrupt) or (task is not None and task.cancelling()):
        raise error


async def start_filters(filters: Iterable[BuiltFilter]) -> list[Diagnostic]:
    """Starts filters concurrently; returns their errors."""
    results = await asyncio.gather(*(_in_own_context(built.start()) for built in filters))
    return [fault for faults in results for fault in faults]


async def stop_filters(filters: Iterable[BuiltFilter]) -> None:
    """Stops filters, one after the other."""
    for built in filters:
        await _in_own_context(built.stop())


def _in_own_context(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Runs code of one filter, so that its context variables are not visible elsewhere; see `pymosn.proxy.contexts`."""
    return asyncio.get_running_loop().create_task(work, context=Context())


class FilterBuilder(msgspec.Struct, eq=False):
    """Builds the filters of one configuration; collects errors in `faults`. Unchanged filters stay the same objects.

    `config_dir`: directory for relative paths. `before`: the active filters.
    """

    config_dir: str
    metrics: Metrics
    log: Log
    clusters: Mapping[str, ClusterClient]
    before: Mapping[FilterKey, BuiltFilter]
    clock: Clock = msgspec.field(default_factory=Clock)
    share: WorkerShare = WorkerShare()
    faults: list[Diagnostic] = []
    built: dict[FilterKey, BuiltFilter] = {}
    #: The fields that the new filters mark as secret.
    marks: dict[str, Paths] = {}

    def chain(self, config: ListenerConfig, path: str) -> StreamFilters:
        """The filters of the listener at `path`."""
        made = [
            self._get(config.known_name(), i, entry, f"{path}.stream_filters[{i}]")
            for i, entry in enumerate(config.stream_filters)
            if entry.type not in NO_OP_STREAM_FILTERS
        ]
        return StreamFilters([built.handle for built in made if built is not None])

    def check(self, config: ListenerConfig, path: str) -> None:
        """Finds what prevents the new filters of the listener at `path` from being built, without running code of theirs.

        Shipped filters are created, and files are compiled.
        """
        for i, entry in enumerate(config.stream_filters):
            inner = f"{path}.stream_filters[{i}]"
            if self._key(config.known_name(), i, entry) in self.before:
                continue
            if entry.type in FROM_FILES:
                self._attempt(partial(compile_file, self._file(entry)), entry, inner)
            elif entry.type in SHIPPED:
                self._attempt(partial(self._load, entry), entry, inner)

    def _get(self, listener: str, index: int, entry: FilterConfig, path: str) -> BuiltFilter | None:
        built = self.before.get(self._key(listener, index, entry)) or self._build(entry, path)
        if built is not None:
            # The digest again, because building it may have imported neighbours.
            self.built[self._key(listener, index, entry)] = built
        return built

    def _key(self, listener: str, index: int, entry: FilterConfig) -> FilterKey:
        return listener, index, msgspec.json.encode(entry), self.file_digest(entry)

    def new(self) -> list[BuiltFilter]:
        """The filters that were not reused."""
        return [built for key, built in self.built.items() if key not in self.before]

    def file_digest(self, entry: FilterConfig) -> bytes:
        """A digest of the files of a filter; empty if it has none."""
        return source_digest(self._file(entry)) if entry.type in FROM_FILES else b""

    def _build(self, entry: FilterConfig, path: str) -> BuiltFilter | None:
        handle = self._attempt(partial(self._handle, entry), entry, path)
        if handle is None:
            return None
        secrets = KnownSecrets()
        self._hide(entry, getattr(handle.filter, "Config", None) or settings_class(entry), secrets)
        group = self.metrics.group("filter", ("filter", handle.name))
        count, index = self.share.count, self.share.index
        handle.filter.context = FilterContext(handle.name, self.log, self.clusters, self.clock, group, count, index)
        return BuiltFilter(handle, path, secrets)

    def _handle(self, entry: FilterConfig) -> FilterHandle:
        stream_filter = self._load(entry)
        timeout = -1.0 if entry.timeout is None else entry.timeout
        handle = FilterHandle(filter_name(entry), stream_filter, self.metrics, entry.on_error, timeout)
        _check_protocols(stream_filter)
        return handle

    def _attempt(self, make: Callable[[], T], entry: FilterConfig, path: str) -> T | None:
        """The result of `make`; None after an error of the filter at `path`, which is added without secrets."""
        secrets = KnownSecrets()
        self._hide(entry, settings_class(entry), secrets)
        try:
            return make()
        except FilterConfigError as error:
            self.faults += [error_at(f"{path}.config{inner}", secrets.hide(text)) for inner, text in error.problems]
        except (FilterLoadError, TypeError) as error:
            self.faults.append(error_at(path, secrets.hide(reason(error))))
        except Exception as error:  # an attribute of the filter's class, or settings that a check has missed
            text = f"filter {entry.type!r} does not start: {describe(error)}"
            self.faults.append(error_at(path, secrets.hide(text)))
        return None

    def _hide(self, entry: FilterConfig, kind: Any, secrets: KnownSecrets) -> None:
        """Collects the secrets in the settings of a filter, whose class is `kind`, and removes them from the log."""
        fields = secret_fields(kind)
        if fields:
            self.marks[filter_id(entry)] = fields | self.marks.get(filter_id(entry), NO_PATHS)

        def keep(secret: object) -> None:
            secrets.add(secret)
            self.log.hide(secret)

        redacted_settings(entry.config, fields, keep)

    def _load(self, entry: FilterConfig) -> StreamFilter:
        if entry.type not in SHIPPED:
            return load_installed(entry.type, dict(entry.config))
        spec = spec_of(entry.type)
        if spec.make is not None:
            return spec.make(typed(entry.config, spec.settings))
        settings = {key: value for key, value in entry.config.items() if key not in ("path", "class")}
        made = load_filter(self._file(entry), str(entry.config["class"]), settings)
        if entry.type == "transcoder" and not isinstance(made, Transcoder):
            raise FilterLoadError(f"{entry.config['class']} is not a subclass of pymosn.api.Transcoder")
        return made

    def _file(self, entry: FilterConfig) -> Path:
        return Path(self.config_dir, str(entry.config.get("path", "")))


def _check_protocols(stream_filter: StreamFilter) -> None:
    """Raises TypeError for an unknown protocol name: the filter would silently never run."""
    for name in stream_filter.protocols:
        if name not in PROTOCOLS and name not in BUILT_PROTOCOLS and name not in installed(PROTOCOL_ENTRY_POINTS):
            known = ", ".join(sorted({*PROTOCOLS, *BUILT_PROTOCOLS} - {"Auto", "X"}))
            raise TypeError(f"protocols: unknown protocol {name!r}; known: {known}")


def filter_name(entry: FilterConfig) -> str:
    """The name of a filter in counters and logs: its class, or its type."""
    return str(entry.config.get("class", entry.type)) if entry.type in FROM_FILES else entry.type


def check_filters(listeners: list[ListenerConfig], config_dir: str) -> list[Diagnostic]:
    """Builds the filters of a checked configuration, and returns the errors.

    This runs the filters' modules and constructors, but not `start`.
    """
    builder = FilterBuilder(config_dir, Metrics(), Log(), {}, {})
    for i, listener in enumerate(listeners):
        builder.chain(listener, f"servers[0].listeners[{i}]")
    return builder.faults
