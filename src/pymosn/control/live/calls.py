"""The paths of the dashboard's data: the stream of server-sent events `/api/v1/live`, tables, versions of the configuration.

All of them only read. The stream begins with the event `hello`, which has the last points of the plots; `points`
follow each second. A comment is sent when there is nothing else, so that both ends notice a lost connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from pymosn.control.access import Power
from pymosn.control.handlers import Call
from pymosn.control.live.sampler import POINTS, Sampler, TooManyWatchersError, Watcher
from pymosn.control.live.tables import TABLES, QueryError, Row, Tables, query_of
from pymosn.control.live.versions import UnknownVersionError, Versions
from pymosn.control.plane import ControlPlane
from pymosn.control.service import Service
from pymosn.core.log import Log

#: Seconds after which a comment is sent, so that a lost connection is noticed.
HEARTBEAT: Final = 10.0
#: Names of sections of one answer.
MOST_NAMES: Final = 500

_EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
#: Without it some proxies in between collect a response before they pass it on.
_UNBUFFERED: Final = {"x-accel-buffering": "no"}


class Live(Service):
    """What the dashboard shows, for all sockets of the admin API. It only works while someone watches."""

    name = "dashboard"

    def __init__(self, plane: ControlPlane, log: Log | None = None, versions: Versions | None = None) -> None:
        """`versions`: its owner notes each change; by default there is none."""
        self.plane = plane
        self.versions = versions or Versions(plane.current, plane.shown, log)
        self.sampler = Sampler(plane, log)
        self._tables = Tables(plane, self.sampler)

    async def start(self) -> None:
        """Records the first version: the secret fields of all filters are known, because the workers run."""
        self.versions.note(self.plane.last_change())

    async def stop(self) -> None:
        """Ends all streams."""
        self.sampler.close()
        self.versions.close()

    def calls(self) -> list[Call]:
        """The paths."""
        gets: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
            ("/api/v1/live", self._stream),
            ("/api/v1/live/overview", self._overview),
            ("/api/v1/live/workers", self._workers),
            *((f"/api/v1/live/{name}", partial(self._table, name)) for name in TABLES),
            ("/api/v1/versions", self._versions),
            ("/api/v1/versions/sections", self._sections),
            ("/api/v1/versions/section", self._section),
            ("/api/v1/versions/difference", self._difference),
        ]
        return [Call(path, "GET", Power.READ, handler) for path, handler in gets]

    async def _stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers=_UNBUFFERED, media_type=_EVENT_STREAM)
        try:
            number = _number(request.query_params, "history", POINTS, POINTS)
            watcher = self.sampler.join()
        except QueryError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except TooManyWatchersError:
            return PlainTextResponse("too many dashboards are open, or the process is stopping\n", 503)
        return StreamingResponse(self._events(watcher, number), headers=_UNBUFFERED, media_type=_EVENT_STREAM)

    async def _events(self, watcher: Watcher, number: int) -> AsyncIterator[str]:
        sampler = self.sampler
        try:
            yield _event("hello", {"points": sampler.history(watcher, number), **await self._facts()})
            while not sampler.is_closed:
                points = await sampler.next_points(watcher, HEARTBEAT)
                if points:
                    yield _event("points", {"points": points, **await self._facts()})
                elif not sampler.is_closed:
                    yield ": alive\n\n"
        finally:
            sampler.leave(watcher)

    async def _overview(self, request: Request) -> Response:
        """The last points, and the facts that come along with each; for programs that ask each second."""
        try:
            number = _number(request.query_params, "history", POINTS, 1)
        except QueryError as error:
            return PlainTextResponse(f"{error}\n", 400)
        await self.sampler.current()
        return _json({"points": self.sampler.history(None, number), **await self._facts()})

    async def _facts(self) -> Row:
        """What is shown in addition to the points, all of it small."""
        plane, sample = self.plane, await self.sampler.current()
        config, change = plane.current(), plane.last_change()
        clusters = config.cluster_manager.clusters
        ejected = failed = 0
        for key, group in sample.by_key.items():
            if key[0] == "upstream" and len(key[1]) > 1:
                ejected += group["gauges"].get("ejected", 0) > 0
                failed += group["gauges"].get("failed_active_check", 0) > 0
        memory = [process.memory for process in sample.processes.values()]
        shares = [process.share for process in sample.processes.values() if process.share is not None]
        server = config.servers[0]
        return {
            "now": round(sample.time, 3),
            "pid": plane.pid(),
            "program": plane.version(),
            "state": plane.state(),
            "draining": plane.is_draining(),
            "started": plane.started(),
            "config_version": change.version,
            "last_change": {"source": change.source, "applied": change.applied, "message": change.message},
            "counts": {
                "listeners": len(server.listeners),
                "tables": len(server.router_tables()),
                "clusters": len(clusters),
                "hosts": sum(len(cluster.hosts) for cluster in clusters),
                "failed_checks": failed,
                "ejected": ejected,
                "workers": len(plane.workers()),
                "running": sum(worker["state"] == "running" for worker in plane.workers()),
            },
            "memory": sum(memory),
            "cpu": round(sum(shares), 3) if shares else None,
        }

    async def _workers(self, request: Request) -> Response:
        """The processes of this generation, and the generations."""
        plane, sample = self.plane, await self.sampler.current()
        rows = [{"role": "supervisor", "pid": plane.pid(), "state": "", "started": plane.started()}]
        for index, worker in enumerate(plane.workers(), 1):
            rows.append({"role": f"worker {index}", **worker})
        for row in rows:
            process = sample.processes.get(int(str(row["pid"])))
            row["memory"] = None if process is None else process.memory
            row["cpu"] = None if process is None or process.share is None else round(process.share, 4)
            row["cpu_seconds"] = None if process is None else round(process.cpu, 2)
            row["threads"] = None if process is None else process.threads
        return _json({"processes": rows, "generations": plane.generations(), "time": round(sample.time, 3)})

    async def _table(self, name: str, request: Request) -> Response:
        try:
            return _json(await self._tables.page(name, query_of(dict(request.query_params), TABLES[name])))
        except QueryError as error:
            return PlainTextResponse(f"{error}\n", 400)

    async def _versions(self, request: Request) -> Response:
        return _json(self.versions.view())

    async def _sections(self, request: Request) -> Response:
        parameters = request.query_params
        text = parameters.get("q", "").strip()
        return await self._of_version(
            parameters,
            ("version",),
            lambda version: self.versions.section_names(
                version, text, _number(parameters, "offset", 10_000_000, 0), _number(parameters, "limit", MOST_NAMES, 100)
            ),
        )

    async def _section(self, request: Request) -> Response:
        parameters = request.query_params
        name = parameters.get("name", "")
        return await self._of_version(
            parameters,
            ("version",),
            lambda version: {"version": version, "name": name, "text": self.versions.section(version, name)},
        )

    async def _difference(self, request: Request) -> Response:
        return await self._of_version(request.query_params, ("from", "to"), self.versions.difference)

    async def _of_version(self, parameters: Mapping[str, str], names: tuple[str, ...], show: Callable[..., Any]) -> Response:
        try:
            numbers = [_number(parameters, name, 1_000_000_000, None) for name in names]
            return _json(await asyncio.to_thread(show, *numbers))
        except QueryError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except UnknownVersionError as error:
            return PlainTextResponse(f"{error}\n", 404)


def _number(parameters: Mapping[str, str], name: str, most: int, default: int | None) -> int:
    """A parameter that is a number. QueryError."""
    text = parameters.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise QueryError(f"{name} must be a number from 0 to {most}")
    return int(text)


def _json(value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json")


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n"
