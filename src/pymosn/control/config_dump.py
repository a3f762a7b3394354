"""The responses of `/api/v1/config_dump` (key reference section 15)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pymosn.control.handlers import get, json_response
from pymosn.control.plane import ControlPlane


def routes(plane: ControlPlane) -> list[Route]:
    """`/api/v1/config_dump`: everything, or the part named by one parameter; `{}` for an unknown name."""
    return [get(plane, "/api/v1/config_dump", _config_dump)]


async def _config_dump(plane: ControlPlane, request: Request) -> Response:
    parameters = request.query_params.multi_items()
    if not parameters:
        return json_response(_everything(plane))
    if len(parameters) > 1:
        return PlainTextResponse("only support one parameter", 400)
    ((key, name),) = parameters
    whole: dict[str, Callable[[], dict[str, Any]]] = {
        "mosnconfig": plane.config,
        "allrouters": plane.routers,
        "allclusters": plane.clusters,
        "alllisteners": plane.listeners,
    }
    if key in whole:
        return json_response(whole[key]())
    single = {"router": plane.routers, "cluster": plane.clusters, "listener": plane.listeners}
    if key in single:
        return json_response(single[key]().get(name, {}))
    known = ", ".join([*whole, *(f"{word}=<name>" for word in single)])
    return PlainTextResponse(f"unknown parameter {key!r}; one of {known}", 500)


def _everything(plane: ControlPlane) -> dict[str, Any]:
    config = plane.config()
    extends = config.get("extends")
    return {
        "mosn_config": config,
        "listener": plane.listeners(),
        "cluster": plane.clusters(),
        "routers": plane.routers(),
        "extends": {entry["type"]: entry.get("config") for entry in extends or [] if "type" in entry},
    }
