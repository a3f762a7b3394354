"""The two ends of an exchange, without connections: streams that note what they get."""

from pymosn.api.network import Connection, Dialer
from pymosn.api.protocol import ProtocolSpec
from pymosn.api.stream import ConnectionPool, PoolTarget, RequestSender, ResponseReceiver, ResponseSender, StreamProtocol
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.timers import TimerWheel
from pymosn.testing.fakes import PROTOCOL


class Sender(RequestSender):
    """The upstream's end of a request: notes what it gets."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.head: RequestHead | None = None
        self.has_head = False
        self.is_cancelled = False
        self._connection = Connection()

    def connection(self) -> Connection:
        return self._connection

    def is_reused(self) -> bool:
        return False

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self.has_head = True
        self.head = head.copy()
        self.sent.append(data)

    def send_data(self, data: bytes, end: bool) -> None:
        self.sent.append(b"END" if end else data)

    def send_trailers(self, trailers: Headers) -> None:
        self.sent.append(b"TRAILERS")

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def cancel(self) -> None:
        self.is_cancelled = True


class Client(ResponseSender):
    """The client's end of the response: notes what it gets."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.trailers: Headers | None = None
        self.has_ended = False
        self.chunks: list[bytes] = []
        self.was_reset = False
        self._connection = Connection()

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        raise AssertionError("no interim responses here")

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.head = head
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        if data:
            self.chunks.append(data)
        self.has_ended = end

    def send_trailers(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.has_ended = True

    def reset(self, failure: Failure) -> None:
        self.was_reset = True

    def release(self) -> None:
        pass


class Pool(ConnectionPool):
    """Lets every attempt wait until the test gives it a stream."""

    def __init__(self, receivers: list[ResponseReceiver]) -> None:
        self._receivers = receivers

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        self._receivers.append(receiver)

    def withdraw(self, receiver: ResponseReceiver) -> None:
        self._receivers.remove(receiver)


class Protocol(StreamProtocol):
    def __init__(self, receivers: list[ResponseReceiver]) -> None:
        super().__init__(ProtocolSpec(PROTOCOL, "", False))
        self._receivers = receivers

    def pool(self, upstream: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return Pool(self._receivers)
