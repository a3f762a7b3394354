"""Calls that act on the process as a whole: reload and stop, used by the commands of the same names.

The body may be `{"config": "<path>"}`: then the call is rejected with 409 if the process was started from another file, so
that a command never acts on a process that it does not mean.
"""

from __future__ import annotations

import os

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pymosn.control.bodies import BodyError, read_object
from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, change, change_response, json_response
from pymosn.control.plane import ControlPlane


class Target(msgspec.Struct):
    """The body of a call. `config`: the configuration file of the process that is meant; `now`: stop without a drain."""

    config: str = ""
    now: bool = False


def routes(plane: ControlPlane) -> list[Call]:
    """`/api/v1/reload` and `/api/v1/stop`."""
    return [change(plane, "/api/v1/reload", _reload), change(plane, "/api/v1/stop", _stop)]


async def _reload(plane: ControlPlane, request: Request) -> Response:
    """Reads the configuration file again, like SIGHUP, and answers with the result."""
    target = await _read_target(plane, request)
    if isinstance(target, Response):
        return target
    if plane.config_path() is None:
        return json_response({"error": "this process was not started from a file; there is nothing to reload"}, 409)
    return change_response(await plane.reload(f"admin {request.scope['path']}"))


async def _stop(plane: ControlPlane, request: Request) -> Response:
    """Begins to end the process, after a drain like SIGTERM or immediately like SIGINT; the answer does not wait for it."""
    target = await _read_target(plane, request)
    if isinstance(target, Response):
        return target
    plane.stop(target.now)
    return json_response({"pid": plane.pid(), "stopping": "now" if target.now else "after draining"}, 202)


async def _read_target(plane: ControlPlane, request: Request) -> Target | Response:
    """The body; or the response, if it is invalid or means another process."""
    body = await read_body(request)
    try:
        target = read_object(body, Target) if body.strip() else Target()
    except BodyError as error:
        return json_response({"error": str(error)}, 400)
    return other_process(plane, target.config) or target


def other_process(plane: ControlPlane, config: str) -> Response | None:
    """The response if a client means a process with another configuration file; None if it means this one, or any."""
    ours = plane.config_path()
    if config and not (ours is not None and _is_same_file(config, ours)):
        source = ours or "the built-in example"
        return json_response({"error": f"pid {plane.pid()} was started from another configuration: {source}"}, 409)
    return None


def _is_same_file(one: str, other: str) -> bool:
    """Whether two paths name one file. A path that is equal does, even while the file is being replaced."""
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False
