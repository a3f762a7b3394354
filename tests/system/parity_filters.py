"""Filters of the table that compares `pymosn.testing` with the server; both load this file."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pymosn.api import BodyTooLarge, ClientError, Exchange, Reply, StreamFilter


class Notes(StreamFilter):
    """Writes what has become of each exchange."""

    def on_complete(self, exchange: Exchange) -> None:
        request = exchange.request
        reason = "ok" if exchange.failure is None else exchange.failure.reason
        status = 0 if exchange.response is None else int(exchange.response.status)
        target = f"{request.method} {request.host} {request.path}?{request.query}"
        facts = {
            "cluster": exchange.cluster_name,
            "attempts": int(exchange.attempts),
            "in": int(exchange.bytes_received),
            "out": int(exchange.bytes_sent),
            "ip": exchange.remote_ip,
            "scheme": request.scheme,
            "received": sorted(exchange.received_headers),
            "detail": exchange.failure_detail,
        }
        self.context.write(f"note {reason} {status} {target} {facts}")


class Passes(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        pass


class Tenant(StreamFilter):
    def on_request(self, exchange: Exchange) -> Reply | None:
        key = exchange.request.headers.get("x-api-key")
        if key is None:
            return Reply(401, "who are you?\n", {"content-type": "text/plain"})
        exchange.request.headers["x-tenant"] = key.partition("-")[0]
        return None

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.headers["x-served-by"] = "pymosn"


class Rewrites(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.path = "/v2" + exchange.request.path
        exchange.request.query = "a=1&b=%20"
        exchange.request.host = "inner.example:8080"
        exchange.request.method = "PUT"


class Replies(StreamFilter):
    """Replies in the way that the path names."""

    def on_request(self, exchange: Exchange) -> Reply:
        bodies: dict[str, Any] = {
            "/text": "text \u00e9",
            "/bytes": b"\x00\xff",
            "/none": b"",
            "/list": [b"one ", b"two"],
            "/stream": self.stream(),
            "/broken": self.broken(),
            "/numbers": [b"one", 2],
        }
        status = int(exchange.request.query or 200)
        return Reply(status, bodies[exchange.request.path], [("x-a", "1"), ("x-a", "2")])

    async def stream(self) -> AsyncIterator[bytes]:
        yield b"one "
        await asyncio.sleep(0)
        yield b"two"

    async def broken(self) -> AsyncIterator[bytes]:
        yield b"one"
        raise ValueError("broken")


class RepliesLate(StreamFilter):
    async def on_response(self, exchange: Exchange) -> Reply:
        await asyncio.sleep(0)
        return Reply(418, f"instead of {exchange.response_head.status}")


class Fails(StreamFilter):
    """Fails in the phase that the header names, in the way that another one names."""

    def _fail(self, exchange: Exchange, phase: str) -> Any:
        headers = exchange.received_headers
        if headers.get("x-phase") != phase:
            return None
        how = headers.get("x-how", "raise")
        if how == "exit":
            raise SystemExit(1)
        if how == "type":
            return "no Reply"
        if how == "header":
            exchange.request.headers["content-length"] = "5"
        raise ValueError("broken")

    def on_request(self, exchange: Exchange) -> Any:
        return self._fail(exchange, "request")

    def on_route(self, exchange: Exchange) -> Any:
        return self._fail(exchange, "route")

    def on_host(self, exchange: Exchange) -> Any:
        return self._fail(exchange, "host")

    async def on_response(self, exchange: Exchange) -> Any:
        return self._fail(exchange, "response")


class Skips(Fails):
    on_error = "skip"


class FailsInBodies(StreamFilter):
    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        return self._chunk(exchange, "request", data)

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        return self._chunk(exchange, "response", data)

    def _chunk(self, exchange: Exchange, phase: str, data: bytes) -> bytes | None:
        if exchange.received_headers.get("x-phase") == phase:
            raise ValueError("broken")
        return None


class Upper(StreamFilter):
    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data.upper()

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data.upper()


class KeepsLength(Upper):
    changes_length = False


class BreaksPromise(StreamFilter):
    changes_length = False

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data + b"more"


class Doubles(StreamFilter):
    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data * 2

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes:
        return data * 2


class EndsEarly(StreamFilter):
    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        exchange.end_response()


class Json(StreamFilter):
    async def on_request(self, exchange: Exchange) -> None:
        if exchange.request.method == "POST":
            exchange.request.set_json({"got": await exchange.request.json(limit=50_000)})

    async def on_response(self, exchange: Exchange) -> None:
        if exchange.request.path == "/response":
            exchange.response_head.set_json({"got": await exchange.response_head.json()})


class SetsNan(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_json([float("nan")])


class Reads(StreamFilter):
    async def on_request(self, exchange: Exchange) -> Reply | None:
        try:
            await exchange.request.read(5)
        except BodyTooLarge:
            return Reply(413, "caught")
        return None


class SetsBody(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.request.set_body("new")

    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.set_body("also new")


class SetsStatus(StreamFilter):
    def on_response(self, exchange: Exchange) -> None:
        exchange.response_head.status = int(exchange.request.query)


class Trailers(StreamFilter):
    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        if last and exchange.request.trailers is not None:
            exchange.request.trailers["x-sum"] = "1"

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> None:
        trailers = exchange.response_head.trailers
        if last and trailers is not None:
            trailers["x-sum"] = "2"


class Asks(StreamFilter):
    async def on_request(self, exchange: Exchange) -> Reply | None:
        try:
            client = self.clusters[exchange.received_headers.get("x-cluster", "auth")]
            answer = await client.post(exchange.request.path, "question", {"x-user": "ann"})
        except ClientError as error:
            return Reply(503, error.reason)
        return None if answer.status == 200 else Reply(answer.status, answer.text)


class Chooses(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.choose(cluster=exchange.request.path[1:])


class OnlyBolt(StreamFilter):
    protocols = ("bolt",)

    def on_request(self, exchange: Exchange) -> Reply:
        return Reply(500, "never for HTTP")
