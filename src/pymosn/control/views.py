"""What is active: configuration, clusters, routes and filters, as JSON or, with `?format=text`, as text for people."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.config.mosn_form import NOTHING
from pymosn.config.schema import RouterConfiguration
from pymosn.control.certificates import as_text
from pymosn.control.exchange_text import exchanges_text
from pymosn.control.guard import read_body
from pymosn.control.handlers import (
    ONE_PARAMETER,
    Call,
    change,
    error_response,
    first_value,
    get,
    json_in_thread,
    json_response,
    read_post,
    wants_text,
)
from pymosn.control.live.routes import action_text, match_text
from pymosn.control.plane import AllocationView, ClusterView, ControlPlane, FilterView, health_text
from pymosn.filters.settings import Block

#: Maximum seconds for tracing allocations, which slows the workers down.
LONGEST_TRACE: Final = 60.0
#: Maximum number of exchanges of each kind that are shown.
MOST_EXCHANGES: Final = 1000

#: A block of the configuration without its secrets.
Shown = Callable[[Block], dict[str, Any]]


def routes(plane: ControlPlane) -> list[Call]:
    """The paths that show the active configuration and its state."""
    return [
        get(plane, "/api/v1/config_dump", _config_dump),
        get(plane, "/api/v1/clusters", _clusters),
        get(plane, "/api/v1/routes", _routes),
        read_post(plane, "/api/v1/explain", _explain),
        get(plane, "/api/v1/filters", _filters),
        get(plane, "/api/v1/certs", _certs),
        get(plane, "/api/v1/exchanges", _exchanges),
        get(plane, "/api/v1/xds", _xds),
        change(plane, "/api/v1/filters/allocations", _allocations, ("format",)),
    ]


async def _config_dump(plane: ControlPlane, request: Request) -> Response:
    """Everything, or the part named by one parameter; an empty block for an unknown name (key reference section 15)."""
    query = request.query_params
    if not query:
        return await json_in_thread(lambda: _everything(plane))
    if len(query) > 1:
        return PlainTextResponse(ONE_PARAMETER, 400)
    (key,) = query
    name = first_value(request, key)
    single = {"router": plane.routers, "cluster": plane.clusters, "listener": plane.listeners}
    if key in single:
        return await json_in_thread(lambda: single[key]().get(name, NOTHING[key]))
    whole = {"mosnconfig": plane.config} | {f"all{word}s": view for word, view in single.items()}
    if key in whole:
        return await json_in_thread(whole[key])
    known = ", ".join([*whole, *(f"{word}=<name>" for word in single)])
    return error_response("internal error", f"unknown parameter {key!r}; one of {known}", 500)


def _everything(plane: ControlPlane) -> dict[str, Any]:
    parts = {
        "listener": plane.listeners(),
        "cluster": plane.clusters(),
        "routers": plane.routers(),
        "extends": plane.extends(),
    }
    return {"mosn_config": plane.config(), **{key: part for key, part in parts.items() if part}}


async def _clusters(plane: ControlPlane, request: Request) -> Response:
    """All clusters with the state of their hosts; `?name=` for one."""
    name = request.query_params.get("name")
    clusters = [cluster for cluster in await plane.live_clusters() if name in (None, cluster["name"])]
    if wants_text(request):
        return await asyncio.to_thread(lambda: PlainTextResponse("".join(_cluster_text(cluster) for cluster in clusters)))
    return await json_in_thread(lambda: clusters)


async def _certs(plane: ControlPlane, request: Request) -> Response:
    """The certificates in use."""
    found = await plane.certificates()
    return PlainTextResponse(as_text(found)) if wants_text(request) else json_response(found)


async def _exchanges(plane: ControlPlane, request: Request) -> Response:
    """The stories of recent exchanges; `?kind=failed` or `slow` for one kind, `?limit=` for at most so many of each."""
    kind, number = request.query_params.get("kind", ""), request.query_params.get("limit", "50")
    if kind not in ("", "failed", "slow"):
        return PlainTextResponse(f"kind must be failed or slow, not {kind!r}\n", 400)
    if not (number.isascii() and number.isdecimal() and 1 <= int(number[:5]) <= MOST_EXCHANGES and len(number) < 5):
        return PlainTextResponse(f"limit must be a number from 1 to {MOST_EXCHANGES}, not {number!r}\n", 400)
    found = await plane.exchanges(int(number))
    shown = {key: value for key, value in found.items() if key in ("missed", kind or key)}
    return PlainTextResponse(exchanges_text(shown)) if wants_text(request) else json_response(shown)


async def _xds(plane: ControlPlane, request: Request) -> Response:
    """What xDS adds, per type the versions and the last ACK and NACK, and what waits; `?resource=` for one by its name."""
    name = request.query_params.get("resource")
    return await json_in_thread(plane.xds if name is None else lambda: {"resources": plane.xds_resource(name)})


async def _routes(plane: ControlPlane, request: Request) -> Response:
    """All router tables in the order in which they are matched; `?name=` for one."""
    name = request.query_params.get("name")
    tables = plane.current().servers[0].router_tables()
    found = [table for key, table in tables.items() if name in (None, key)]
    if wants_text(request):
        return await asyncio.to_thread(
            lambda: PlainTextResponse("".join(_table_text(table, plane.shown) for table in found))
        )
    return await json_in_thread(lambda: [plane.shown(table) for table in found])


async def _explain(plane: ControlPlane, request: Request) -> Response:
    """Explains how a request would be routed; the body is an `explain.Question` as JSON. It changes nothing."""
    # Imported only here, and run in a thread: a table of thousands of routes must not block the supervisor.
    from pymosn.control.explain import Question, QuestionError, explain
    from pymosn.control.explain_text import as_text

    try:
        question = msgspec.json.decode(await read_body(request), type=Question)
        live = {cluster["name"]: cluster for cluster in await plane.live_clusters()}
        answer = await asyncio.to_thread(explain, plane.current(), question, live, plane.origins())
    except (msgspec.MsgspecError, QuestionError) as error:
        return json_response({"error": str(error)}, 400)
    except RecursionError:
        return json_response({"error": "the body is nested too deeply"}, 400)
    failures = plane.failed_handshakes(answer["listener"]["name"])
    if failures:
        answer["failed_handshakes"] = failures
    return PlainTextResponse(as_text(answer)) if wants_text(request) else json_response(answer)


async def _filters(plane: ControlPlane, request: Request) -> Response:
    """All filters with their counters."""
    filters = await plane.filters()
    if wants_text(request):
        return PlainTextResponse("".join(_filter_text(view) for view in filters) or "no filters\n")
    return json_response({"filters": filters})


async def _allocations(plane: ControlPlane, request: Request) -> Response:
    """Traces allocations; the body is a number of seconds, by default 5."""
    body = (await read_body(request)).decode("utf-8", "replace").strip()
    try:
        seconds = float(body or "5")
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= LONGEST_TRACE:
        return PlainTextResponse(f"the body must be a number of seconds above 0 and at most {LONGEST_TRACE:g}\n", 400)
    found = await plane.trace_allocations(seconds)
    if wants_text(request):
        return PlainTextResponse(
            "".join(_allocation_text(view) for view in found) or "no allocated memory is still in use\n"
        )
    return json_response(found)


def _cluster_text(cluster: ClusterView) -> str:
    lines = [f"{cluster['name']} ({cluster['type']}, {cluster['lb_type']})"]
    for host in cluster["hosts"]:
        name = f" ({host['hostname']})" if host["hostname"] else ""
        load = f"{host['requests_active']} requests of {host['requests_total']}, {host['connections_active']} connections"
        lines.append(f"  {host['address']}{name} weight {host['weight']}, {health_text(host, cluster['workers'])}: {load}")
    if not cluster["hosts"]:
        lines.append("  no hosts")
    return "\n".join([*lines, ""])


def _table_text(table: RouterConfiguration, shown: Shown) -> str:
    lines = [table.router_config_name]
    for host in table.virtual_hosts:
        lines.append(f"  {host.name or '-'}: {', '.join(host.domains)}")
        lines += [
            f"    {index}. {match_text(route, shown)} -> {action_text(route, shown)}"
            for index, route in enumerate(host.routers)
        ]
    return "\n".join([*lines, ""])


def _filter_text(view: FilterView) -> str:
    counters = ", ".join(f"{key} {value}" for key, value in view["counters"].items()) or "not called yet"
    mean, p99 = view["mean_seconds"], view["p99_seconds"]
    cost = "" if mean is None or p99 is None else f", {mean * 1e6:.1f} us a call, p99 {p99 * 1e6:.1f} us"
    sources = list(dict.fromkeys(entry["source"] for entry in view["entries"] if entry["source"]))
    source = f" ({', '.join(sources)})" if sources else ""
    lines = [f"{', '.join(view['listeners'])}: {view['name']}{source}: {counters}{cost}"]
    error = view["last_error"]
    if error is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(error["time"]))
        phase = f", {error['phase']}" if error["phase"] else ""
        lines.append(f"  last error, {at}, worker {error['worker']}{phase}: {error['message']}")
        lines += [f"    {frame}" for frame in error["stack"]]
    block = view["last_block"]
    if block is not None:
        lines.append(f"  blocked a worker for {block['seconds']:g} s:")
        lines += [f"    {frame}" for frame in block["stack"]]
    return "\n".join([*lines, ""])


def _allocation_text(view: AllocationView) -> str:
    return f"{view['bytes']:10} bytes in {view['blocks']:8} blocks  {view['line']}\n"
