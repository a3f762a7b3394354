"""Sends some clients to the next version; a cookie keeps them there."""

import random
from typing import Annotated

import msgspec

from pymosn.api import Exchange, StreamFilter

YES = "yes"
NO = "no"


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`cluster`: the next version. `percent`: share of the clients that have no cookie yet."""

    cluster: str
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0
    cookie: str = "canary"
    max_age: int = 86400


class Canary(StreamFilter):
    """Sends a share of the clients to another cluster; a cookie keeps each client's choice."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.random = random.Random()

    def on_request(self, exchange: Exchange) -> None:
        config = self.config
        choice = self._cookie(exchange)
        if choice not in (YES, NO):
            choice = YES if self.random.random() * 100 < config.percent else NO
            exchange.state["canary"] = f"{config.cookie}={choice}; Path=/; Max-Age={config.max_age}; HttpOnly; SameSite=Lax"
        if choice == YES:
            exchange.choose(cluster=config.cluster)

    def on_response(self, exchange: Exchange) -> None:
        cookie = exchange.state.get("canary")
        if cookie is not None:
            exchange.response_head.headers.add("set-cookie", str(cookie))

    def _cookie(self, exchange: Exchange) -> str:
        for field in exchange.request.headers.get_all("cookie"):
            for pair in field.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.config.cookie:
                    return value
        return ""
