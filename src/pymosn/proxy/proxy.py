"""The `proxy` network filter: detects the protocol of a connection, and creates an exchange for each stream."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.alpn import plain_name
from pymosn.api.exchange import Exchange
from pymosn.api.network import (
    DONE,
    MORE_BYTES,
    REFUSE,
    Accepted,
    Connection,
    FilterChainFactory,
    FirstBytes,
    NetworkFilter,
    NetworkFilterFactory,
    Passage,
)
from pymosn.api.protocol import MORE, NO, YES
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamHandler, StreamProtocol
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import INTERNAL_ERROR, Failure
from pymosn.core.foreign import report
from pymosn.core.log import ALERT_AUTO, ERROR, Log
from pymosn.network.first_bytes import FirstBytesPlan, FirstBytesReader
from pymosn.protocol.http1.spec import match_any_method
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.tapping import tapped

#: Seconds after which an undecided connection is passed to the fallback, if there is one, as in MOSN: the client may be
#: silent because it expects the server to speak first.
FALLBACK_TIME: Final = 15.0
#: A protocol that is undecided after this many bytes is not the right one.
DETECTION_LIMIT: Final[i64] = 4096
#: The family of all versions of HTTP.
HTTP: Final = "http"


class ExchangeMaker(StreamHandler):
    """Creates an exchange for each stream of one protocol on one listener."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, protocol: str) -> None:
        self._runtime = runtime
        #: The options of exchanges that start from now on.
        self.options = options
        self._protocol = protocol

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        taps = self._runtime.taps
        if taps is not None:
            return tapped(taps, self._runtime, self.options, sender, self._protocol)
        return ExchangeDriver(self._runtime, self.options, sender, self._protocol)

    def on_unexpected_message(self, failure: Failure) -> None:
        self.options.stats.count_reason(failure.reason)


class ProxyFactory(FilterChainFactory):
    """A listener's filter chain whose first filter is `proxy`."""

    def __init__(self, runtime: Runtime, options: ProxyOptions, fallback: NetworkFilterFactory | None = None) -> None:
        """`fallback`: takes over connections that match none of the protocols (`fallback_for_unknown_protocol`)."""
        self.fallback = fallback
        self._runtime = runtime
        self._options = options
        self._makers: dict[str, ExchangeMaker] = {}
        self._plan: FirstBytesPlan | None = None
        self.activate(options, fallback)

    @property
    def options(self) -> ProxyOptions:
        """The active options."""
        return self._options

    def activate(self, options: ProxyOptions, fallback: NetworkFilterFactory | None = None) -> None:
        """Activates other options: for new connections, and for the next exchange of each open one."""
        self.fallback = fallback
        self._options = options
        for protocol in options.protocols:
            name = protocol.spec.name
            if name not in self._makers:
                self._makers[name] = ExchangeMaker(self._runtime, options, name)
        for name, maker in self._makers.items():
            maker.options = options.for_protocol(name)
        self._plan = self._detection(options, fallback) if len(options.protocols) != 1 else None

    def _detection(self, options: ProxyOptions, fallback: NetworkFilterFactory | None) -> FirstBytesPlan:
        servers = [(protocol, self._makers[protocol.spec.name]) for protocol in options.protocols]
        return FirstBytesPlan(
            [ProtocolDetection(servers, options, fallback, self._runtime.log)],
            factory=self,
            stats=options.stats,
            silence_timeout=options.idle_timeout if fallback is None else FALLBACK_TIME,
            timeout=options.detection_timeout,
            serves_undecided=fallback is not None,
        )

    def create(self) -> list[NetworkFilter]:
        plan = self._plan
        if plan is not None:
            return [FirstBytesReader(plan)]
        protocol = self._options.protocols[0]
        try:
            return [server_streams(protocol, self._makers[protocol.spec.name], self._options)]
        except BaseException as error:  # of an installed protocol
            report("a connection cannot be served", error)
            return [Unserved(self, self._options.stats)]

    def resume(self, connection: Connection, passage: Passage) -> list[NetworkFilter] | None:
        if not passage.protocol:
            return self.create()
        for protocol in self._options.protocols:
            if protocol.spec.name == passage.protocol:
                try:
                    return [server_streams(protocol, self._makers[passage.protocol], self._options)]
                except BaseException as error:  # of an installed protocol
                    report("a connection cannot be continued", error)
        return None

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        exchange = Exchange(connection)
        exchange.stamps = self._runtime.stamps
        exchange.failure = failure
        exchange.started = exchange.finished = connection.now()
        exchange.bytes_received = connection.bytes_read
        for access_log in self._options.access_logs:
            access_log.log(exchange)


class Unserved(NetworkFilter):
    """Aborts its connection, because the protocol of an installed package failed to make its server half."""

    def __init__(self, factory: FilterChainFactory, stats: DownstreamStats) -> None:
        self._factory = factory
        self._stats = stats

    def on_connection(self, connection: Connection) -> None:
        self._stats.connection_refused.value += 1
        self._stats.count_reason(INTERNAL_ERROR.reason)
        self._factory.on_refused(connection, INTERNAL_ERROR)
        connection.abort(INTERNAL_ERROR)


def server_streams(protocol: StreamProtocol, handler: StreamHandler, options: ProxyOptions) -> ServerStreams:
    """The server side of a connection in `protocol`; `options`: those with which it was accepted."""
    return protocol.server(handler, options.protocol_options[protocol.spec.name])


class ProtocolDetection(FirstBytes):
    """Chooses among several protocols: the one that was negotiated by ALPN, else by the first bytes of a connection.

    The protocols are tried in the order of the listener's list; the first that recognises the bytes gets the connection,
    even while an earlier one needs more of them. If none does, or nothing is decided in time, the fallback takes over, or
    the connection is refused. Where only versions of HTTP are listed, and there is no fallback, a request of HTTP/1 may have
    any method: only HTTP/2 must be distinguished from it.
    """

    def __init__(
        self,
        servers: list[tuple[StreamProtocol, ExchangeMaker]],
        options: ProxyOptions,
        fallback: NetworkFilterFactory | None,
        log: Log,
    ) -> None:
        self._servers = servers
        self._options = options
        self._fallback = fallback
        self._log = log
        # The index of HTTP/1 among the protocols, if only other versions of HTTP are listed; -1 if not.
        self._http1: i64 = -1
        if fallback is None and all([protocol.spec.family == HTTP for protocol, _ in servers]):  # noqa: C419
            for index, (protocol, _) in enumerate(servers):
                if not protocol.spec.multiplexed:
                    self._http1 = index

    def needs_bytes(self, accepted: Accepted) -> bool:
        return False

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> i64:
        if accepted.connection.alpn and self._serve_negotiated(accepted):
            return DONE
        if not data:
            return MORE_BYTES
        is_undecided = False
        for protocol, handler in self._servers:
            try:
                answer: i64 = protocol.spec.match(data)
                if answer == YES:
                    accepted.filters = [server_streams(protocol, handler, self._options)]
                    return DONE
            except BaseException as error:  # of an installed protocol
                report(f"protocol {protocol.spec.name!r} cannot be detected", error)
                continue
            if answer != NO:
                is_undecided = True
        if self._http1 >= 0 and not is_undecided:
            answer = match_any_method(data)
            if answer == YES:
                protocol, handler = self._servers[self._http1]
                accepted.filters = [server_streams(protocol, handler, self._options)]
                return DONE
            is_undecided = answer == MORE
        if is_undecided and len(data) <= DETECTION_LIMIT:
            return MORE_BYTES
        if self._fallback is None and self._log.level <= ERROR:
            text = f"[{accepted.connection.id},-,-] unrecognised protocol; first bytes {data[:10]!r}"
            self._log.write(ERROR, text, ALERT_AUTO)
        return self.on_undecided(accepted)

    def _serve_negotiated(self, accepted: Accepted) -> bool:
        """Serves the protocol that was negotiated by ALPN; False if none of these has that name."""
        name = plain_name(accepted.connection.alpn)
        for protocol, handler in self._servers:
            try:
                if protocol.spec.alpn == name:
                    accepted.filters = [server_streams(protocol, handler, self._options)]
                    return True
            except BaseException as error:  # of an installed protocol
                report(f"protocol {protocol.spec.name!r} cannot be served", error)
        return False

    def on_undecided(self, accepted: Accepted) -> i64:
        if self._fallback is None:
            return REFUSE
        accepted.filters = [self._fallback.create()]
        return DONE
