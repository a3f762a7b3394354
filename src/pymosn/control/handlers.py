"""Helpers for the handlers of the admin API: its calls, each with its power, and responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pymosn.control.access import Power
from pymosn.control.plane import ChangeResult, ControlPlane

Handler = Callable[[ControlPlane, Request], Awaitable[Response]]


#: The method of a call that only reads and, as in MOSN, takes any method.
ANY: Final = "GET, HEAD, POST"


class Call(NamedTuple):
    """One call: `method` is GET (then HEAD works too), POST or ANY. `is_public`: answered for any `Host`.

    `read`: handles GET on the path of a POST. `parameters`: those that a call that changes something has in its query; None
    if it checks them itself. `is_of_page`: the dashboard makes it, if its client has the power; other pages never do.
    """

    path: str
    method: str
    power: Power
    handler: Callable[[Request], Awaitable[Response]]
    is_public: bool = False
    read: Callable[[Request], Awaitable[Response]] | None = None
    parameters: tuple[str, ...] | None = ()
    is_of_page: bool = False

    @property
    def allow(self) -> str:
        """The value of the header `Allow`."""
        if self.read is not None:
            return f"GET, HEAD, {self.method}"
        return "GET, HEAD" if self.method == "GET" else self.method

    def of(self, method: str) -> Call:
        """The call of a method on this path."""
        if self.read is None or method not in ("GET", "HEAD"):
            return self
        return Call(self.path, "GET", Power.READ, self.read, self.is_public)

    def takes(self, method: str) -> bool:
        """Whether it handles requests with this method."""
        return method == self.method or self.method == ANY or (method == "HEAD" and self.method == "GET")

    def unknown_parameter(self, names: Iterable[str]) -> str:
        """The first of these names in a query that it does not have; empty if there is none, or if it only reads."""
        if self.power is Power.READ or self.parameters is None:
            return ""
        return next((name for name in names if name not in self.parameters), "")


def get(plane: ControlPlane, path: str, handler: Handler, is_public: bool = False) -> Call:
    """A call that only reads."""
    return Call(path, "GET", Power.READ, partial(handler, plane), is_public)


def read_post(plane: ControlPlane, path: str, handler: Handler) -> Call:
    """A call that only reads, with a body as its input."""
    return Call(path, "POST", Power.READ, partial(handler, plane))


def log_call(plane: ControlPlane, path: str, handler: Handler, parameters: tuple[str, ...] | None = ()) -> Call:
    """A call that switches or filters a log that exists, and can name no other."""
    return Call(path, "POST", Power.LOG, partial(handler, plane), parameters=parameters)


def change(plane: ControlPlane, path: str, handler: Handler, parameters: tuple[str, ...] = ()) -> Call:
    """A call that changes the configuration, filters or processes, or costs them much."""
    return Call(path, "POST", Power.CHANGE, partial(handler, plane), parameters=parameters)


def page(path: str, value: Callable[[], object], method: str = "GET") -> Call:
    """A page without parameters: a string is sent as text, any other value as JSON."""

    async def show(request: Request) -> Response:
        shown = value()
        return PlainTextResponse(shown) if isinstance(shown, str) else JSONResponse(shown)

    return Call(path, method, Power.READ, show)


#: MOSN's answer to queries with several names.
ONE_PARAMETER: Final = "only support one parameter"


def first_value(request: Request, name: str) -> str:
    """The first value of a parameter, as MOSN takes it; empty if there is none."""
    values = request.query_params.getlist(name)
    return values[0] if values else ""


def wants_text(request: Request) -> bool:
    """Whether the client asked for text instead of JSON."""
    return request.query_params.get("format") == "text"


async def json_in_thread(value: Callable[[], Any]) -> Response:
    """A large `value` as JSON, made and formatted in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(lambda: json_response(value()))


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON that people can read too."""
    return Response(json.dumps(value, indent=1, ensure_ascii=False), status, media_type="application/json")


def error_response(error: str, reason: str, status: int = 400) -> Response:
    """A failure in MOSN's form: `error` is MOSN's text, `reason` explains it, and may be empty."""
    value = {"error": error} | ({"reason": reason} if reason else {})
    text = json.dumps(value, indent="\t", ensure_ascii=False)
    return Response(f"{text}\n", status, media_type="application/json")


def change_response(result: ChangeResult, status: int | None = None) -> Response:
    """The result of a change. `status`: by default 200 if it was applied, 400 if nothing changed."""
    value = msgspec.structs.asdict(result) | {"faults": [fault.as_dict() for fault in result.faults]}
    if status is None:
        status = 200 if result.applied else 400
    return Response(json.dumps(value, indent=1), status, media_type="application/json")
