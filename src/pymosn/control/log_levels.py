"""Shows and changes log levels, and enables or disables logs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, log_call, page
from pymosn.control.plane import ControlPlane


def routes(plane: ControlPlane) -> list[Call]:
    """MOSN's paths, one of them with MOSN's misspelling."""
    disable = partial(_change, "disable", lambda plane, path: plane.switch_log(path, False))
    return [
        page("/api/v1/get_loglevel", plane.log_levels),
        log_call(plane, "/api/v1/update_loglevel", partial(_change, "update", _set_level)),
        log_call(plane, "/api/v1/enable_log", partial(_change, "enable", lambda plane, path: plane.switch_log(path, True))),
        log_call(plane, "/api/v1/disable_log", disable),
        log_call(plane, "/api/v1/disbale_log", disable),
    ]


async def _change(
    what: str, change: Callable[[ControlPlane, str], Awaitable[None]], plane: ControlPlane, request: Request
) -> Response:
    """Makes a change with the body as its argument, and reports the result."""
    try:
        await change(plane, (await read_body(request)).decode().strip())
    except UnicodeDecodeError:
        return PlainTextResponse(f"{what} logger failed: the body is not UTF-8", 400)
    except (KeyError, ValueError) as error:
        return PlainTextResponse(f"{what} logger failed: {error.args[0]}", 400)
    return PlainTextResponse(f"{what} logger success")


async def _set_level(plane: ControlPlane, body: str) -> None:
    """Sets a level. ValueError unless `body` is `{"log_path": ..., "log_level": ...}`."""
    try:
        value = json.loads(body)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError('the body is not an object {"log_path": ..., "log_level": ...}')
    for key in ("log_path", "log_level"):
        if not isinstance(value.get(key), str):
            raise ValueError(f"{key} is {'missing' if key not in value else 'not a string'}")
    await plane.set_log_level(value["log_path"], value["log_level"])
