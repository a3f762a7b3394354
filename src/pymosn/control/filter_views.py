"""The active stream filters and the memory they allocate, as JSON or, with `?format=text`, as text for people."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pymosn.control.guard import read_body
from pymosn.control.handlers import get, json_response, post, wants_text
from pymosn.control.plane import AllocationView, ControlPlane, FilterView

#: Maximum seconds for tracing allocations, which slows the workers down.
LONGEST_TRACE: Final = 60.0


def routes(plane: ControlPlane) -> list[Route]:
    """`/api/v1/filters` and `/api/v1/filters/allocations`."""
    return [get(plane, "/api/v1/filters", _filters), post(plane, "/api/v1/filters/allocations", _allocations)]


async def _filters(plane: ControlPlane, request: Request) -> Response:
    """All filters with their counters."""
    filters = await plane.filters()
    if wants_text(request):
        return PlainTextResponse("".join(_text(view) for view in filters) or "no stream filters\n")
    return json_response(filters)


async def _allocations(plane: ControlPlane, request: Request) -> Response:
    """Traces allocations; the body is a number of seconds, by default 5."""
    body = (await read_body(request)).decode("utf-8", "replace").strip()
    try:
        seconds = float(body or "5")
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= LONGEST_TRACE:
        return PlainTextResponse(f"the body must be a number of seconds above 0 and at most {LONGEST_TRACE:g}\n", 400)
    found = await plane.trace_allocations(seconds)
    if wants_text(request):
        return PlainTextResponse("".join(_line(view) for view in found) or "no allocated memory is still in use\n")
    return json_response(found)


def _text(view: FilterView) -> str:
    counters = ", ".join(f"{key} {value}" for key, value in view["counters"].items()) or "not called yet"
    mean = "" if view["mean_us"] is None else f", {view['mean_us']:g} us a call"
    source = f" ({view['source']})" if view["source"] else ""
    lines = [f"{view['listener']}: {view['name']}{source}: {counters}{mean}"]
    block = view["last_block"]
    if block is not None:
        lines.append(f"  blocked a worker for {block['seconds']:g} s:")
        lines += [f"    {frame}" for frame in block["stack"]]
    return "\n".join([*lines, ""])


def _line(view: AllocationView) -> str:
    return f"{view['bytes']:10} bytes in {view['blocks']:8} blocks  {view['line']}\n"
