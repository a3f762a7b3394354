"""The admin API: MOSN's paths and responses (key reference section 15), and some that only pymosn has.

Each module of the API exports `routes(plane, ...)`; `create_app` combines them, and `/` lists all their paths. GET never
changes anything. Differences from MOSN, all for safety: environment variables are readable only if their name has an allowed
prefix and is not named like a secret; cross-site requests cannot change anything; bodies are limited; `/api/v1/plugin`
responds with 501, because there are no plugin processes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware

from pymosn.control import log_levels, process_views, statistics, updates, views
from pymosn.control.guard import Guard
from pymosn.control.handlers import page
from pymosn.control.plane import ControlPlane
from pymosn.core.log import Log

#: Prefixes of the environment variables that are readable.
ENV_PREFIXES: Final = ("MOSN_", "PYMOSN_")


def create_app(
    plane: ControlPlane,
    log: Log | None = None,
    stream_filters: Collection[str] = (),
    env_prefixes: tuple[str, ...] = ENV_PREFIXES,
    environment: Mapping[str, str] = os.environ,
) -> Starlette:
    """The admin API of `plane`. Its internal errors are written to `log`. `env_prefixes`: see ENV_PREFIXES.

    `stream_filters`: names of the stream filters that installed packages provide.
    """
    routes = [
        *process_views.routes(plane, env_prefixes, environment),
        *statistics.routes(plane),
        *log_levels.routes(plane),
        *views.routes(plane),
        *updates.routes(plane, stream_filters),
    ]
    index = "".join(f"{path}\n" for path in sorted(["/", *(route.path for route in routes)]))
    app = Starlette(routes=[page("/", lambda: index), *routes], middleware=[Middleware(Guard, log=log or Log())])
    app.router.redirect_slashes = False
    return app
