"""Shows and changes log levels, and enables or disables logs.

The empty path is MOSN's start logger, which writes before the process log is open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pymosn.control.bodies import BodyError, read_object
from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, error_response, log_call, page
from pymosn.control.plane import ControlPlane


class Level(msgspec.Struct):
    """The body of `update_loglevel`."""

    log_path: str = ""
    log_level: str = ""


def routes(plane: ControlPlane) -> list[Call]:
    """MOSN's paths, one of them with MOSN's misspelling."""
    disable = partial(_change, "disable", partial(_switch, False))
    return [
        page("/api/v1/get_loglevel", lambda: dict(sorted(plane.log_levels().items()))),
        log_call(plane, "/api/v1/update_loglevel", partial(_change, "update", _set_level)),
        log_call(plane, "/api/v1/enable_log", partial(_change, "enable", partial(_switch, True))),
        log_call(plane, "/api/v1/disable_log", disable),
        log_call(plane, "/api/v1/disbale_log", disable),
    ]


async def _change(
    what: str, change: Callable[[ControlPlane, bytes], Awaitable[None]], plane: ControlPlane, request: Request
) -> Response:
    """Makes a change with the body as its argument, and reports the result."""
    try:
        await change(plane, await read_body(request))
    except UnicodeDecodeError:
        return error_response(f"{what} logger failed", "the body is not UTF-8")
    except (KeyError, ValueError) as error:
        return error_response(f"{what} logger failed", error.args[0])
    return PlainTextResponse(f"{what} logger success\n")


async def _switch(enabled: bool, plane: ControlPlane, body: bytes) -> None:
    """Enables or disables the log whose path is the body."""
    await plane.switch_log(body.decode(), enabled)


async def _set_level(plane: ControlPlane, body: bytes) -> None:
    """Sets a level. ValueError unless `body` is `{"log_path": ..., "log_level": ...}`."""
    if not body.strip():
        raise BodyError("the body is empty")
    level = read_object(body, Level)
    if not level.log_level:
        raise BodyError("log_level is missing")
    await plane.set_log_level(level.log_path, level.log_level)
