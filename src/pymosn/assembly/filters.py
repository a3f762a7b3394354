"""The stream filters of the configuration as objects of one worker: made, checked, and shared where nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pymosn.api.stream_filter import ClusterClient, FilterContext, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import StreamFilter as FilterConfig
from pymosn.config.schema.network_filters import PROTOCOLS
from pymosn.config.schema.stream_filters import FILE_STREAM_FILTERS, NO_OP_STREAM_FILTERS, STREAM_FILTERS
from pymosn.config.typed import typed
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.protocols import installed_protocols
from pymosn.filters.stream.python import FilterConfigError, FilterLoadError, load_file, load_installed, source_digest
from pymosn.filters.stream.shipped import SHIPPED, make_shipped
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.stream.registry import protocols

BUILT_PROTOCOLS: Final = frozenset(protocols().names())

#: What tells a filter from any other: its listener, its place there, its configuration, and its file's content.
FilterKey = tuple[str, int, bytes, bytes]


class BuiltFilter:
    """A filter, and where in the configuration it stands."""

    def __init__(self, named: FilterHandle, path: str) -> None:
        self.named = named
        self.path = path
        #: Whether its `start` has succeeded and its `stop` is owed.
        self.is_started = False


class FilterBuilder:
    """Makes the filters of one configuration. What is wrong is collected in `faults`.

    A filter of which nothing has changed is the object that it was before.
    """

    def __init__(
        self,
        config_dir: str,
        metrics: Metrics,
        log: Log,
        clusters: Mapping[str, ClusterClient],
        before: Mapping[FilterKey, BuiltFilter],
        clock: Clock | None = None,
        workers: int = 1,
        worker: int = 0,
    ) -> None:
        """`config_dir`: what paths are relative to. `before`: the filters in force.

        `workers`, `worker`: how many share what the filters count, and which of them this is.
        """
        self.faults: list[Diagnostic] = []
        self.built: dict[FilterKey, BuiltFilter] = {}
        self._config_dir = config_dir
        self._metrics = metrics
        self._log = log
        self._clusters = clusters
        self._before = before
        self._clock = Clock() if clock is None else clock
        self._workers = workers
        self._worker = worker

    def chain(self, config: ListenerConfig, path: str) -> StreamFilters:
        """The chain of a listener, which stands at `path`."""
        made: list[FilterHandle] = []
        for number, entry in enumerate(config.stream_filters):
            if entry.type not in NO_OP_STREAM_FILTERS:
                place = f"{path}.stream_filters[{number}]"
                built = self._get(config.name or config.address, number, entry, place)
                if built is not None:
                    made.append(built.named)
        return StreamFilters(made)

    def _get(self, listener: str, number: int, entry: FilterConfig, place: str) -> BuiltFilter | None:
        settings = msgspec.json.encode(entry)
        built = self._before.get((listener, number, settings, self.file_digest(entry))) or self._build(entry, place)
        if built is not None:
            # Making it may have imported more of its files.
            self.built[listener, number, settings, self.file_digest(entry)] = built
        return built

    def new(self) -> list[BuiltFilter]:
        """Those that were not there before."""
        return [built for key, built in self.built.items() if key not in self._before]

    def file_digest(self, entry: FilterConfig) -> bytes:
        """What tells whether the files of a filter are still the same; empty when it has none."""
        if entry.type not in FILE_STREAM_FILTERS:
            return b""
        return source_digest(self._file(entry))

    def _build(self, entry: FilterConfig, path: str) -> BuiltFilter | None:
        try:
            stream_filter = self._load(entry)
            name = filter_name(entry)
            timeout = -1.0 if entry.timeout is None else entry.timeout
            named = FilterHandle(name, stream_filter, self._metrics, entry.on_error, timeout)
            _check_protocols(stream_filter)
        except FilterConfigError as error:
            for where, text in error.problems:
                self._fault(f"{path}.config{where}", text)
            return None
        except (FilterLoadError, TypeError) as error:
            self._fault(path, str(error))
            return None
        group = self._metrics.group("filter", ("filter", name))
        context = FilterContext(name, self._log, self._clusters, self._clock, group, self._workers, self._worker)
        stream_filter.context = context
        return BuiltFilter(named, path)

    def _load(self, entry: FilterConfig) -> StreamFilter:
        if entry.type in SHIPPED:
            return make_shipped(entry.type, typed(entry.config, STREAM_FILTERS[entry.type]))
        if entry.type not in FILE_STREAM_FILTERS:
            return load_installed(entry.type, dict(entry.config))
        settings = {key: value for key, value in entry.config.items() if key not in ("path", "class")}
        made = load_file(self._file(entry), str(entry.config["class"]), settings)
        if entry.type == "transcoder" and not isinstance(made, Transcoder):
            raise FilterLoadError(f"{entry.config['class']} is not a subclass of pymosn.api.Transcoder")
        return made

    def _file(self, entry: FilterConfig) -> Path:
        return Path(self._config_dir, str(entry.config.get("path", "")))

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(Diagnostic(severity="error", file="", line=0, column=0, path=path, message=message))


def _check_protocols(stream_filter: StreamFilter) -> None:
    """Raises TypeError for the name of a protocol that is none: exchanges would pass by the filter unseen."""
    unknown = [name for name in stream_filter.protocols if name not in PROTOCOLS and name not in BUILT_PROTOCOLS]
    unknown = [name for name in unknown if name not in installed_protocols()]
    if unknown:
        known = ", ".join(sorted({*PROTOCOLS, *BUILT_PROTOCOLS} - {"Auto", "X"}))
        raise TypeError(f"protocols: there is no protocol {unknown[0]!r}; there are {known}")


def filter_name(entry: FilterConfig) -> str:
    """Under which name a filter is counted and logged: its class, or its type."""
    return str(entry.config.get("class", entry.type)) if entry.type in FILE_STREAM_FILTERS else entry.type


def check_filters(listeners: list[ListenerConfig], config_dir: str) -> list[Diagnostic]:
    """Makes the filters of a checked configuration and forgets them; what is wrong with them.

    This runs the filters' modules and constructors, but not `start`.
    """
    builder = FilterBuilder(config_dir, Metrics(), Log(), {}, {})
    for number, listener in enumerate(listeners):
        builder.chain(listener, f"servers[0].listeners[{number}]")
    return builder.faults
