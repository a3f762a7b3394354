"""Sends some clients to the next version; a cookie keeps them there."""

import random
from typing import Annotated

import msgspec

from pymosn.api import Exchange, Headers, StreamFilter

YES = "yes"
NO = "no"
#: Directives with which a shared cache would give a client's cookie to others.
SHARED = ("public", "s-maxage", "proxy-revalidate", "private", "")
#: Fields that have precedence over Cache-Control in some caches.
FOR_CACHES = ("surrogate-control", "cdn-cache-control")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`cluster`: the next version. `percent`: share of the clients that have no cookie yet. `max_age`: seconds."""

    cluster: str
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0
    cookie: Annotated[str, msgspec.Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")] = "canary"
    max_age: Annotated[int, msgspec.Meta(ge=1)] = 86400


class Canary(StreamFilter):
    """Sends a share of the clients to another cluster; a cookie keeps each client's choice."""

    Config = Settings
    protocols = ("Http1", "Http2")

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.random = random.Random()

    # In the same phase as filters that select clusters by the client, so that the order of the configuration decides.
    def on_route(self, exchange: Exchange) -> None:
        choice = self._cookie(exchange.request.headers)
        if not choice:
            choice = YES if self.random.random() * 100 < self.config.percent else NO
            exchange.state["canary"] = choice
        if choice == YES:
            exchange.choose(cluster=self.config.cluster)

    def on_response(self, exchange: Exchange) -> None:
        head = exchange.response_head
        add_vary(head.headers, "Cookie")  # the cookie selects the version, so every response depends on it
        choice = exchange.state.get("canary")
        # An error must not keep a client at a version that does not work. Caches would store the field of a 304.
        if choice is None or head.status >= 500 or head.status == 304:
            return
        config = self.config
        secure = "; Secure" if exchange.request.scheme == "https" else ""
        cookie = f"{config.cookie}={choice}; Path=/; Max-Age={config.max_age}; HttpOnly; SameSite=Lax{secure}"
        head.headers.add("set-cookie", cookie)
        make_private(head.headers)

    def _cookie(self, headers: Headers) -> str:
        """The client's choice; empty without a cookie, with an invalid one, and with several that differ."""
        pairs = [pair.strip(" \t").partition("=") for field in headers.get_all("cookie") for pair in field.split(";")]
        values = {value for name, _, value in pairs if name == self.config.cookie}
        return values.pop() if values in ({YES}, {NO}) else ""


def add_vary(headers: Headers, name: str) -> None:
    """Adds a request header to those that a response depends on."""
    names = [part.strip().lower() for field in headers.get_all("vary") for part in field.split(",")]
    if "*" not in names and name.lower() not in names:
        headers.add("vary", name)


def make_private(headers: Headers) -> None:
    """Tells shared caches not to store a response, which is for one client."""
    text = ",".join(headers.get_all("cache-control"))
    directives = [part.strip() for part in text.split(",")]
    kept = [part for part in directives if part.partition("=")[0].strip().lower() not in SHARED]
    # A quoted value may contain a comma: nothing else is known about such a field.
    headers["cache-control"] = "private, no-cache" if '"' in text else ", ".join(["private", *kept])
    for name in FOR_CACHES:
        headers.remove(name)
