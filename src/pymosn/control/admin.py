"""The admin API: MOSN's paths and answers (key reference section 15), and a few of pymosn's own.

GET never changes anything. Differences from MOSN, all on the safe side: an environment variable is shown only when its
name begins with an allowed prefix and does not look like a secret, changes are not taken from web pages, bodies are
limited, and `/api/v1/plugin` answers 501, because there are no plugin processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pymosn.config.diagnostics import is_secret
from pymosn.control.dump import config_dump
from pymosn.control.filter_views import FilterViews
from pymosn.control.guard import Guard, read_body
from pymosn.control.plane import ControlPlane
from pymosn.control.updates import Updates
from pymosn.control.views import Views
from pymosn.core.counters import GroupData
from pymosn.core.log import Log
from pymosn.observe.stats import stats_glob, stats_json
from pymosn.observe.totals import Totals, with_global

#: Names of environment variables that may be shown.
ENV_PREFIXES: Final = ("MOSN_", "PYMOSN_")

Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    plane: ControlPlane,
    log: Log | None = None,
    stream_filters: Collection[str] = (),
    env_prefixes: tuple[str, ...] = ENV_PREFIXES,
    environment: Mapping[str, str] = os.environ,
) -> Starlette:
    """The admin API of `plane`; `log` hears of errors in it. `env_prefixes`: see ENV_PREFIXES.

    `stream_filters`: the names of those that installed packages offer.
    """
    admin = _Admin(plane, env_prefixes, environment)
    gets: dict[str, Handler] = {
        "/": admin.index,
        "/api/v1/version": admin.version,
        "/api/v1/config_dump": admin.config_dump,
        "/api/v1/stats": admin.stats,
        "/api/v1/stats_glob": admin.stats_glob,
        "/api/v1/get_loglevel": admin.get_loglevel,
        "/api/v1/states": admin.states,
        "/api/v1/plugin": admin.plugin,
        "/api/v1/features": admin.features,
        "/api/v1/env": admin.env,
        "/api/v1/workers": admin.workers,
        "/metrics": admin.metrics,
    }
    posts: dict[str, Handler] = {
        "/api/v1/update_loglevel": admin.update_loglevel,
        "/api/v1/enable_log": admin.enable_log,
        "/api/v1/disable_log": admin.disable_log,
        "/api/v1/disbale_log": admin.disable_log,
    }
    updates = Updates(plane, stream_filters)
    views = Views(plane)
    filter_views = FilterViews(plane)
    gets["/api/v1/filters"] = filter_views.filters
    posts["/api/v1/filters/allocations"] = filter_views.allocations
    gets |= {"/api/v1/last_change": updates.last_change, "/api/v1/clusters": views.clusters, "/api/v1/routes": views.routes}
    posts |= {
        "/api/v1/explain": views.explain,
        "/api/v1/update_config": updates.config,
        "/api/v1/update_route": updates.route,
        "/api/v1/update_hosts": updates.hosts,
        "/api/v1/remove_config": updates.removal,
        "/api/v1/reload_filters": updates.filters,
        "/debug/update_config": updates.config,
        "/debug/update_route": updates.route,
    }
    admin.paths = sorted([*gets, *posts])
    routes = [Route(path, handler, methods=["GET"]) for path, handler in gets.items()]
    routes += [Route(path, handler, methods=["POST"]) for path, handler in posts.items()]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, log=log or Log())])
    app.router.redirect_slashes = False
    return app


class _Admin:
    def __init__(self, plane: ControlPlane, env_prefixes: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.paths: list[str] = []
        self._plane = plane
        self._env_prefixes = env_prefixes
        self._environment = environment

    # ---- what is

    async def index(self, request: Request) -> Response:
        return PlainTextResponse("".join([f"{path}\n" for path in self.paths]))

    async def version(self, request: Request) -> Response:
        return PlainTextResponse(f"mosn version: {self._plane.version()}")

    async def config_dump(self, request: Request) -> Response:
        return config_dump(self._plane, request.query_params)

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
            return PlainTextResponse("no key: ask for ?key=<variable>, more than once if need be", 400)
        for key in keys:
            if not key.startswith(self._env_prefixes) or is_secret(key):
                allowed = ", ".join(f"{prefix}*" for prefix in self._env_prefixes) or "none"
                return PlainTextResponse(f"{key!r} is not shown; allowed: {allowed}, but nothing named like a secret", 403)
        shown = {key: self._environment[key] for key in keys if key in self._environment}
        return JSONResponse({"env": shown, "not_found": [key for key in keys if key not in shown]})

    # ---- metrics

    async def stats(self, request: Request) -> Response:
        key = request.query_params.get("key", "")
        stats = stats_json(await self._groups(), key)
        if stats is None:
            return PlainTextResponse(f"no metrics key: {key}")
        return Response(json.dumps(stats, indent="\t"), media_type="application/json")

    async def stats_glob(self, request: Request) -> Response:
        return PlainTextResponse(stats_glob(await self._groups()))

    async def metrics(self, request: Request) -> Response:
        # Only who scrapes pays for the library.
        from pymosn.observe.prometheus import exposition

        text, content_type = exposition(await self._groups(), request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    async def _groups(self) -> list[GroupData]:
        totals = Totals()
        totals.add(await self._plane.stats())
        return with_global(totals.groups())

    # ---- logs

    async def get_loglevel(self, request: Request) -> Response:
        return JSONResponse(self._plane.log_levels())

    async def update_loglevel(self, request: Request) -> Response:
        try:
            path, level = _log_and_level(await read_body(request))
            await self._plane.set_log_level(path, level)
        except (KeyError, ValueError) as error:
            return PlainTextResponse(f"update logger failed: {error.args[0]}", 400)
        return PlainTextResponse("update logger success")

    async def enable_log(self, request: Request) -> Response:
        return await self._switch(request, True)

    async def disable_log(self, request: Request) -> Response:
        return await self._switch(request, False)

    async def _switch(self, request: Request, enabled: bool) -> Response:
        what = "enable" if enabled else "disable"
        try:
            await self._plane.switch_log(_text(await read_body(request)), enabled)
        except (KeyError, ValueError) as error:
            return PlainTextResponse(f"{what} logger failed: {error.args[0]}", 400)
        return PlainTextResponse(f"{what} logger success")


def _text(body: bytes) -> str:
    try:
        return body.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None


def _log_and_level(body: bytes) -> tuple[str, str]:
    """What `{"log_path": ..., "log_level": ...}` says. ValueError names what is wrong with it."""
    try:
        value = json.loads(_text(body))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError('the body is not an object {"log_path": ..., "log_level": ...}')
    found = []
    for key in ("log_path", "log_level"):
        text = value.get(key)
        if not isinstance(text, str):
            raise ValueError(f"{key} is {'missing' if key not in value else 'not a text'}")
        found.append(text)
    return found[0], found[1]
