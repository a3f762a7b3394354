"""A client without a codec: for heads that no codec lets through, and for clients that leave."""

import asyncio

from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.stream import ResponseSender
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.testing import Request


def head_of(request: Request) -> RequestHead:
    """The head of a request as a codec would make it."""
    head = HttpRequest()
    head.method = request.method
    head.raw_path = request.path.encode()
    head.query = request.query
    head.headers = request.headers.copy()
    head.host = "test.example"
    head.content_length = len(request.body)
    return head


class BareClient(ResponseSender):
    """The client's side of one exchange."""

    def __init__(self, ip: str = "192.0.2.1") -> None:
        self.head: ResponseHead | None = None
        self.is_over = asyncio.Event()
        self._connection = Connection()
        self._connection.remote_ip = ip

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        pass

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.head = head

    def send_data(self, data: bytes, end: bool) -> None:
        pass

    def send_trailers(self, trailers: Headers) -> None:
        pass

    def reset(self, failure: Failure) -> None:
        pass

    def release(self) -> None:
        self.is_over.set()

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass
