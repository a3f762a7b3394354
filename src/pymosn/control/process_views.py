"""Facts about the process: version, state, workers, features, environment."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pymosn.config.diagnostics import is_secret
from pymosn.control.handlers import get
from pymosn.control.plane import ControlPlane


def routes(plane: ControlPlane, env_prefixes: tuple[str, ...], environment: Mapping[str, str]) -> list[Route]:
    """`env_prefixes`: see `admin.ENV_PREFIXES`."""
    views = _ProcessViews(plane, env_prefixes, environment)
    return [
        get("/api/v1/version", views.version),
        get("/api/v1/states", views.states),
        get("/api/v1/workers", views.workers),
        get("/api/v1/plugin", views.plugin),
        get("/api/v1/features", views.features),
        get("/api/v1/env", views.env),
    ]


class _ProcessViews:
    def __init__(self, plane: ControlPlane, env_prefixes: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._plane = plane
        self._env_prefixes = env_prefixes
        self._environment = environment

    async def version(self, request: Request) -> Response:
        return PlainTextResponse(f"mosn version: {self._plane.version()}")

    async def states(self, request: Request) -> Response:
        return PlainTextResponse(f"pid={self._plane.pid()}&state={self._plane.state()}")

    async def workers(self, request: Request) -> Response:
        return JSONResponse(self._plane.workers())

    async def plugin(self, request: Request) -> Response:
        return PlainTextResponse("pymosn has no plugin processes; filters are Python\n", 501)

    async def features(self, request: Request) -> Response:
        features = self._plane.features()
        key = request.query_params.get("key")
        if key is None:
            return JSONResponse(features)
        return PlainTextResponse("true" if features.get(key, False) else "false")

    async def env(self, request: Request) -> Response:
        keys = [key for key in request.query_params.getlist("key") if key]
        if not keys:
            return PlainTextResponse("missing parameter: ?key=<variable> (repeatable)", 400)
        for key in keys:
            if not key.startswith(self._env_prefixes) or is_secret(key):
                allowed = ", ".join(f"{prefix}*" for prefix in self._env_prefixes) or "none"
                text = f"{key!r} is not readable; allowed prefixes: {allowed}, except names that look like secrets"
                return PlainTextResponse(text, 403)
        shown = {key: self._environment[key] for key in keys if key in self._environment}
        return JSONResponse({"env": shown, "not_found": [key for key in keys if key not in shown]})
