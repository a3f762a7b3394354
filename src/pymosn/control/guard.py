"""What every request to the admin API must pass, whatever its path.

The API has no passwords, as MOSN's has none; who reaches its address may use it. A web page in the browser of somebody who
can reach it must not: browsers mark what pages send with `Origin` or `Sec-Fetch-Site`, and marked changes are refused.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pymosn.core.log import ERROR, Log

#: Bytes of a request body.
MAX_BODY: Final = 64 * 1024

_READING: Final = ("GET", "HEAD", "OPTIONS")


class BodyTooLarge(Exception):
    """A request body of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The whole body. BodyTooLarge when it is more than `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(limit)
    return bytes(body)


class Guard:
    """ASGI middleware: refuses changes that come from web pages, and names errors in the process log."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_marked(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
            await send(message)

        refusal = _refusal(scope["method"], Headers(scope=scope))
        try:
            await (refusal or self._app)(scope, receive, send_marked)
        except BodyTooLarge as error:
            text = f"the body is more than {error.limit} bytes\n"
            await PlainTextResponse(text, 413, {"connection": "close"})(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception as error:
            text = f"{scope['method']} {scope['path']} failed: {error!r}"
            self._log.write(ERROR, text, "mosn.admin.admin_failed")
            if answered:
                raise
            await PlainTextResponse("internal error; see the process log\n", 500)(scope, receive, send_marked)


def _refusal(method: str, headers: Headers) -> PlainTextResponse | None:
    if method in _READING:
        return None
    site = headers.get("sec-fetch-site", "none")
    if "origin" in headers or site not in ("none", "same-origin"):
        return PlainTextResponse("changes are not taken from web pages\n", 403)
    return None
