"""Copies one exchange for the taps that it may match: wraps the exchange and its sender, between layers 3 and 4.

The wrappers pass every call on, before or after they have copied what it brings; they decide nothing and never wait.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import Connection
from pymosn.api.rpc import RpcRequest, RpcResponse, RpcSpec
from pymosn.api.stream import RequestReceiver, ResponseSender
from pymosn.core.clock import Clock
from pymosn.core.errors import describe
from pymosn.core.failure import Failure
from pymosn.core.foreign import report
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.redaction import redacted_text
from pymosn.core.uri import target_of
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.stories import Story, valid
from pymosn.proxy.tap_frames import without_secrets
from pymosn.proxy.taps import FRAME_HEAD, HELD_BYTES, Tap, Taps, shown_fields

#: Bytes that a copied exchange counts, and each of its fields, besides what they contain.
HEAD_SIZE: Final[i64] = 2048
FIELD_SIZE: Final[i64] = 64


class Copied:
    """One direction of a copied exchange."""

    def __init__(self) -> None:
        self.headers: Headers | None = None
        self.trailers: Headers | None = None
        #: The copied beginning of the body, in one piece: clients may send it in very small ones.
        self.kept = bytearray()
        #: Bytes that came.
        self.size: i64 = 0
        self.has_ended = False
        #: The frame of an RPC protocol.
        self.frame: bytes = b""

    def add(self, data: bytes, limit: i64) -> i64:
        """Copies a part of the body, up to `limit` bytes of all of it; returns how many bytes that were."""
        self.size += len(data)
        room: i64 = limit - len(self.kept)
        if room <= 0 or len(data) == 0:
            return 0
        part = data if len(data) <= room else data[:room]
        self.kept += part
        return len(part)

    def body(self, limit: i64) -> dict[str, object]:
        """The copied body, up to `limit` bytes. `complete`: nothing is missing."""
        data = bytes(self.kept if len(self.kept) <= limit else self.kept[:limit])
        return {"size": int(self.size), "data": data, "complete": self.has_ended and len(data) == self.size}


class Copy:
    """What is copied of one exchange, and for which taps."""

    def __init__(self, taps: Taps, found: list[Tap], runtime: Runtime, options: ProxyOptions) -> None:
        self.found = found
        self.request = Copied()
        self.response = Copied()
        self.method = ""
        self.service = ""
        self.raw_path: bytes = b""
        self.raw_query: bytes | None = None
        self.raw_host: bytes = b""
        self.scheme = ""
        self.is_rpc = False
        self.is_one_way = False
        self.accepts_trailers = False
        self.status: i64 = 0
        self.is_tunnel = False
        #: The word of the failure by which the response was reset.
        self.reset = ""
        #: What could not be copied, and why.
        self.note = ""
        self.limit: i64 = max([tap.rule.bodies for tap in found])
        self._held: i64 = HEAD_SIZE
        self._taps = taps
        self._runtime = runtime
        self._options = options
        taps.exchanges += 1
        taps.held += HEAD_SIZE

    def add(self, direction: Copied, data: bytes) -> None:
        """Copies a part of a body, unless too much is held."""
        limit = self.limit if self._taps.held < HELD_BYTES and not self.is_tunnel else 0
        self._count(direction.add(data, limit))

    def note_request(self, head: RequestHead) -> None:
        """Copies a request's head before the exchange can change it."""
        self.raw_path, self.raw_query, self.raw_host = head.raw_path, head.raw_query, head.raw_host
        self.scheme = head.scheme
        self.is_one_way = head.is_one_way
        self.accepts_trailers = head.accepts_trailers
        if isinstance(head, RpcRequest):
            self.is_rpc = True
            self.service = head.service()
            self.request.frame = self._frame(head)
        else:
            self.request.headers = self._held_copy(head.headers)
        self.method = head.method_name()

    def _frame(self, head: RpcRequest) -> bytes:
        if len(head.frame) == 0 or len(head.frame) + len(head.payload) > FRAME_HEAD + self.limit:
            return b""
        out = FrameWriter()
        head.with_request_id(head.request_id, out)
        return self._hold(b"".join(out.take()))

    def note_response(self, head: ResponseHead, data: bytes, request_id: i64) -> None:
        """Copies a response's head before it is sent."""
        self.status = head.status
        self.is_tunnel = len(head.raw_tunnel) > 0
        if not isinstance(head, RpcResponse):
            self.response.headers = self._held_copy(head.headers)
        elif self.is_rpc and len(head.frame) + len(data) <= FRAME_HEAD + self.limit:
            out = FrameWriter()
            head.encode(request_id, data, out)
            self.response.frame = self._hold(b"".join(out.take()))

    def add_trailers(self, direction: Copied, trailers: Headers) -> None:
        """Copies trailers, unless too much is held."""
        if self._taps.held < HELD_BYTES:
            direction.trailers = self._held_copy(trailers)
        else:
            self.note = "the trailers were not copied: too much was held"

    def _held_copy(self, headers: Headers) -> Headers:
        size: i64 = 0
        for name, value in headers.items_raw():
            size += len(name) + len(value) + FIELD_SIZE
        self._count(size)
        return headers.copy()

    def _hold(self, frame: bytes) -> bytes:
        self._count(len(frame))
        return frame

    def _count(self, size: i64) -> None:
        self._held += size
        self._taps.held += size

    def finish(self, driver: ExchangeDriver) -> None:
        """The exchange is over: hands a record to each tap that it matches."""
        taps = self._taps
        taps.exchanges -= 1
        taps.held -= self._held
        exchange = driver.exchange
        for tap in self.found:
            if not tap.is_open or not tap.rule.matches(exchange):
                continue
            tap.matched += 1
            if tap.admits(self._held):
                taps.last += 1
                tap.take(self._record(driver, tap, taps.last))

    def _record(self, driver: ExchangeDriver, tap: Tap, number: i64) -> dict[str, object]:
        """The exchange as JSON-like values without secrets; bodies as bytes."""
        exchange = driver.exchange
        clock: Clock = self._runtime.clock
        story = Story(exchange, self._options, clock.wall() - (clock.now - exchange.started))
        bodies: i64 = tap.rule.bodies
        spec = self._spec(exchange.protocol)
        request: dict[str, object] = {
            "method": valid(self.method),
            "scheme": self.scheme,
            "host": redacted_text(self.raw_host.decode("latin-1")),
            "target": redacted_text(target_of(self.raw_path, self.raw_query).decode("latin-1")),
            "service": valid(redacted_text(self.service)),
            "one_way": self.is_one_way,
            "accepts_trailers": self.accepts_trailers,
        }
        response: dict[str, object] = {"status": int(self.status), "reset": self.reset}
        _add_content(request, self.request, spec, bodies, False)
        _add_content(response, self.response, spec, bodies, True)
        return {
            "number": int(number),
            "story": story.shown(),
            "rpc": self.is_rpc,
            "tunnel": self.is_tunnel,
            "note": redacted_text(self.note),
            "request": request,
            "response": response,
        }

    def _spec(self, protocol: str) -> RpcSpec | None:
        found = self._runtime.protocols.get(protocol)
        spec = None if found is None else found.spec
        return spec if isinstance(spec, RpcSpec) else None


def _add_content(shown: dict[str, object], copied: Copied, spec: RpcSpec | None, bodies: i64, is_response: bool) -> None:
    """Adds fields, trailers, body and frame to what is shown of one direction."""
    shown["headers"] = [] if copied.headers is None else shown_fields(copied.headers)
    shown["trailers"] = None if copied.trailers is None else shown_fields(copied.trailers)
    shown["bytes"] = int(copied.size)
    if bodies > 0 and spec is None:
        shown["body"] = copied.body(bodies)
    if spec is None or len(copied.frame) == 0:
        return
    frame = without_secrets(spec, copied.frame, is_response)
    shown["headers"] = frame.fields
    shown["frame_status"] = int(frame.status)
    shown["note"] = frame.note
    if bodies > 0 and len(frame.frame) > 0:
        shown["frame"] = frame.frame


class TappedSender(ResponseSender):
    """The sender of an exchange that is copied."""

    def __init__(self, sender: ResponseSender) -> None:
        self.copy: Copy | None = None
        self.driver: ExchangeDriver | None = None
        self._sender: ResponseSender = sender

    def connection(self) -> Connection:
        return self._sender.connection()

    def stream_number(self) -> i64:
        return self._sender.stream_number()

    def send_informational(self, head: ResponseHead) -> None:
        self._sender.send_informational(head)

    def takes_body(self, head: ResponseHead) -> bool:
        return self._sender.takes_body(head)

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        copy = self.copy
        if copy is not None:
            try:
                copy.note_response(head, data, self._sender.stream_number())
            except BaseException as error:  # of headers that cannot be encoded, and of heads of installed protocols
                copy.note = describe(error)
            if self._sender.takes_body(head):
                copy.add(copy.response, data)
            copy.response.has_ended = end
            if end and head.trailers is not None:
                copy.add_trailers(copy.response, head.trailers)
        self._sender.send_response(head, data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        copy = self.copy
        if copy is not None:
            copy.add(copy.response, data)
            copy.response.has_ended = end
        self._sender.send_data(data, end)

    def send_trailers(self, trailers: Headers) -> None:
        copy = self.copy
        if copy is not None:
            copy.add_trailers(copy.response, trailers)
            copy.response.has_ended = True
        self._sender.send_trailers(trailers)

    def end_connection(self) -> None:
        self._sender.end_connection()

    def reset(self, failure: Failure) -> None:
        if self.copy is not None:
            self.copy.reset = failure.reason
        self._sender.reset(failure)

    def pause(self) -> None:
        self._sender.pause()

    def resume(self) -> None:
        self._sender.resume()

    def release(self) -> None:
        copy = self.copy
        driver = self.driver
        self.copy = None
        self.driver = None
        if copy is not None and driver is not None:
            try:
                copy.finish(driver)
            except BaseException as error:
                report("an exchange cannot be shown to a tap", error)
        self._sender.release()


class TappedReceiver(RequestReceiver):
    """The receiver of a request that may be copied; passes everything on to the exchange."""

    def __init__(self, taps: Taps, runtime: Runtime, options: ProxyOptions, sender: TappedSender, protocol: str) -> None:
        self._taps = taps
        self._runtime = runtime
        self._options = options
        self._sender = sender
        self._protocol = protocol
        self._driver = ExchangeDriver(runtime, options, sender, protocol)

    def _begin(self, head: RequestHead) -> Copy | None:
        """Begins to copy an exchange if a tap may match it."""
        taps = self._taps
        remote_ip = self._sender.connection().remote_ip
        found = taps.candidates(self._options.listener_name, self._protocol, remote_ip, head)
        if not found:
            return None
        if not taps.has_room():
            for tap in found:
                tap.dropped += 1
            return None
        copy = Copy(taps, found, self._runtime, self._options)
        self._sender.copy = copy
        self._sender.driver = self._driver
        try:
            copy.note_request(head)
        except BaseException as error:  # of headers that cannot be read, and of heads of installed protocols
            copy.note = describe(error)
        return copy

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        copy = self._begin(head)
        if copy is not None:
            copy.add(copy.request, data)
            copy.request.has_ended = end
        self._driver.on_request(head, data, end)

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        copy = self._begin(head)
        if copy is not None and not copy.note:
            copy.note = "the request was refused, and not read as a whole"
        self._driver.on_refused(head, failure)

    def on_data(self, data: bytes, end: bool) -> None:
        copy = self._sender.copy
        if copy is not None:
            copy.add(copy.request, data)
            copy.request.has_ended = end
        self._driver.on_data(data, end)

    def on_trailers(self, trailers: Headers) -> None:
        copy = self._sender.copy
        if copy is not None:
            copy.add_trailers(copy.request, trailers)
            copy.request.has_ended = True
        self._driver.on_trailers(trailers)

    def on_reset(self, failure: Failure) -> None:
        self._driver.on_reset(failure)

    def on_writable(self, writable: bool) -> None:
        self._driver.on_writable(writable)


def tapped(taps: Taps, runtime: Runtime, options: ProxyOptions, sender: ResponseSender, protocol: str) -> RequestReceiver:
    """The receiver of a new request while there are taps."""
    return TappedReceiver(taps, runtime, options, TappedSender(sender), protocol)
