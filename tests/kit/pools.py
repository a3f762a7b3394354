"""Peers of connection pools that only note what happens to them, and a dialer that is answered by hand."""

from pymosn.api.network import Connection, Dialer, DialReceiver, NetworkFilter, Peer, plain_peer
from pymosn.api.stream import PoolTarget, RequestSender, ResponseReceiver
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead


class Plug(Connection):
    """A connection that only notes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.idle = -1.0
        self.pauses = 0
        self.ending = ""
        self.time = 0.0
        self.filters: list[NetworkFilter] = []

    def now(self) -> float:
        return self.time

    def replace_filters(self, filters: list[NetworkFilter]) -> None:
        self.filters = filters

    def write(self, data: bytes) -> None:
        self.sent += data

    def write_parts(self, parts: list[bytes]) -> None:
        self.sent += b"".join(parts)

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1

    def set_idle(self, seconds: float) -> None:
        self.idle = seconds

    def close(self, failure: Failure) -> None:
        self.is_closed = True
        self.ending = "close"

    def abort(self, failure: Failure) -> None:
        self.is_closed = True
        self.ending = "abort"


class HandDialer(Dialer):
    def __init__(self) -> None:
        self.dials: list[tuple[NetworkFilter, DialReceiver]] = []

    def dial(
        self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver, preface: bytes = b""
    ) -> None:
        self.dials.append((network_filter, receiver))

    def answer(self, alpn: str = "", early: bytes = b"") -> tuple[Plug, NetworkFilter]:
        """The host accepts. `alpn`: what it selects; `early`: what it sends at once."""
        network_filter, receiver = self.dials.pop(0)
        plug = Plug()
        plug.alpn = alpn
        network_filter.on_connection(plug)
        if early:
            network_filter.on_data(early)
        receiver.on_dialed(plug)
        return plug, network_filter

    def refuse(self, failure: Failure) -> None:
        """The host does not accept."""
        _, receiver = self.dials.pop(0)
        receiver.on_dial_failed(failure, "")


class Target(PoolTarget):
    """Counts like a host of a cluster."""

    def __init__(self, limit: int = 0) -> None:
        super().__init__(plain_peer("10.0.0.1:80"), 1.0, 30.0, 0)
        self.limit = limit
        self.open = 0
        self.failed = 0

    def is_full(self) -> bool:
        return 0 < self.limit <= self.open

    def try_connection(self) -> bool:
        if self.is_full():
            return False
        self.open += 1
        return True

    def on_connection(self) -> None:
        pass

    def on_connection_end(self, opened: bool) -> None:
        self.open -= 1
        if not opened:
            self.failed += 1


class Caller(ResponseReceiver):
    def __init__(self) -> None:
        super().__init__()
        self.sender: RequestSender | None = None
        self.events: list[object] = []

    def on_sender(self, sender: RequestSender) -> None:
        self.sender = sender

    def on_no_sender(self, failure: Failure) -> None:
        self.events.append(failure.reason)

    def on_informational(self, head: ResponseHead) -> None:
        self.events.append(int(head.status))

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self.events.append((int(head.status), data, end))

    def on_data(self, data: bytes, end: bool) -> None:
        self.events.append((data, end))

    def on_trailers(self, trailers: Headers) -> None:
        self.events.append(trailers.items())

    def on_reset(self, failure: Failure) -> None:
        self.events.append(failure.reason)

    def on_writable(self, writable: bool) -> None:
        self.events.append(writable)
