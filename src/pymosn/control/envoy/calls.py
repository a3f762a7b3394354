"""The paths of Envoy's admin API. What changes anything is a POST, as in Envoy, and needs what `access.py` demands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.access import Power
from pymosn.control.envoy import statuses
from pymosn.control.envoy.bootstrap_file import LEVELS
from pymosn.control.envoy.facts import STATIC
from pymosn.control.envoy.queries import NotFoundError, QueryError, with_names
from pymosn.control.envoy.state import server_state
from pymosn.control.envoy.stats import Process, Stat, as_json, as_lines, as_prometheus, envoy_stats, selected
from pymosn.control.handlers import Call, Handler, get, json_response, log_call
from pymosn.control.plane import RUNNING, START_LOG, ControlPlane
from pymosn.control.statistics import Scrapes
from pymosn.control.xds.types import CLUSTER
from pymosn.observe.totals import sum_of

#: Our levels -> Envoy's.
_NAMES: Final = {
    "TRACE": "trace",
    "DEBUG": "debug",
    "INFO": "info",
    "WARN": "warning",
    "ERROR": "error",
    "FATAL": "critical",
}
_NO_EXTRA: Final = (
    "the messages of xDS need the optional dependency `xds`: pip install 'pymosn[xds]'; see /api/v1/config_dump\n"
)


def routes(plane: ControlPlane) -> list[Call]:
    """All paths but `/ready`, which is the same in both."""
    scrapes = Scrapes()
    return [
        get(plane, "/stats", partial(_stats, scrapes)),
        get(plane, "/stats/prometheus", partial(_prometheus, scrapes), is_public=True),
        get(plane, "/server_info", _server_info),
        get(plane, "/config_dump", _config_dump),
        get(plane, "/clusters", _clusters),
        get(plane, "/listeners", _listeners),
        get(plane, "/certs", _certs),
        log_call(plane, "/logging", _logging, None),
        _drain_call(plane, "/drain_listeners", _drain_listeners, ("graceful", "skip_exit", "inboundonly")),
        _drain_call(plane, "/healthcheck/fail", partial(_set_failing, True)),
        _drain_call(plane, "/healthcheck/ok", partial(_set_failing, False)),
        _drain_call(plane, "/quitquitquit", _quit),
    ]


def _drain_call(plane: ControlPlane, path: str, handler: Handler, parameters: tuple[str, ...] = ()) -> Call:
    return Call(path, "POST", Power.DRAIN, partial(handler, plane), parameters=parameters)


async def _answered(make: Callable[[], Any]) -> Response:
    """What `make` returns, run in a thread: text, or a value as JSON. A QueryError is the fault of the client."""
    try:
        shown = await asyncio.to_thread(make)
    except QueryError as error:
        return PlainTextResponse(f"{error}\n", 404 if isinstance(error, NotFoundError) else 400)
    return PlainTextResponse(shown) if isinstance(shown, str) else json_response(shown)


# ---- metrics


async def _all_stats(plane: ControlPlane) -> Callable[[], list[Stat]]:
    """Makes the metrics; to be called in a thread."""
    groups, clusters = await plane.stats(), await plane.live_clusters()
    listeners = plane.current().servers[0].listeners
    facts = plane.facts(with_resources=False)
    process = Process(
        server_state(plane), int(time.time() - plane.started()), len(plane.workers()), plane.state() >= RUNNING
    )
    return lambda: envoy_stats(process, facts, sum_of([groups]), clusters, listeners)


async def _stats(scrapes: Scrapes, plane: ControlPlane, request: Request) -> Response:
    """`?filter=` (a regular expression), `?usedonly`, `?format=json|prometheus`, `?type=Counters|Gauges`."""
    query = request.query_params
    form = query.get("format", "text")
    if form == "prometheus":
        return await _prometheus(scrapes, plane, request)
    if form not in ("text", "json"):
        return PlainTextResponse(f"format {form} is not supported; one of text, json, prometheus\n", 400)
    made = await _all_stats(plane)
    write = as_json if form == "json" else as_lines
    return await _answered(
        lambda: write(selected(made(), query.get("filter", ""), "usedonly" in query, query.get("type", "")))
    )


async def _prometheus(scrapes: Scrapes, plane: ControlPlane, request: Request) -> Response:
    """All metrics of `/metrics`, and those with Envoy's names."""
    query = request.query_params
    made = await _all_stats(plane)
    own = b"" if query.get("filter") else (await scrapes.exposition(plane, ""))[0]

    def text() -> str:
        return own.decode() + as_prometheus(selected(made(), query.get("filter", ""), "usedonly" in query))

    try:
        body = await asyncio.to_thread(text)
    except QueryError as error:
        return PlainTextResponse(f"{error}\n", 400)
    return Response(body, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})


# ---- state


async def _server_info(plane: ControlPlane, request: Request) -> Response:
    node = plane.bootstrap().get("node", {})
    info = statuses.server_info(plane.version(), server_state(plane), plane.started(), len(plane.workers()), node)
    return json_response(info)


async def _config_dump(plane: ControlPlane, request: Request) -> Response:
    """`?include_eds`, `?resource=`, `?mask=`, `?name_regex=`."""
    if find_spec("envoy") is None:
        return PlainTextResponse(_NO_EXTRA, 501)
    query = request.query_params
    resource = query.get("resource", "")
    with_endpoints = "include_eds" in query or "endpoint_config" in resource

    def dump() -> Any:
        # Imported only here: the messages of xDS take tens of megabytes.
        from pymosn.control.envoy.config_dump import config_dump
        from pymosn.control.envoy.queries import selected as part_of

        configs = config_dump(plane.facts(), plane.bootstrap(), plane.started(), with_endpoints)
        return {"configs": part_of(configs, resource, query.get("mask", ""), query.get("name_regex", ""))}

    return await _answered(dump)


async def _clusters(plane: ControlPlane, request: Request) -> Response:
    """The live clusters with their hosts; `?format=json`, `?filter=` (a regular expression) for some of them."""
    views = await plane.live_clusters()
    pattern = request.query_params.get("filter", "")
    clusters = {cluster.name: cluster for cluster in plane.current().cluster_manager.clusters}

    def shown() -> Any:
        resources = plane.facts().resources
        added = {one.name for one in resources if one.type_url == CLUSTER and one.stage != STATIC}
        write = statuses.clusters_json if request.query_params.get("format") == "json" else statuses.clusters_text
        return write(with_names(views, pattern), clusters, added)

    return await _answered(shown)


async def _listeners(plane: ControlPlane, request: Request) -> Response:
    """The active listeners; `?format=json`."""
    listeners = plane.current().servers[0].listeners
    is_json = request.query_params.get("format") == "json"
    return await _answered(lambda: (statuses.listeners_json if is_json else statuses.listeners_text)(listeners))


async def _certs(plane: ControlPlane, request: Request) -> Response:
    return json_response(statuses.certificates_json(await plane.certificates()))


# ---- changes


async def _logging(plane: ControlPlane, request: Request) -> Response:
    """Shows the levels; `?level=` for all logs, `?paths=<log>:<level>,...` or `?<log>=<level>` for some."""
    wanted: dict[str, str] = {}
    paths = _logs(plane)
    for key, value in request.query_params.multi_items():
        if key == "level":
            wanted |= dict.fromkeys(paths, value)
        elif key == "paths":
            wanted |= {path: level for path, _, level in (part.rpartition(":") for part in value.split(","))}
        else:
            wanted[key] = value
    for path, level in wanted.items():
        if path not in paths:
            return PlainTextResponse(f"error: there is no logger {path!r}; known: {', '.join(paths)}\n", 400)
        if level not in LEVELS:
            return PlainTextResponse(f"error: unknown level {level!r}; one of {', '.join(LEVELS)}\n", 400)
    for path, level in wanted.items():
        await plane.set_log_level(path, LEVELS[level])
    lines = [f"  {path}: {_NAMES.get(level, level.lower())}\n" for path, level in _logs(plane).items()]
    return PlainTextResponse("active loggers:\n" + "".join(lines))


def _logs(plane: ControlPlane) -> dict[str, str]:
    """The levels of the logs that have a name."""
    return {path: level for path, level in plane.log_levels().items() if path != START_LOG}


async def _drain_listeners(plane: ControlPlane, request: Request) -> Response:
    """`?graceful`: clients are asked to go first; `?skip_exit`: the listeners are never closed. `?inboundonly`."""
    query = request.query_params
    stays = "skip_exit" in query
    plane.drain_listeners("inboundonly" in query, stays or "graceful" in query, stays)
    return PlainTextResponse("OK\n")


async def _set_failing(is_failing: bool, plane: ControlPlane, request: Request) -> Response:
    """Readiness fails, and clients are asked to go to another server; or no longer."""
    plane.set_failing(is_failing)
    return PlainTextResponse("OK\n")


async def _quit(plane: ControlPlane, request: Request) -> Response:
    """Ends the process at once."""
    plane.stop(True)
    return PlainTextResponse("OK\n")
