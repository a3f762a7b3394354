"""Requests to model replicas go by the beginning of the prompt, so that its cached prefix is used again."""

import hashlib
import json
from typing import Any

import msgspec

from pymosn.api import BodyTooLarge, Exchange, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`hosts`: addresses of the replicas, as they stand in the cluster. `prefix`: characters that count. `limit`: bytes."""

    hosts: list[str]
    prefix: int = 1024
    limit: int = 4 * 1024 * 1024


class PrefixHash(StreamFilter):
    """Chooses the replica by a hash of the prompt's beginning; each replica that fails has another one behind it."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if not config.hosts:
            raise ValueError("hosts must not be empty")
        self.config = config

    async def on_request(self, exchange: Exchange) -> None:
        if exchange.request.method != "POST":
            return
        try:
            prompt = prompt_of(await exchange.request.json(self.config.limit))
        except (ValueError, BodyTooLarge):
            return  # the balancer chooses, and the upstream says what is wrong
        if prompt:
            exchange.state["replicas"] = self.order(prompt[: self.config.prefix])

    def on_host(self, exchange: Exchange) -> None:
        replicas = exchange.state.get("replicas")
        if isinstance(replicas, list):
            # The first attempt goes to the first replica, a retry to the next.
            exchange.choose(host=replicas[(exchange.attempts - 1) % len(replicas)])

    def order(self, prefix: str) -> list[str]:
        """The replicas for `prefix`, the best first. Without one of them only the prompts move that were its own."""
        raw = prefix.encode("utf-8", "surrogatepass")
        return sorted(
            self.config.hosts, key=lambda host: hashlib.blake2b(raw, digest_size=8, key=host.encode()[:64]).digest()
        )


def prompt_of(body: Any) -> str:
    """The text that a model is asked: `prompt`, or the messages one after another."""
    if not isinstance(body, dict):
        return ""
    if isinstance(body.get("prompt"), str):
        return str(body["prompt"])
    return json.dumps(body["messages"]) if isinstance(body.get("messages"), list) else ""
