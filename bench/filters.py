"""The filters of the filter cases, written as a user of pymosn would."""

from pymosn.api import Exchange, StreamFilter


class HeaderFilter(StreamFilter):
    """Reads one request header, sets one on the request and one on the response.

    Config: `number`, which distinguishes the filters of one listener.
    """

    def __init__(self, config: dict[str, object]) -> None:
        self.request_name = f"x-bench-{config['number']}"
        self.response_name = f"x-served-{config['number']}"

    def on_request(self, exchange: Exchange) -> None:
        user = exchange.request.headers.get("x-user")
        if user is not None:
            exchange.request.headers[self.request_name] = user

    def on_response(self, exchange: Exchange) -> None:
        if exchange.response is not None:
            exchange.response.headers[self.response_name] = "bench"


class AsyncHeaderFilter(HeaderFilter):
    """The same as a coroutine that could wait, but does not."""

    async def on_request(self, exchange: Exchange) -> None:  # type: ignore[override]
        user = exchange.request.headers.get("x-user")
        if user is not None:
            exchange.request.headers[self.request_name] = user


class ChunkFilter(HeaderFilter):
    """A header filter that also counts the bytes of the response."""

    def __init__(self, config: dict[str, object]) -> None:
        super().__init__(config)
        self.bytes = 0

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.bytes += len(data)
