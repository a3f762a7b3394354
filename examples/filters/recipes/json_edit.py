"""Edits JSON bodies: adds keys to requests, and removes keys from responses."""

import json
from typing import Any

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`add`: keys for the object of each request. `hide`: keys to remove from responses, at any depth. `limit`: bytes."""

    add: dict[str, Any] = {}
    hide: tuple[str, ...] = ("password",)
    limit: int = 1024 * 1024


class JsonEdit(StreamFilter):
    """Adds keys to the JSON objects of requests, and removes keys from those of responses."""

    Config = Settings
    timeout = 30.0

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.hidden = frozenset(config.hide)

    async def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        request.headers.remove("accept-encoding")  # a compressed response could not be edited
        if not self.config.add or not is_json(request.headers.get("content-type")):
            return None
        try:
            value = await request.json(self.config.limit)
        except ValueError:
            return Reply(400, "the body is not JSON\n")
        if isinstance(value, dict):
            request.set_json({**value, **self.config.add})
        return None

    async def on_response(self, exchange: Exchange) -> Reply | None:
        response = exchange.response_head
        if exchange.request.method == "HEAD" or not is_json(response.headers.get("content-type")):
            return None
        body = await response.read(self.config.limit)
        if not body:
            return None
        try:
            response.set_json(self._without(json.loads(body)))
        except ValueError:
            return Reply(502, "the response is not JSON\n")  # it may contain hidden keys
        return None

    def _without(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._without(inner) for key, inner in value.items() if key not in self.hidden}
        return [self._without(inner) for inner in value] if isinstance(value, list) else value


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is JSON: `application/json` or `application/problem+json`, with or without parameters."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
