"""The configured sinks of metrics: MOSN's text for Prometheus, each on a port of its own (docs/metrics.md)."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pymosn.api.network import join_address
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.observability import Metrics, PrometheusSink, sinks_to_serve
from pymosn.control.http_server import HttpServer
from pymosn.control.plane import ControlPlane
from pymosn.control.service import Service
from pymosn.core.counters import GroupData
from pymosn.core.log import ERROR, INFO, Log
from pymosn.observe.mosn_text import meta_group, mosn_text, process_text, recorded, touched
from pymosn.observe.processes import process_limits, total_use
from pymosn.observe.totals import sum_of, with_global
from pymosn.server.process_sockets import ProcessSockets
from pymosn.server.sockets import BindError
from pymosn.version import VERSION

#: Seconds between two attempts to bind the port of a sink that a reload has added.
RETRY: Final = 1.0
#: The content type of Go's client.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class MetricsSinks(Service):
    """Serves the sinks of the active configuration.

    A port that a reload adds and that cannot be bound is tried again each second: what was checked cannot be rejected any
    more. The metrics are those of all processes, and of all generations so far.
    """

    name = "metrics sinks"

    def __init__(
        self,
        sockets: ProcessSockets,
        plane: ControlPlane,
        begin: Callable[[Coroutine[Any, Any, object]], None],
        call_later: Callable[..., object],
        log: Log,
    ) -> None:
        self._sockets = sockets
        self._plane = plane
        self._begin = begin
        self._call_later = call_later
        self._log = log
        self._servers: dict[int, HttpServer] = {}
        self._wanted: dict[int, PrometheusSink] = {}
        self._failed: set[int] = set()
        self._lock = asyncio.Lock()
        self._is_stopped = False

    async def start(self) -> None:
        self._wanted = {port: PrometheusSink(port=port) for port in self._sockets.sinks}
        await self._adapt()

    def follow(self, config: MosnConfig) -> None:
        """Serves the sinks of a configuration from now on."""
        self._wanted = {settings.port: settings for settings in sinks_to_serve(config.metrics)}
        if not self._is_stopped and (self._wanted.keys() != self._servers.keys()):
            self._begin(self._adapt())

    async def stop(self) -> None:
        self._is_stopped = True
        async with self._lock:
            for port in list(self._servers):
                await self._close(port)

    def stop_listening(self) -> None:
        """Accepts no further connections: another process does."""
        self._is_stopped = True
        for server in self._servers.values():
            server.stop_listening()

    async def _adapt(self) -> None:
        """Opens and closes servers until they are those of the configuration."""
        async with self._lock:
            for port in [port for port in self._servers if port not in self._wanted]:
                await self._close(port)
            for port in [port for port in self._wanted if port not in self._servers]:
                if not self._is_stopped:
                    await self._open(port)

    async def _open(self, port: int) -> None:
        try:
            sock = self._sockets.sinks.get(port) or self._sockets.bind_sink(port)
        except BindError as error:
            if port not in self._failed:
                self._failed.add(port)
                self._log.write(ERROR, f"{error}; trying again each {RETRY:g} s")
            self._call_later(RETRY, lambda: self._begin(self._adapt()))
            return
        self._failed.discard(port)
        server = HttpServer(self._app(port), [sock], f"metrics sink on port {port}")
        await server.start()
        self._servers[port] = server
        self._log.write(INFO, f"metrics sink on http://0.0.0.0:{port}{self._settings(port).endpoint}")

    async def _close(self, port: int) -> None:
        await self._servers.pop(port).stop()
        sock = self._sockets.sinks.pop(port, None)
        if sock is not None:
            sock.close()

    def _settings(self, port: int) -> PrometheusSink:
        return self._wanted.get(port) or PrometheusSink(port=port)

    def _app(self, port: int) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            settings = self._settings(port)
            if scope["path"] == settings.endpoint:
                response = Response(await self.text(settings), headers={"content-type": CONTENT_TYPE})
            else:
                response = PlainTextResponse("404 page not found\n", 404)
            await response(scope, receive, send)

        return serve

    async def text(self, settings: PrometheusSink) -> str:
        """The metrics as MOSN's sink writes them."""
        groups, metrics = await self._plane.stats(), self._plane.current().metrics or Metrics()
        config, workers = self._plane.current(), [worker["pid"] for worker in self._plane.workers()]
        meta: list[GroupData] = []
        if metrics.flush_mosn:
            addresses = [listener.address for listener in config.servers[0].listeners]
            addresses += [join_address(*address) for address in self._sockets.services()]
            meta = [meta_group(VERSION, platform.python_version(), addresses, self._plane.state())]
        # In a thread: with many hosts it takes seconds.
        return await asyncio.to_thread(self._write, settings, metrics, [*groups, *meta], workers)

    def _write(self, settings: PrometheusSink, metrics: Metrics, groups: list[GroupData], workers: list[int]) -> str:
        shown = recorded(with_global(sum_of([groups])), metrics.stats_matcher)
        if metrics.lazy_flush:
            shown = touched(shown)
        before = ""
        if not settings.disable_collect_process:
            before = process_text(total_use(workers), self._plane.started(), process_limits())
        return before + mosn_text(shown, settings.percentiles)
