"""Counts the tokens of streamed model responses, and ends a response when its client's budget is used up."""

import re
import time
from typing import Annotated

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter

#: Server-sent events end with an empty line.
END_OF_EVENT = re.compile(rb"\r?\n\r?\n")
#: Maximum bytes of an incomplete event that are held back.
LONGEST_EVENT = 64 * 1024
LAST = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
    b"data: [DONE]\n\n"
)


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`tokens` per client (a value of `header`) in each period of `seconds`, counted per worker."""

    tokens: Annotated[int, msgspec.Meta(ge=1)]
    seconds: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    header: str = "x-api-key"
    most_clients: int = 100_000


class Delta(msgspec.Struct):
    """The text that a chunk adds."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One of the generated texts."""

    delta: Delta = msgspec.field(default_factory=Delta)


class Usage(msgspec.Struct):
    """The model's own count: in the last chunk, on request of the client."""

    completion_tokens: int = 0


class Chunk(msgspec.Struct):
    """The relevant part of one event."""

    choices: list[Choice] = []
    usage: Usage | None = None


class Stream:
    """A response in progress: its incomplete event, and the tokens counted so far."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.rest = b""
        self.tokens = 0


class TokenBudget(StreamFilter):
    """Counts the tokens of OpenAI-style event streams, and ends a stream when its client's budget is used up."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.used: dict[str, int] = {}
        self.period_ends = 0.0
        self.decoder = msgspec.json.Decoder(Chunk)

    def on_request(self, exchange: Exchange) -> Reply | None:
        client = exchange.request.headers.get(self.config.header)
        if client is None:
            return Reply(401, "missing API key\n")
        now = time.monotonic()
        if now >= self.period_ends or len(self.used) > self.config.most_clients:
            self.used.clear()
            self.period_ends = now + self.config.seconds
        if self.used.get(client, 0) >= self.config.tokens:
            return Reply(429, "the token budget is used up\n", {"retry-after": str(int(self.period_ends - now) + 1)})
        exchange.state["stream"] = Stream(client)
        exchange.request.headers.remove("accept-encoding")  # events must be uncompressed
        return None

    def on_response(self, exchange: Exchange) -> Reply | None:
        headers = exchange.response_head.headers
        if "stream" not in exchange.state or not (headers.get("content-type") or "").startswith("text/event-stream"):
            exchange.skip_body(self)
        elif "content-encoding" in headers:
            return Reply(502, "the model's response is compressed\n")  # its tokens could not be counted
        return None

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        stream = exchange.state["stream"]
        assert isinstance(stream, Stream)
        data = stream.rest + data
        done = 0
        for end in END_OF_EVENT.finditer(data):
            self._count(stream, data[done : end.start()])
            done = end.end()
            if self.used[stream.client] >= self.config.tokens and b"[DONE]" not in data[done:]:
                exchange.end_response()
                return data[:done] + LAST
        if last or len(data) - done > LONGEST_EVENT:
            done = len(data)
        stream.rest = data[done:]  # an incomplete event waits for its rest
        return data[:done]

    def _count(self, stream: Stream, event: bytes) -> None:
        used = self.used.get(stream.client, 0)
        for line in event.splitlines():
            if line.startswith(b"data:"):
                try:
                    chunk = self.decoder.decode(line[5:])
                except msgspec.DecodeError:
                    continue  # `[DONE]`, or another format
                new = sum(estimate(choice.delta.content) for choice in chunk.choices)
                if chunk.usage is not None:
                    new = chunk.usage.completion_tokens - stream.tokens  # the model's count is exact
                stream.tokens += new
                used += new
        self.used[stream.client] = used


def estimate(text: str | None) -> int:
    """Estimates the tokens of a text: about one per four letters; servers send one or several tokens per chunk."""
    return (len(text) + 3) // 4 if text else 0
