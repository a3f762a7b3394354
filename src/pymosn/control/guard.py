"""Checks that apply to every request to the admin API.

Like MOSN's, the API has no passwords: any client that can reach its address may use it. A web page in the browser of such a
client must not: browsers add `Origin` or `Sec-Fetch-Site` to requests that pages send, and such changes are rejected.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pymosn.core.errors import describe
from pymosn.core.log import ERROR, Log

#: Maximum size of a request body in bytes.
MAX_BODY: Final = 64 * 1024


class RequestTooLarge(Exception):
    """A request body of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The complete body. RequestTooLarge if it has more than `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise RequestTooLarge(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(limit)
    return bytes(body)


class Guard:
    """ASGI middleware: rejects changes requested by web pages, and writes errors to the process log."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response_started = False

        async def send_marked(message: Message) -> None:
            nonlocal response_started
            if message["type"] == "http.response.start":
                response_started = True
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
            await send(message)

        rejection = _rejection(scope["method"], Headers(scope=scope))
        try:
            await (rejection or self._app)(scope, receive, send_marked)
        except RequestTooLarge as error:
            text = f"the body has more than {error.limit} bytes\n"
            await PlainTextResponse(text, 413, {"connection": "close"})(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception as error:
            text = f"{scope['method']} {scope['path']} failed: {describe(error)}"
            self._log.write(ERROR, text, "mosn.admin.admin_failed")
            if response_started:
                raise
            await PlainTextResponse("internal error; see the process log\n", 500)(scope, receive, send_marked)


def _rejection(method: str, headers: Headers) -> PlainTextResponse | None:
    if method in ("GET", "HEAD", "OPTIONS"):
        return None
    site = headers.get("sec-fetch-site", "none")
    if "origin" in headers or site not in ("none", "same-origin"):
        return PlainTextResponse("cross-site requests may not change anything\n", 403)
    return None
