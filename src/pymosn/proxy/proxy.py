"""The `proxy` network filter: finds out the protocol of a connection once, then makes exchanges of its streams."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.network import (
    DRAIN_GRACE,
    STOP,
    Connection,
    FilterChainFactory,
    NetworkFilter,
    NetworkFilterFactory,
)
from pymosn.api.protocol import NO, YES
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.failure import CLOSED_BY_PEER, CLOSED_LOCALLY, DETECTION_TIMEOUT, IDLE_TIMEOUT, PROTOCOL_UNKNOWN, Failure
from pymosn.core.log import WARN
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime

#: Seconds in which a connection must show what protocol it speaks where a fallback waits for those that do not: MOSN's time.
#: A server may speak first there.
FALLBACK_TIME: Final = 15.0
#: A protocol that cannot tell by then is not there.
MOST_FIRST_BYTES: Final[i64] = 4096


class ExchangeMaker(StreamHandler):
    """Makes an exchange of each stream of one protocol on one listener."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, protocol: str) -> None:
        self._runtime = runtime
        #: Exchanges that begin from now on get these.
        self.options = options
        self._protocol = protocol

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        return ExchangeDriver(self._runtime, self.options, sender, self._protocol)

    def on_unexpected_message(self, failure: Failure) -> None:
        self.options.stats.count_reason(failure.reason)


class ProxyFactory(FilterChainFactory):
    """The filter chain of a listener that begins with `proxy`."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, fallback: NetworkFilterFactory | None = None) -> None:
        """`fallback`: what takes over connections in none of the protocols (`fallback_for_unknown_protocol`)."""
        self.fallback = fallback
        self._runtime = runtime
        self._options = options
        self._makers: dict[str, ExchangeMaker] = {}
        self.replace(options)

    @property
    def options(self) -> ProxyOptions:
        """The options in force."""
        return self._options

    def change(self, options: ProxyOptions, fallback: NetworkFilterFactory | None) -> None:
        """The same for `fallback`, too."""
        self.fallback = fallback
        self.replace(options)

    def replace(self, options: ProxyOptions) -> None:
        """Puts other options in force: for new connections, and for the next exchange of each open one."""
        self._options = options
        for protocol in options.protocols:
            name = protocol.spec.name
            if name not in self._makers:
                self._makers[name] = ExchangeMaker(self._runtime, options, name)
        for name, maker in self._makers.items():
            maker.options = options.for_protocol(name)

    def create(self) -> list[NetworkFilter]:
        protocols = self._options.protocols
        if len(protocols) == 1:
            return [self.server(protocols[0], self._options)]
        return [ProtocolDetector(self, self._runtime, self._options)]

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        exchange = Exchange(connection)
        exchange.failure = failure
        exchange.started = exchange.finished = connection.now()
        exchange.bytes_received = connection.bytes_read
        for access_log in self._options.access_logs:
            access_log.log(exchange)

    def server(self, protocol: StreamProtocol, options: ProxyOptions) -> ServerStreams:
        """The server half of a connection that speaks `protocol` and began under `options`."""
        name = protocol.spec.name
        return protocol.server(self._makers[name], options.protocol_options[name])


class ProtocolDetector(NetworkFilter):
    """Waits until the first bytes tell which of several protocols they are, then hands everything to its server half.

    The protocols are asked in the order of the listener's list; the first that knows the bytes as its own gets the
    connection, even while an earlier one wants to see more. When none does, or nothing is decided in time, the fallback
    takes over, or the connection is closed.
    """

    def __init__(self, factory: ProxyFactory, runtime: Runtime, options: ProxyOptions) -> None:
        self._factory = factory
        self._runtime = runtime
        self._options = options
        self._connection: Connection = Connection()
        self._successor: NetworkFilter | None = None
        self._first = b""
        self._is_draining = False
        self._fallback_at = 0.0

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        self._fallback_at = connection.now() + FALLBACK_TIME
        connection.set_idle(self._options.idle_timeout if self._factory.fallback is None else FALLBACK_TIME)

    def on_data(self, data: bytes) -> bool:
        successor = self._successor
        if successor is not None:
            return successor.on_data(data)
        if not self._first:
            self._set_detection_time()
        self._first += data
        undecided = False
        for protocol in self._options.protocols:
            answer: i64 = protocol.spec.match(self._first)
            if answer == YES:
                self._hand_over(self._factory.server(protocol, self._options))
                return STOP
            if answer != NO:
                undecided = True
        if not undecided or len(self._first) > MOST_FIRST_BYTES:
            self._give_up()
        return STOP

    def _set_detection_time(self) -> None:
        """How long the rest of the first bytes may take."""
        seconds = self._options.detection_timeout
        if self._factory.fallback is not None:
            if seconds > 0.0:  # a silent connection has its time already
                self._connection.set_idle(min(seconds, max(self._fallback_at - self._connection.now(), 0.001)))
        else:
            self._connection.set_idle(DRAIN_GRACE if self._is_draining else seconds)

    def _hand_over(self, successor: NetworkFilter) -> None:
        self._connection.set_idle(0.0)
        self._successor = successor
        successor.on_connection(self._connection)
        if self._is_draining:
            successor.on_drain()
        first = self._first
        self._first = b""
        if first:
            successor.on_data(first)

    def _give_up(self) -> None:
        """None of the protocols."""
        fallback = self._factory.fallback
        if fallback is not None:
            self._hand_over(fallback.create())
            return
        log = self._runtime.log
        if log.level <= WARN:
            text = f"[{self._connection.id},-,-] no protocol of the listener begins with {self._first[:10]!r}"
            log.write(WARN, text, "mosn.proxy.codec_error")
        self._refuse(PROTOCOL_UNKNOWN)

    def _refuse(self, failure: Failure) -> None:
        stats = self._options.stats
        stats.connection_refused.value += 1
        stats.count_reason(failure.reason)
        self._factory.on_refused(self._connection, failure)
        self._first = b""
        self._connection.abort(failure)

    def on_eof(self) -> None:
        if self._successor is None and self._first and self._factory.fallback is not None:
            self._give_up()
        if self._successor is not None:
            self._successor.on_eof()
        elif self._first:
            self._refuse(PROTOCOL_UNKNOWN)
        else:
            self._connection.close(CLOSED_LOCALLY)

    def on_writable(self, writable: bool) -> None:
        if self._successor is not None:
            self._successor.on_writable(writable)

    def on_idle(self) -> None:
        if self._successor is not None:
            self._successor.on_idle()
        elif self._factory.fallback is not None:
            self._give_up()
        elif self._first:
            self._refuse(DETECTION_TIMEOUT)
        else:
            self._connection.close(IDLE_TIMEOUT)

    def on_drain(self) -> None:
        if self._successor is not None:
            self._successor.on_drain()
        else:
            self._is_draining = True
            if self._factory.fallback is None:
                self._connection.set_idle(DRAIN_GRACE)

    def on_close(self, failure: Failure) -> None:
        if self._successor is not None:
            self._successor.on_close(failure)
        elif self._first and failure is CLOSED_BY_PEER:
            self._refuse(PROTOCOL_UNKNOWN)
