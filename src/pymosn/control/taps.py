"""`POST /api/v1/tap`: a stream of the exchanges that meet some conditions, one line of JSON for each.

It shows traffic and costs some CPU, so it needs the same proof as a change. The body is `TapOptions` as JSON.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pymosn.control.bodies import BodyError, read_object
from pymosn.control.guard import read_body
from pymosn.control.handlers import Call, change, json_response
from pymosn.control.plane import ControlPlane, TooManyTaps
from pymosn.observe.tap_options import TapOptions


def routes(plane: ControlPlane) -> list[Call]:
    """The call that taps. It changes nothing, so the dashboard may make it."""
    return [change(plane, "/api/v1/tap", _tap)._replace(is_of_page=True)]


async def _tap(plane: ControlPlane, request: Request) -> Response:
    body = await read_body(request)
    try:
        asked = read_object(body, TapOptions) if body.strip() else TapOptions()
        lines = plane.tap(asked)
    except BodyError as error:
        return json_response({"error": str(error)}, 400)
    except TooManyTaps as error:
        return json_response({"error": str(error)}, 429)
    return StreamingResponse(lines, media_type="application/x-ndjson")
