"""The upstream of the built-in example: echoes requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CHUNK: Final = b"pymosn demo.... " * 4096
#: Limits of `/bytes/N` and `/slow/SECONDS`.
MAX_BYTES: Final = 100 * 1024**3
MAX_SECONDS: Final = 600.0


def create_demo() -> Starlette:
    """`/bytes/N` streams N bytes, `/slow/SECONDS` responds late, `/status/NNN` with that status; other paths echo."""
    return Starlette(
        routes=[
            Route("/bytes/{count:int}", _bytes, methods=METHODS),
            Route("/slow/{seconds:float}", _slow, methods=METHODS),
            Route("/status/{status:int}", _status, methods=METHODS),
            Route("/{path:path}", _echo, methods=METHODS),
        ]
    )


async def _echo(request: Request) -> Response:
    """The received request: its request line, its headers, the length of its body."""
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
    target = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    line = f"{request.method} {target}{'?' + query if query else ''} HTTP/{request.scope['http_version']}"
    headers = [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in request.headers.raw]
    text = ["hello from the demo upstream", "", line, *headers, "", f"{length} bytes of body", ""]
    return PlainTextResponse("\n".join(text))


async def _bytes(request: Request) -> Response:
    count = int(request.path_params["count"])
    if count > MAX_BYTES:
        return PlainTextResponse(f"at most {MAX_BYTES} bytes\n", 400)
    headers = {"content-length": str(count), "content-type": "application/octet-stream"}
    return StreamingResponse(_chunks(count), headers=headers)


async def _slow(request: Request) -> Response:
    seconds = float(request.path_params["seconds"])
    if seconds > MAX_SECONDS:
        return PlainTextResponse(f"at most {MAX_SECONDS:g} seconds\n", 400)
    await asyncio.sleep(seconds)
    return PlainTextResponse(f"{seconds:g} s later\n")


async def _status(request: Request) -> Response:
    status = int(request.path_params["status"])
    if not 200 <= status <= 599:
        return PlainTextResponse("the status must be between 200 and 599\n", 400)
    if status in (204, 304):
        return Response(status_code=status)
    return PlainTextResponse(f"status {status}\n", status)


async def _chunks(count: int) -> AsyncIterator[bytes]:
    while count > 0:
        chunk = CHUNK[:count]
        count -= len(chunk)
        yield chunk
