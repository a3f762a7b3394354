"""The filter of the README: derives a tenant from the API key."""

from typing import Any

from pymosn.api import Exchange, Reply, StreamFilter


class Tenant(StreamFilter):
    """Rejects requests without an API key, and adds the tenant's name for the upstream."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.header: str = config.get("header", "x-tenant")

    def on_request(self, exchange: Exchange) -> Reply | None:
        key = exchange.request.headers.get("x-api-key")
        if key is None:
            return Reply(401, "who are you?\n", {"content-type": "text/plain"})
        exchange.request.headers[self.header] = key.partition("-")[0]
        return None

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers["x-served-by"] = "pymosn"
