"""The header filter of the cases `filter1` and `filter3`, as pymosn's user would write it."""

from pymosn.api import Exchange, StreamFilter


class HeaderFilter(StreamFilter):
    """Reads one request header, sets one on the request and one on the response.

    Config: `number`, which tells the filters of one listener apart.
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
