"""Drives an ASGI app without sockets: one request in, one answer out."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message


class Answer:
    """What an app answered; header names in lower case."""

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class AsgiClient:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def get(self, target: str) -> Answer:
        return asyncio.run(self._exchange("GET", target, [b""], {}))

    def post(self, target: str, body: Sequence[bytes] = (b"",), headers: Mapping[str, str] | None = None) -> Answer:
        """`body`: in the chunks in which it arrives."""
        return asyncio.run(self._exchange("POST", target, body, headers or {}))

    def request(
        self, method: str, target: str, body: Sequence[bytes] = (b"",), headers: Mapping[str, str] | None = None
    ) -> Answer:
        return asyncio.run(self._exchange(method, target, body, headers or {}))

    async def _exchange(self, method: str, target: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Answer:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 34901),
            "client": ("127.0.0.1", 50000),
        }
        parts = list(body)
        sent: list[Message] = []
        has_left = asyncio.Event()

        async def receive() -> Message:
            if not parts:
                await has_left.wait()
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body", b"").startswith(b"event: "):
                has_left.set()  # a stream of events has no end

        await asyncio.wait_for(self._app(scope, receive, send), 10)
        start, *rest = sent
        lines = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], lines, b"".join([message["body"] for message in rest]))
