"""Handles every request to the admin API: decides who may make it, calls its handler, and ends the connection cleanly.

The order of the checks: the `Host` (against DNS rebinding), the origin (web pages change nothing; only the dashboard asks),
path and method, what the socket of the connection allows (`access.py`), and the parameters of a change. None of them reads
the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from pymosn.control.access import Door, Power
from pymosn.control.handlers import Call
from pymosn.core.errors import describe
from pymosn.core.log import ALERT_ADMIN, ERROR, Log

#: Maximum size of a request body in bytes.
MAX_BODY: Final = 64 * 1024
#: Bytes and seconds for which an unwanted body is read and discarded. A client that is still sending when the connection is
#: closed gets a reset, and may not see the response.
MAX_DISCARDED: Final = 64 * 1024 * 1024
DISCARD_TIME: Final = 10.0

_SAFE: Final = ("GET", "HEAD", "OPTIONS")


class RequestTooLarge(Exception):
    """A request body of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The complete body. RequestTooLarge if it has more than `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if len(declared) > len(str(limit)) or (declared.isdecimal() and int(declared) > limit):
        raise RequestTooLarge(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(limit)
    return bytes(body)


class Guard:
    """ASGI app: the calls of the admin API, by path, for the clients that come through `door`."""

    def __init__(self, calls: Mapping[str, Call], door: Door, log: Log, index: str = "") -> None:
        """`index`: the list of paths, the answer for unknown ones."""
        self._calls = calls
        self._index = index
        self._door = door
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request. Errors are written to the process log."""
        exchange = _Exchange(scope, receive, send)
        call = self._calls.get(scope["path"])
        headers = Headers(scope=scope)
        try:
            if call is not None:
                call = call.of(scope["method"])
            response = await self._rejection(scope, headers, call)
            if response is None:
                assert call is not None
                response = await call.handler(Request(scope, exchange.receive))
            await response(scope, exchange.receive, exchange.send)
        except RequestTooLarge as error:
            response = PlainTextResponse(f"the body has more than {error.limit} bytes\n", 413)
            await response(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return
        except Exception as error:
            text = f"{scope['method']} {scope['path']} failed: {describe(error)}"
            self._log.write(ERROR, text, ALERT_ADMIN)
            if exchange.has_started:
                raise
            response = PlainTextResponse("internal error; see the process log\n", 500)
            await response(scope, exchange.receive, exchange.send)

    async def _rejection(self, scope: Scope, headers: Headers, call: Call | None) -> Response | None:
        """The response to a request that is not handled by a call; None if it is."""
        method = scope["method"]
        rejection = self._door.host_rejection(headers, call is not None and call.is_public)
        if rejection is not None:
            return rejection
        is_passive = call is None or call.power is not Power.PROFILE
        if (method not in _SAFE or not is_passive) and _is_of_page(headers) and not self._is_own_question(call, headers):
            return PlainTextResponse("cross-site requests may not change anything\n", 403)
        if method == "OPTIONS" and scope["path"] == "*":
            return Response(status_code=204, headers={"allow": "GET, HEAD, POST"})
        if call is None:
            return PlainTextResponse(self._index, 404)
        if method == "OPTIONS":
            return Response(status_code=204, headers={"allow": call.allow})
        if not call.takes(method):
            return PlainTextResponse("Method Not Allowed", 405, {"allow": call.allow})
        rejection = await self._door.rejection(call.power, headers)
        unknown = call.unknown_parameter(QueryParams(scope["query_string"]))
        if rejection is None and unknown:
            return PlainTextResponse(f"unknown parameter {unknown!r}; nothing was changed\n", 400)
        return rejection

    def _is_own_question(self, call: Call | None, headers: Headers) -> bool:
        """Whether the dashboard makes a call that it has: its origin is the host that it asks, which has an allowed name."""
        origins, hosts = headers.getlist("origin"), headers.getlist("host")
        if call is None or len(origins) != 1 or len(hosts) != 1:
            return False
        if call.power is not Power.READ and not call.is_of_page:
            return False
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        scheme, separator, host = origins[0].partition("://")
        if scheme not in ("http", "https") or not separator or host.lower() != hosts[0].lower():
            return False
        # The unix socket takes any name, but a port may be forwarded to it: DNS rebinding reaches that as well.
        return self._door.is_known_host(headers)


def _is_of_page(headers: Headers) -> bool:
    """Whether a web page makes the request: browsers add `Origin` or `Sec-Fetch-Site` to those."""
    return "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


class _Exchange:
    """A request and its response. If the response is complete before the body, the rest of the body is discarded."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.has_started = False
        self._is_head = scope["method"] == "HEAD"
        self._receive = receive
        self._send = send
        self._is_body_left = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # With `Expect: 100-continue` a client that gets the final response first sends no body.
        self._waits = "expect" in headers

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers["cache-control"] = "no-store"
            if self._is_body_left:
                headers["connection"] = "close"
            await self._send(message)
            return
        if self._is_head:
            message = {**message, "body": b""}
        if self._is_body_left and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard(self) -> None:
        """Reads the rest of the body, within limits."""
        size = 0
        try:
            async with asyncio.timeout(DISCARD_TIME):
                while self._is_body_left and not self._waits and size <= MAX_DISCARDED:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
