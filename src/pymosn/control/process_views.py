"""Facts about the process: version, state, workers, features, environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pymosn.control.handlers import Call, get, page
from pymosn.control.plane import RUNNING, ControlPlane
from pymosn.core.redaction import redacted_text
from pymosn.core.secrets import is_credential


def routes(plane: ControlPlane, env_prefixes: tuple[str, ...], environment: Mapping[str, str]) -> list[Call]:
    """`env_prefixes`: see `admin.ENV_PREFIXES`."""
    return [
        page("/api/v1/version", lambda: f"mosn version: {plane.version()}"),
        page("/api/v1/states", lambda: f"pid={plane.pid()}&state={plane.state()}"),
        page("/api/v1/workers", plane.workers),
        get(plane, "/healthz", _live, is_public=True),
        get(plane, "/ready", _ready, is_public=True),
        get(plane, "/api/v1/plugin", _plugin),
        get(plane, "/api/v1/features", _features),
        get(plane, "/api/v1/env", partial(_env, env_prefixes, environment)),
    ]


async def _live(plane: ControlPlane, request: Request) -> Response:
    """For liveness probes: the supervisor's event loop runs."""
    return PlainTextResponse("live\n")


async def _ready(plane: ControlPlane, request: Request) -> Response:
    """For readiness probes: it has started, is not draining, has a worker that serves, and the first resources of xDS."""
    stage = plane.state()
    if stage < RUNNING:
        reason = "starting"
    elif stage > RUNNING or plane.is_draining():
        reason = "draining"
    elif not any(worker["state"] == "running" for worker in plane.workers()):
        reason = "no worker is running"
    elif plane.facts(with_resources=False).is_initializing():
        reason = "the first listeners of xDS are not active yet"
    else:
        return PlainTextResponse("ready\n")
    return PlainTextResponse(f"not ready: {reason}\n", 503)


async def _plugin(plane: ControlPlane, request: Request) -> Response:
    return PlainTextResponse("pymosn has no plugin processes; filters are Python\n", 501)


async def _features(plane: ControlPlane, request: Request) -> Response:
    features = plane.features()
    key = request.query_params.get("key")
    if key is None:
        return JSONResponse(features)
    return PlainTextResponse("true" if features.get(key, False) else "false")


async def _env(prefixes: tuple[str, ...], environment: Mapping[str, str], plane: ControlPlane, request: Request) -> Response:
    keys = [key for key in request.query_params.getlist("key") if key]
    if not keys:
        return PlainTextResponse("missing parameter: ?key=<variable> (repeatable)", 400)
    for key in keys:
        if not key.startswith(prefixes) or is_credential(key):
            allowed = ", ".join(f"{prefix}*" for prefix in prefixes) or "none"
            text = f"{key!r} is not readable; allowed prefixes: {allowed}, except names of secrets"
            return PlainTextResponse(text, 403)
    shown = {key: redacted_text(environment[key]) for key in keys if key in environment}
    return JSONResponse({"env": shown, "not_found": [key for key in keys if key not in shown]})
