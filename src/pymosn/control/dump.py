"""The answers of `/api/v1/config_dump` (key reference section 15)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, Response

from pymosn.control.plane import ControlPlane


def config_dump(plane: ControlPlane, query: QueryParams) -> Response:
    """Everything without a parameter, else the one part that it names; an object without keys for an unknown name."""
    parameters = query.multi_items()
    if not parameters:
        return _json(_everything(plane))
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
        return _json(whole[key]())
    single = {"router": plane.routers, "cluster": plane.clusters, "listener": plane.listeners}
    if key in single:
        return _json(single[key]().get(name, {}))
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


def _json(value: Any) -> Response:
    return Response(json.dumps(value, indent=1, ensure_ascii=False), media_type="application/json")
