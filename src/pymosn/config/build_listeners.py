"""Listeners of the configuration as run-time objects of one worker."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from pymosn.api.network import FilterChainFactory
from pymosn.api.proxy import AccessLog
from pymosn.api.stream_filter import StreamFilter
from pymosn.config.faults import Fault
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema import ProxyConfig, ProxyFilter
from pymosn.config.schema import StreamFilter as StreamFilterConfig
from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS
from pymosn.core.counters import DownstreamStats
from pymosn.filters.stream.python import FilterLoadError, load_file, load_installed
from pymosn.network.listener import ConnectionNumbers, Listener
from pymosn.network.refusal import RefusalFactory
from pymosn.observe.access_log import AccessLogFile, compile_format
from pymosn.observe.logs import LogSet
from pymosn.protocol.http1.decoder import Http1Limits
from pymosn.proxy.filter_chain import NamedFilter, StreamFilters
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.proxy import ProxyFactory
from pymosn.proxy.runtime import Runtime
from pymosn.routing.table import TableSlot
from pymosn.stream.http1.options import Http1Options


class BuiltListener:
    """A listener, the configuration that it is built from, and what tells its filters' files apart.

    `listener` may be one in force with an older configuration, until `put_in_force`.
    """

    def __init__(
        self, config: ListenerConfig, filter_files: bytes, options: ProxyOptions | None, factory: FilterChainFactory
    ) -> None:
        """`options`: of its `proxy` filter, None when it has none and refuses every connection."""
        self.config = config
        self.filter_files = filter_files
        self._options = options
        self._factory = factory
        self.listener: Listener

    def put_in_force(self) -> None:
        """Lets the listener work as configured: its new connections, and the next exchange of each open one."""
        factory = self.listener.factory
        if self._options is not None and isinstance(factory, ProxyFactory):
            factory.replace(self._options)
        else:
            self.listener.factory = self._factory


class ListenerBuilder:
    """Builds the listeners of one configuration. What is wrong is collected in `faults`."""

    def __init__(
        self,
        runtime: Runtime,
        slots: Mapping[str, TableSlot],
        numbers: ConnectionNumbers,
        config_dir: str,
        base_dir: str,
        loop: asyncio.AbstractEventLoop,
        logs: LogSet,
    ) -> None:
        self.faults: list[Fault] = []
        self._runtime = runtime
        self._slots = slots
        self._numbers = numbers
        self._config_dir = config_dir
        self._base_dir = base_dir
        self._loop = loop
        self._logs = logs

    def listener(self, place: int, config: ListenerConfig, before: BuiltListener | None) -> BuiltListener:
        """The listener at `place` of the configuration, not started.

        `before`, the listener of that name in force, is returned when nothing has changed. When it has but the address has
        not, the result has the same `Listener`, to be changed by `put_in_force`.
        """
        filter_files = self._filter_files(config)
        if before is not None and before.config == config and before.filter_files == filter_files:
            return before
        path = f"servers[0].listeners[{place}]"
        name = config.name or config.address
        stats = DownstreamStats(self._runtime.metrics.group("downstream", ("listener", name)))
        options: ProxyOptions | None = None
        for chain in config.filter_chains:
            for entry in chain.filters:
                if isinstance(entry, ProxyFilter):
                    options = self._options(name, config, entry.config, stats, path)
        factory: FilterChainFactory = RefusalFactory() if options is None else ProxyFactory(self._runtime, options)
        built = BuiltListener(config, filter_files, options, factory)
        if before is not None and has_same_socket(before.config, config):
            built.listener = before.listener
        else:
            clock, wheel = self._runtime.clock, self._runtime.wheel
            built.listener = Listener(name, config.address, factory, stats, self._numbers, clock, wheel)
        return built

    def _options(
        self, name: str, config: ListenerConfig, proxy: ProxyConfig, stats: DownstreamStats, path: str
    ) -> ProxyOptions:
        http1 = proxy.extend_config.Http1
        # `Auto` is every protocol that is built, in the order of their registration.
        known = self._runtime.protocols
        names = [name for name in proxy.downstream_protocol.split(",") if known.get(name) is not None] or known.names()
        limits = Http1Limits(http1.max_header_size, http1.max_header_count, http1.max_request_body_size)
        return ProxyOptions(
            name,
            [protocol for wanted in names if (protocol := known.get(wanted)) is not None],
            {"Http1": Http1Options(limits, config.connection_idle_timeout, http1.header_timeout, http1.body_timeout)},
            self._slots.get(proxy.router_config_name) or TableSlot(proxy.router_config_name),
            self._stream_filters(config, path),
            stats,
            self._access_logs(name, config, path),
            http1.x_forwarded,
            http1.x_request_id,
            http1.reason_header,
            http1.stream_idle_timeout,
        )

    def _access_logs(self, name: str, config: ListenerConfig, path: str) -> list[AccessLog]:
        made: list[AccessLog] = []
        for number, entry in enumerate(config.access_logs):
            log_path = entry.log_path or os.path.join(self._base_dir, "logs", f"{name}_access.log")
            try:
                destination = self._logs.access_destination(log_path, self._loop.call_soon)
                line = compile_format(entry.log_format).bind(self._runtime.clock, name, config.type)
            except (OSError, ValueError) as error:
                self._fault(f"{path}.access_logs[{number}]", str(error))
                continue
            made.append(AccessLogFile(destination, line))
        return made

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(severity="error", file="", line=0, column=0, path=path, message=message))

    def _stream_filters(self, config: ListenerConfig, path: str) -> StreamFilters:
        made: list[NamedFilter] = []
        for number, entry in enumerate(config.stream_filters):
            if entry.type in NO_OP_STREAM_FILTERS:
                continue
            try:
                stream_filter = self._stream_filter(entry)
            except FilterLoadError as error:
                self._fault(f"{path}.stream_filters[{number}]", str(error))
                continue
            name = str(entry.config.get("class", entry.type)) if entry.type == "python" else entry.type
            made.append(NamedFilter(name, stream_filter, self._runtime.metrics))
        return StreamFilters(made)

    def _stream_filter(self, entry: StreamFilterConfig) -> StreamFilter:
        if entry.type != "python":
            return load_installed(entry.type, dict(entry.config))
        settings = {key: value for key, value in entry.config.items() if key not in ("path", "class")}
        return load_file(Path(self._config_dir, str(entry.config["path"])), str(entry.config["class"]), settings)

    def _filter_files(self, config: ListenerConfig) -> bytes:
        """What tells whether the files of the listener's filters are still the same."""
        digest = hashlib.blake2b(digest_size=16)
        for entry in config.stream_filters:
            if entry.type == "python":
                try:
                    digest.update(Path(self._config_dir, str(entry.config["path"])).read_bytes())
                except (OSError, ValueError, KeyError):
                    digest.update(b"unreadable")
        return digest.digest()


def has_same_socket(one: ListenerConfig, other: ListenerConfig) -> bool:
    """Whether a listener can pass from one configuration to the other without another socket."""
    return (one.address, one.bind_port) == (other.address, other.bind_port)
