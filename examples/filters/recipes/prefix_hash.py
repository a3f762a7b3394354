"""Sends requests to model replicas by the beginning of the prompt, so that cached prefixes are reused."""

import hashlib
import json
from typing import Annotated, Any

import msgspec

from pymosn.api import BodyTooLarge, Exchange, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`hosts`: the replicas' addresses in the cluster. `prefix`: number of characters used. `limit`: bytes."""

    hosts: list[str]
    prefix: Annotated[int, msgspec.Meta(ge=1)] = 1024
    limit: Annotated[int, msgspec.Meta(ge=1)] = 4 * 1024 * 1024


class PrefixHash(StreamFilter):
    """Selects the replica by a hash of the prompt's beginning; retries go to the next replica in the prompt's order."""

    Config = Settings
    protocols = ("Http1", "Http2")

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if not config.hosts:
            raise ValueError("hosts must not be empty")
        self.config = config

    # Not in on_request, which runs before every filter's on_route: bodies of unknown clients are not buffered.
    async def on_route(self, exchange: Exchange) -> None:
        if exchange.request.method != "POST":
            return
        try:
            prompt = prompt_of(await exchange.request.json(self.config.limit))
        except (ValueError, RecursionError, BodyTooLarge):
            return  # use the balancer; the upstream will report the error
        if prompt:
            exchange.state["replicas"] = self.order(prompt[: self.config.prefix])

    def on_host(self, exchange: Exchange) -> None:
        replicas = exchange.state.get("replicas")
        if isinstance(replicas, list):
            # The first attempt goes to the first replica, a retry to the next.
            exchange.choose(host=replicas[(exchange.attempts - 1) % len(replicas)])

    def order(self, prefix: str) -> list[str]:
        """The replicas for `prefix`, the best first. Removing a replica only moves the prompts that it served."""
        raw = prefix.encode("utf-8", "surrogatepass")
        return sorted(self.config.hosts, key=lambda host: hashlib.blake2b(host.encode() + b"\0" + raw).digest())


def prompt_of(body: Any) -> str:
    """The text for the model: `prompt`, or the messages as JSON."""
    if not isinstance(body, dict):
        return ""
    if isinstance(body.get("prompt"), str):
        return str(body["prompt"])
    return json.dumps(body["messages"]) if isinstance(body.get("messages"), list) else ""
