"""Helpers for the handlers of the admin API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pymosn.control.plane import ControlPlane

Handler = Callable[[ControlPlane, Request], Awaitable[Response]]


def get(plane: ControlPlane, path: str, handler: Handler) -> Route:
    """A route that only reads."""
    return Route(path, partial(handler, plane), methods=["GET"])


def post(plane: ControlPlane, path: str, handler: Handler) -> Route:
    """A route that may change something, or whose input is a body."""
    return Route(path, partial(handler, plane), methods=["POST"])


def page(path: str, value: Callable[[], object]) -> Route:
    """A page without parameters: a string is sent as text, any other value as JSON."""

    async def show(request: Request) -> Response:
        shown = value()
        return PlainTextResponse(shown) if isinstance(shown, str) else JSONResponse(shown)

    return Route(path, show, methods=["GET"])


def wants_text(request: Request) -> bool:
    """Whether the client asked for text instead of JSON."""
    return request.query_params.get("format") == "text"


async def json_in_thread(value: Callable[[], Any]) -> Response:
    """A large `value` as JSON, made and formatted in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(lambda: json_response(value()))


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON that people can read too."""
    return Response(json.dumps(value, indent=1, ensure_ascii=False), status, media_type="application/json")
