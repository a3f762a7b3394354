"""Facts about the process: version, state, workers, features, environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.access import Power
from pymosn.control.handlers import ANY, Call, error_response, first_value, get, json_response, page
from pymosn.control.plane import RUNNING, ControlPlane
from pymosn.core.redaction import redacted_text
from pymosn.core.secrets import is_credential

_PLUGIN_USAGE: Final = """Usage:
/plugin?status=all
/plugin?status=pluginname
/plugin?enable=pluginname
/plugin?disable=pluginname
"""


def routes(plane: ControlPlane, env_prefixes: tuple[str, ...], environment: Mapping[str, str]) -> list[Call]:
    """`env_prefixes`: see `admin.ENV_PREFIXES`."""
    return [
        page("/api/v1/version", lambda: f"mosn version: {plane.version()}", ANY),
        page("/api/v1/states", lambda: f"pid={plane.pid()}&state={plane.state()}\n"),
        page("/api/v1/workers", plane.workers),
        get(plane, "/healthz", _live, is_public=True),
        get(plane, "/ready", _ready, is_public=True),
        Call("/api/v1/plugin", ANY, Power.READ, _plugin),
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


async def _plugin(request: Request) -> Response:
    """The answers of MOSN where no plugin process is registered: pymosn never has one, filters are Python."""
    for word in ("enable", "disable", "status"):
        name = first_value(request, word)
        if name == "all" and word == "status":
            return PlainTextResponse("\n")
        if name:
            return PlainTextResponse(f"plugin {name} no register\n", 400)
    return PlainTextResponse(_PLUGIN_USAGE, 400)


async def _features(plane: ControlPlane, request: Request) -> Response:
    """The feature gates, or with `?key=` whether one is on. As in MOSN, any other parameter is an unknown gate."""
    features = plane.features()
    if not request.query_params:
        return json_response(dict(sorted(features.items())))
    return PlainTextResponse("true" if features.get(first_value(request, "key"), False) else "false")


async def _env(prefixes: tuple[str, ...], environment: Mapping[str, str], plane: ControlPlane, request: Request) -> Response:
    """The variables named by `?key=`, which may be repeated, and the names of those that are not set."""
    keys = request.query_params.getlist("key")
    if not keys:
        return error_response("no env key", "missing parameter: ?key=<variable> (repeatable)")
    for key in filter(None, keys):
        if not key.startswith(prefixes) or is_credential(key):
            allowed = ", ".join(f"{prefix}*" for prefix in prefixes) or "none"
            reason = f"{key!r} is not readable; allowed prefixes: {allowed}, except names of secrets"
            return error_response("forbidden env key", reason, 403)
    env = {key: redacted_text(environment[key]) for key in sorted(keys) if key in environment}
    not_found = [key for key in keys if key not in env]
    return json_response({"env": env, "not_found": not_found or None})
