"""The admin API: MOSN's paths and responses (key reference section 15), Envoy's, and some that only pymosn has.

Each module of the API exports `routes(plane, ...)`: its calls, each with its power (`access.py`). `create_app` combines
them, and `/` and `/api/v1/` list all their paths. GET never changes anything. Differences from MOSN, all for safety: changes
need proof of who makes them; environment variables are readable only if their name has an allowed prefix and is not named
like a secret; web pages can neither change nor read anything; bodies are limited; unknown paths are 404, and unknown keys
and parameters of a change 400. Errors that MOSN sends as `{"error": ...}` have a `reason` too; JSON is `application/json`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final

from starlette.types import ASGIApp

from pymosn.control import (
    log_levels,
    pages,
    process_calls,
    process_views,
    profiling,
    statistics,
    taps,
    updates,
    upgrades,
    views,
)
from pymosn.control.access import UNIX_DOOR, Door, Power
from pymosn.control.envoy import calls as envoy
from pymosn.control.guard import Guard
from pymosn.control.handlers import ANY, page
from pymosn.control.live.calls import Live
from pymosn.control.plane import ControlPlane
from pymosn.core.log import Log

#: Where the list of all paths is. Other unknown paths have it too, as the body of a 404.
INDEX_PATHS: Final = ("/", "/api/v1", "/api/v1/")
#: Prefixes of the environment variables that are readable.
ENV_PREFIXES: Final = ("MOSN_", "PYMOSN_")


def create_app(
    plane: ControlPlane,
    log: Log | None = None,
    stream_filters: Collection[str] = (),
    env_prefixes: tuple[str, ...] = ENV_PREFIXES,
    environment: Mapping[str, str] = os.environ,
    door: Door = UNIX_DOOR,
    live: Live | None = None,
) -> ASGIApp:
    """The admin API of `plane` for the clients that come through `door`. Its internal errors are written to `log`.

    `stream_filters`: names of the stream filters that installed packages provide. `env_prefixes`: see ENV_PREFIXES.
    `live`: the data of the dashboard, which all sockets share.
    """
    calls = [
        *process_views.routes(plane, env_prefixes, environment),
        *process_calls.routes(plane),
        *statistics.routes(plane),
        *log_levels.routes(plane),
        *views.routes(plane),
        *updates.routes(plane, stream_filters),
        *upgrades.routes(plane, door is UNIX_DOOR),
        *taps.routes(plane),
        *envoy.routes(plane),
        *profiling.routes(plane),
        *(live or Live(plane, log)).calls(),
    ]
    paths = sorted(f"{call.path}{' changes' if call.power in (Power.DRAIN, Power.CHANGE) else ''}\n" for call in calls)
    index = "".join(["supported APIs:\n", *paths, "/ui/\n"])
    calls += pages.routes()
    calls += [page(path, lambda: index, ANY) for path in INDEX_PATHS]
    return Guard({call.path: call for call in calls}, door, log or Log(), index)
