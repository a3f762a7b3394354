"""A rate limit per key, shared by all workers and machines through Redis. Needs redis (`pip install redis`)."""

import time
from typing import Annotated

import msgspec
import redis.asyncio

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`limit` requests in each window of `seconds`, per value of `header`, or per client address without it."""

    url: str = "redis://127.0.0.1:6379/0"
    limit: Annotated[int, msgspec.Meta(ge=1)] = 100
    seconds: Annotated[int, msgspec.Meta(ge=1)] = 60
    header: str = "x-api-key"
    prefix: str = "pymosn:limit:"


class RedisLimit(StreamFilter):
    """Answers 429 to keys with too many requests, which are counted in Redis."""

    Config = Settings
    # Without Redis, requests pass: `"on_error": "fail"` in the configuration would reject them.
    on_error = "skip"
    timeout = 0.25

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.redis = redis.asyncio.from_url(config.url)

    async def stop(self) -> None:
        await self.redis.aclose()

    async def on_request(self, exchange: Exchange) -> Reply | None:
        config = self.config
        now = time.time()
        window = int(now // config.seconds)
        who = exchange.request.headers.get(config.header) or exchange.remote_ip
        key = f"{config.prefix}{who}:{window}"
        async with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, config.seconds + 1)
            count, _ = await pipeline.execute()
        left = config.limit - int(count)
        if left < 0:
            wait = (window + 1) * config.seconds - now
            return Reply(429, "too many requests\n", {"retry-after": str(int(wait) + 1)})
        exchange.state["limit_left"] = left
        return None

    def on_response(self, exchange: Exchange) -> None:
        left = exchange.state.get("limit_left")
        if left is not None:
            exchange.response_head.headers["x-ratelimit-remaining"] = str(left)
