"""Shows and changes log levels, and enables or disables logs."""

from __future__ import annotations

import json
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pymosn.control.guard import read_body
from pymosn.control.handlers import get, post
from pymosn.control.plane import ControlPlane


def routes(plane: ControlPlane) -> list[Route]:
    """MOSN's paths, one of them with MOSN's misspelling."""
    return [
        get(plane, "/api/v1/get_loglevel", _show),
        post(plane, "/api/v1/update_loglevel", _update),
        post(plane, "/api/v1/enable_log", partial(_switch, True)),
        post(plane, "/api/v1/disable_log", partial(_switch, False)),
        post(plane, "/api/v1/disbale_log", partial(_switch, False)),
    ]


async def _show(plane: ControlPlane, request: Request) -> Response:
    return JSONResponse(plane.log_levels())


async def _update(plane: ControlPlane, request: Request) -> Response:
    try:
        path, level = _path_and_level(await read_body(request))
        await plane.set_log_level(path, level)
    except (KeyError, ValueError) as error:
        return PlainTextResponse(f"update logger failed: {error.args[0]}", 400)
    return PlainTextResponse("update logger success")


async def _switch(enabled: bool, plane: ControlPlane, request: Request) -> Response:
    what = "enable" if enabled else "disable"
    try:
        await plane.switch_log(_text(await read_body(request)), enabled)
    except (KeyError, ValueError) as error:
        return PlainTextResponse(f"{what} logger failed: {error.args[0]}", 400)
    return PlainTextResponse(f"{what} logger success")


def _text(body: bytes) -> str:
    try:
        return body.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None


def _path_and_level(body: bytes) -> tuple[str, str]:
    """The values of `{"log_path": ..., "log_level": ...}`. ValueError if the body is anything else."""
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
            raise ValueError(f"{key} is {'missing' if key not in value else 'not a string'}")
        found.append(text)
    return found[0], found[1]
