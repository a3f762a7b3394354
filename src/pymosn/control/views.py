"""The active clusters and routes, as JSON or, with `?format=text`, as text for people."""

from __future__ import annotations

import asyncio
import json

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as HttpRoute

from pymosn.config.dump import dump
from pymosn.config.schema import RouterConfiguration
from pymosn.config.schema.router import Route
from pymosn.control.guard import read_body
from pymosn.control.handlers import get, json_response, post, wants_text
from pymosn.control.plane import ClusterView, ControlPlane, health_text


def routes(plane: ControlPlane) -> list[HttpRoute]:
    """`/api/v1/clusters`, `/api/v1/routes` and `/api/v1/explain`."""
    return [
        get(plane, "/api/v1/clusters", _clusters),
        get(plane, "/api/v1/routes", _routes),
        post(plane, "/api/v1/explain", _explain),
    ]


async def _clusters(plane: ControlPlane, request: Request) -> Response:
    """All clusters with the state of their hosts; `?name=` for one."""
    name = request.query_params.get("name")
    clusters = [cluster for cluster in await plane.live_clusters() if name in (None, cluster["name"])]
    if wants_text(request):
        return PlainTextResponse("".join(_cluster_text(cluster) for cluster in clusters))
    return json_response(clusters)


async def _routes(plane: ControlPlane, request: Request) -> Response:
    """All router tables in the order in which they are matched; `?name=` for one."""
    name = request.query_params.get("name")
    tables = plane.current().servers[0].router_tables()
    found = [table for key, table in tables.items() if name in (None, key)]
    if wants_text(request):
        return PlainTextResponse("".join(_table_text(table) for table in found))
    return json_response([dump(table) for table in found])


async def _explain(plane: ControlPlane, request: Request) -> Response:
    """Explains how a request would be routed; the body is an `explain.Question` as JSON. It changes nothing."""
    # Imported only here, and run in a thread: a table of thousands of routes must not block the supervisor.
    from pymosn.control.explain import Question, QuestionError, as_text, explain

    try:
        question = msgspec.json.decode(await read_body(request), type=Question)
        live = {cluster["name"]: cluster for cluster in await plane.live_clusters()}
        answer = await asyncio.to_thread(explain, plane.current(), question, live)
    except (msgspec.MsgspecError, QuestionError) as error:
        return json_response({"error": str(error)}, 400)
    return PlainTextResponse(as_text(answer)) if wants_text(request) else json_response(answer)


def _cluster_text(cluster: ClusterView) -> str:
    lines = [f"{cluster['name']} ({cluster['type']}, {cluster['lb_type']})"]
    for host in cluster["hosts"]:
        name = f" ({host['hostname']})" if host["hostname"] else ""
        load = f"{host['requests_active']} requests of {host['requests_total']}, {host['connections_active']} connections"
        lines.append(f"  {host['address']}{name} weight {host['weight']}, {health_text(host, cluster['workers'])}: {load}")
    if not cluster["hosts"]:
        lines.append("  no hosts")
    return "\n".join([*lines, ""])


def _table_text(table: RouterConfiguration) -> str:
    lines = [table.router_config_name]
    for host in table.virtual_hosts:
        lines.append(f"  {host.name or '-'}: {', '.join(host.domains)}")
        lines += [f"    {index}. {_route_text(route)}" for index, route in enumerate(host.routers)]
    return "\n".join([*lines, ""])


def _route_text(route: Route) -> str:
    """`prefix "/a", header x=1 -> cluster one`."""
    shown = dump(route.match)
    match = ", ".join(f"{key} {json.dumps(value)}" for key, value in shown.items()) or "any request"
    action = "nothing"
    if route.direct_response is not None:
        action = f"status {route.direct_response.status}"
    elif route.redirect is not None:
        action = f"redirect {json.dumps(dump(route.redirect))}"
    elif route.route is not None and route.route.weighted_clusters:
        shares = [f"{entry.cluster.name} ({entry.cluster.weight})" for entry in route.route.weighted_clusters]
        action = f"clusters {', '.join(shares)}"
    elif route.route is not None:
        target = dump(route.route)
        action = f"cluster {route.route.cluster_name}" if route.route.cluster_name else json.dumps(target)
    return f"{match} -> {action}"
