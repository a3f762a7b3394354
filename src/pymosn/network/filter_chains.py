"""A listener with TLS, several filter chains or the PROXY protocol: chooses the chain of each connection.

The choice is a step of `FirstBytesReader`. It reads the ClientHello only where something depends on it: TLS in one of the
chains, a condition on server names or protocols, or a route of `tcp_proxy` by server name.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.network import (
    DONE,
    MORE_BYTES,
    REFUSE,
    Accepted,
    Connection,
    FilterChainFactory,
    FirstBytes,
    NetworkFilter,
    Passage,
)
from pymosn.api.protocol import ProtocolError
from pymosn.api.tls import TlsInfo
from pymosn.core.addresses import address_host, address_port
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import (
    BAD_CLIENT_HELLO,
    NO_COMMON_ALPN,
    NO_FILTER_CHAIN,
    NOT_TLS,
    PROTOCOL_UNKNOWN,
    TLS_CLOSED_IN_HANDSHAKE,
    TLS_HANDSHAKE_FAILED,
    TLS_HANDSHAKE_TIMEOUT,
    Failure,
)
from pymosn.network.chain_match import PLAIN_TEXT, TLS, ChainConditions, ChainTable, Ends
from pymosn.network.connection import TcpConnection
from pymosn.network.first_bytes import FirstBytesPlan, FirstBytesReader
from pymosn.network.inspection import NONE, Inspection, http_protocols
from pymosn.network.tls.alerts import (
    DECODE_ERROR,
    HANDSHAKE_FAILURE,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    alert_record,
)
from pymosn.network.tls.contexts import ServerContexts, ServerHandshake
from pymosn.network.tls.gate import HandshakeGate
from pymosn.protocol.tls.hello import ClientHello, is_tls, read_hello

#: Seconds after which a silent connection gets the chain for plain text, if its server may have to speak first. Where TLS is
#: terminated, the timeout of handshakes applies if it is shorter.
SILENCE_TIME: Final = 15.0
#: What happens to clients whose first bytes do not decide in time.
CONTINUE: Final = "continue"
CLOSE: Final = "close"
_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ")
_NOT_HTTPS: Final = b"This port expects HTTPS; the request was sent without TLS.\n"
#: The reply to an HTTP request where only TLS is expected.
_PLAIN_REPLY: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: "
    + str(len(_NOT_HTTPS)).encode()
    + b"\r\n\r\n"
    + _NOT_HTTPS
)


class Chain:
    """One filter chain."""

    def __init__(
        self,
        name: str,
        conditions: ChainConditions,
        factory: FilterChainFactory,
        contexts: ServerContexts | None,
        *,
        speaks_http: bool,
        speaks_first: bool,
        reads_hello: bool,
    ) -> None:
        """`contexts`: None if TLS is not terminated. `speaks_http`: HTTP/1 is among its protocols.

        `speaks_first`: its servers may speak before the client. `reads_hello`: what it does depends on the ClientHello.
        """
        self.name = name
        self.conditions = conditions
        self.factory = factory
        self.contexts = contexts
        self.speaks_http = speaks_http
        self.speaks_first = speaks_first
        self.reads_hello = reads_hello or contexts is not None or conditions.reads_hello()

    def is_fallen_back(self) -> bool:
        """Whether it serves plain text for want of a usable certificate (`fall_back`)."""
        contexts = self.contexts
        return contexts is not None and all(context.settings.is_plain for context in contexts.contexts)

    def needs_certificate(self) -> bool:
        """Whether no client can connect without a valid certificate."""
        contexts = self.contexts
        return contexts is not None and all(context.needs_certificate for context in contexts.contexts)


class ChainStep(FirstBytes):
    """Chooses the chain of a connection, and its TLS context. The last step."""

    def __init__(
        self,
        chains: list[Chain],
        stats: DownstreamStats,
        inspection: Inspection,
        *,
        inspector: bool,
        on_undecided: str = "",
    ) -> None:
        """`inspector`: plain text is served where TLS is expected. `on_undecided`: see `FilterChains`."""
        self._on_undecided = on_undecided
        self._inspection = inspection
        self._chains = chains
        self._table = ChainTable([chain.conditions for chain in chains])
        self._stats = stats
        self._inspector = inspector
        self._reads_hello = any(chain.reads_hello for chain in chains)
        self._terminates = any(chain.contexts is not None for chain in chains)

    def needs_bytes(self, accepted: Accepted) -> bool:
        if not self._reads_hello:
            return False
        port = port_of(accepted.connection)
        return self._inspection.finds_tls_on(port) or self._inspection.finds_http_on(port)

    def on_first_bytes(self, accepted: Accepted, data: bytes) -> i64:
        port = port_of(accepted.connection)
        if not (self._reads_hello and data and is_tls(data)) or not self._inspection.finds_tls_on(port):
            return self._serve_text(accepted, data, port)
        try:
            hello = read_hello(data)
        except ProtocolError:
            if not self._terminates:
                return self._serve_plain(accepted, data)
            return _refuse(accepted, BAD_CLIENT_HELLO, DECODE_ERROR)
        if hello is None:
            return MORE_BYTES
        return self._serve_tls(accepted, hello)

    def on_undecided(self, accepted: Accepted) -> i64:
        if accepted.waiting > 0 and accepted.is_text and self._on_undecided == CONTINUE:
            return self._serve_plain(accepted, b"")
        if accepted.waiting > 0:
            has_ended = accepted.failure is PROTOCOL_UNKNOWN
            accepted.failure = TLS_CLOSED_IN_HANDSHAKE if has_ended else TLS_HANDSHAKE_TIMEOUT
            return REFUSE
        chain = self._find(accepted.connection, PLAIN_TEXT, "", NONE)
        if chain is None or not chain.speaks_first or self._on_undecided == CLOSE:
            return REFUSE
        return self._serve_plain(accepted, b"")

    def _find(self, connection: Connection, transport: str, name: str, protocols: tuple[str, ...]) -> Chain | None:
        index = self._table.find_for(ends_of(connection), name, transport, protocols)
        return None if index < 0 else self._chains[index]

    def _serve_text(self, accepted: Accepted, data: bytes, port: i64) -> i64:
        """Serves plain text, whose protocol may decide about the chain."""
        if not self._reads_hello or not self._inspection.finds_http_on(port):
            return self._serve_plain(accepted, data)
        protocols = http_protocols(data)
        accepted.is_text = protocols is None
        return MORE_BYTES if protocols is None else self._serve_plain(accepted, data, protocols)

    def _serve_plain(self, accepted: Accepted, data: bytes, protocols: tuple[str, ...] = NONE) -> i64:
        chain = self._find(accepted.connection, PLAIN_TEXT, "", protocols)
        if chain is None:
            accepted.failure = NO_FILTER_CHAIN
            return REFUSE
        if chain.contexts is not None:
            if chain.is_fallen_back():
                self._stats.tls.plain.value += 1
            elif not self._inspector or chain.needs_certificate():
                accepted.failure = NOT_TLS
                if chain.speaks_http and data.startswith(_METHODS):
                    accepted.last_words = _PLAIN_REPLY
                return REFUSE
        accepted.factory = chain.factory
        return DONE

    def _serve_tls(self, accepted: Accepted, hello: ClientHello) -> i64:
        connection = accepted.connection
        chain = self._find(connection, TLS, hello.server_name, hello.protocols)
        if chain is None:
            return _refuse(accepted, NO_FILTER_CHAIN, UNRECOGNIZED_NAME)
        accepted.factory = chain.factory
        contexts = chain.contexts
        if contexts is None:
            connection.tls = facts_of(hello)
            return DONE
        context = contexts.choose(hello)
        if context.settings.is_plain or context.settings.is_waiting:
            return _refuse(accepted, TLS_HANDSHAKE_FAILED, HANDSHAKE_FAILURE)
        handshake = ServerHandshake(context, hello)
        if handshake.has_no_common and context.needs_common:
            return _refuse(accepted, NO_COMMON_ALPN, NO_APPLICATION_PROTOCOL)
        accepted.security = handshake
        return DONE


def _refuse(accepted: Accepted, failure: Failure, alert: i64) -> i64:
    accepted.failure = failure
    accepted.last_words = alert_record(alert)
    return REFUSE


def facts_of(hello: ClientHello) -> TlsInfo:
    """What is known of a connection whose TLS is not terminated here."""
    info = TlsInfo()
    info.server_name = hello.server_name
    info.offered_protocols = hello.protocols
    info.fingerprints = hello
    return info


def ends_of(connection: Connection) -> Ends:
    """The addresses of a connection; the destination is that before any redirect."""
    original = connection.original_destination
    host = address_host(original) if original else connection.local_ip
    return Ends(port_of(connection), connection.remote_ip, host, connection.direct_ip(), connection.remote_port)


def port_of(connection: Connection) -> int:
    """The port that the client connected to, before any redirect."""
    if connection.original_destination:
        return address_port(connection.original_destination)
    return int(connection.local_port)


class FilterChains(FilterChainFactory):
    """The filter chains of a listener whose connections are looked into before their filters are made."""

    def __init__(
        self,
        chains: list[Chain],
        stats: DownstreamStats,
        *,
        before: list[FirstBytes],
        gate: HandshakeGate,
        inspector: bool,
        handshake_timeout: float,
        idle_timeout: float,
        inspection: Inspection | None = None,
        inspection_timeout: float = 0.0,
        on_undecided: str = "",
        listener: str = "",
    ) -> None:
        """`before`: the steps before the choice. `gate`: limits handshakes. `inspection`: None for TLS on all ports.

        `listener`: the name of the listener, for failed handshakes.

        `handshake_timeout`: seconds from accepting to the end of the handshake; also for what must be read to choose.

        `idle_timeout`: seconds for which a client of a plain-text chain may be silent at first. 0 disables them.

        `inspection_timeout`: seconds until the chain must be known, instead; 0 for the others. `on_undecided`: what happens
        then. CONTINUE: the chain for plain text of no known protocol, if what has come is no TLS. CLOSE. Empty: that chain
        for silent clients whose servers may speak first.
        """
        self.chains = chains
        terminates = any(chain.contexts is not None for chain in chains)
        may_be_plain = inspector or any(chain.contexts is None or chain.is_fallen_back() for chain in chains)
        speaks_first = may_be_plain and any(chain.speaks_first for chain in chains)
        silence = SILENCE_TIME if speaks_first else idle_timeout if may_be_plain else handshake_timeout
        self._plan = FirstBytesPlan(
            [
                *before,
                ChainStep(chains, stats, inspection or Inspection(), inspector=inspector, on_undecided=on_undecided),
            ],
            factory=self,
            stats=stats,
            silence_timeout=inspection_timeout or silence,
            timeout=inspection_timeout or handshake_timeout,
            serves_undecided=False,
            handshake_timeout=handshake_timeout if terminates else 0.0,
            gate=gate if terminates else None,
            source_step=len(before),
            listener=listener,
        )

    def create(self) -> list[NetworkFilter]:
        return [FirstBytesReader(self._plan)]

    def resume(self, connection: Connection, passage: Passage) -> list[NetworkFilter] | None:
        index = passage.chain
        if index < 0:
            # All steps but the choice of the chain may be done.
            return [FirstBytesReader(self._plan, min(passage.step, len(self._plan.steps) - 1))]
        if index >= len(self.chains):
            return None
        factory = self.chains[index].factory
        if isinstance(connection, TcpConnection):
            connection.chain = factory
        return factory.resume(connection, passage)

    def index_of(self, chain: FilterChainFactory | None) -> i64:
        if chain is None:
            return -1
        for index, own in enumerate(self.chains):
            if own.factory is chain:
                return index
        return -2

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        self.chains[0].factory.on_refused(connection, failure)
