"""The step between accepting a connection and choosing its filters: inspecting its first bytes.

A listener that needs this step makes a `FirstBytesReader` the only filter of each new connection. It collects bytes and runs
the steps of its plan (`pymosn.api.network.FirstBytes`) in order. Each step sees all bytes that no step has consumed, again
until it has enough, so it keeps no buffer and no state. The last one sets the filters, which then replace the reader: from
then on the connection is as fast as one that was never inspected.

    waiting for the first byte -> waiting for more -> (TLS handshake) -> handed over to the chosen filters
                  |                      |                   |
                  +----------------------+-------------------+---> refused (counted and logged), or closed without any byte

If the steps have chosen TLS (`Accepted.security`), the reader makes the handshake, which begins with the bytes that it
holds. During it the bytes are the transport's, and the reader only waits; afterwards `Accepted.factory` makes the filters.
Connections that are to be encrypted pass the gate of handshakes when they are accepted, and leave it here.

A step may have a time limit of its own (`Accepted.time_limit`). Then the timeouts of the plan begin after it.

Timeouts and half-closes are handled in the same way for all steps. A silent connection has `silence_timeout`, one that has
begun `timeout`; a plan that serves undecided connections (with a fallback filter) instead asks its steps when
`silence_timeout` is over, counted from the start, since there the server may have to speak first.
"""

from __future__ import annotations

import time
from typing import Final

from mypy_extensions import i64

from pymosn.api.network import (
    DONE,
    DRAIN_GRACE,
    MORE_BYTES,
    NO_CONNECTION,
    STOP,
    Accepted,
    Connection,
    FilterChainFactory,
    FirstBytes,
    NetworkFilter,
    Passage,
)
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import (
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    DETECTION_TIMEOUT,
    IDLE_TIMEOUT,
    INTERNAL_ERROR,
    NO_FILTER_CHAIN,
    TLS_HANDSHAKE_TIMEOUT,
    TOO_MANY_HANDSHAKES,
    Failure,
)
from pymosn.core.timers import NEVER
from pymosn.network.connection import TcpConnection
from pymosn.network.tls.contexts import ServerHandshake
from pymosn.network.tls.facts import note_handshake, server_facts
from pymosn.network.tls.gate import GatePass, HandshakeGate
from pymosn.network.tls.transport import HandshakeReceiver, TlsTransport

#: The shortest timeout that is set where the time is over already.
_AT_ONCE: Final = 0.001


class FirstBytesPlan:
    """How a listener inspects its connections. Immutable, shared by the connections accepted under it."""

    def __init__(
        self,
        steps: list[FirstBytes],
        *,
        factory: FilterChainFactory,
        stats: DownstreamStats,
        silence_timeout: float,
        timeout: float,
        serves_undecided: bool,
        handshake_timeout: float = 0.0,
        gate: HandshakeGate | None = None,
        source_step: int = 0,
        listener: str = "",
    ) -> None:
        """`factory`: logs refused connections. Seconds, 0 disables: `silence_timeout` until the first byte, then `timeout`.

        `serves_undecided`: a connection that is still undecided after `silence_timeout` in total, after `timeout`, or at its
        end is passed to `FirstBytes.on_undecided` in the hope of a fallback. `handshake_timeout`: from accepting a
        connection to the end of its handshake; 0 for none. `gate`: limits handshakes; None if the plan leads to none.
        `source_step`: the number of steps after which `Connection.remote_ip` is the client's. `listener`: its name,
        for failed handshakes.
        """
        self.steps = steps
        self.factory = factory
        self.stats = stats
        self.silence_timeout = silence_timeout
        self.timeout = timeout
        self.serves_undecided = serves_undecided
        self.handshake_timeout = handshake_timeout
        self.gate = gate
        self.source_step = source_step
        self.listener = listener


class FirstBytesReader(NetworkFilter):
    """The filter of one connection until its filters are chosen. The module's docstring describes its states."""

    def __init__(self, plan: FirstBytesPlan, step: i64 = 0) -> None:
        """`step`: how many steps another process has done."""
        self._plan = plan
        self._accepted = Accepted(NO_CONNECTION)
        self._step: i64 = step
        self._data = b""
        self._has_begun = False
        self._is_draining = False
        # Whether the time limit of the present step is set.
        self._is_limited = False
        self._deadline = 0.0
        # When the handshake must be complete.
        self._handshake_end = NEVER
        self._pass: GatePass | None = None
        self._is_shaking = False

    def on_connection(self, connection: Connection) -> None:
        plan = self._plan
        self._accepted.connection = connection
        if plan.handshake_timeout > 0.0:
            self._handshake_end = connection.now() + plan.handshake_timeout
        if plan.gate is not None and not self._enter(plan.gate):
            return
        self._start_silence()
        self._run()

    def _start_silence(self) -> None:
        """Sets the time for the first byte."""
        plan = self._plan
        connection = self._accepted.connection
        self._deadline = connection.now() + plan.silence_timeout
        if plan.serves_undecided:
            connection.set_idle(plan.silence_timeout)
        else:
            self._set_idle(plan.silence_timeout)

    def _enter(self, gate: HandshakeGate) -> bool:
        """Passes the gate; False if the connection was refused."""
        self._pass = GatePass(gate)
        if self._pass.enter() and self._enter_source():
            return True
        self._refuse(TOO_MANY_HANDSHAKES)
        return False

    def _enter_source(self) -> bool:
        """Counts the handshake for the network of the client, once that is known; False if it has too many."""
        gate_pass = self._pass
        if gate_pass is None or self._step < self._plan.source_step:
            return True
        return gate_pass.enter_source(self._accepted.connection.remote_ip)

    def _set_idle(self, seconds: float) -> None:
        """Sets the time for the next event, which is also limited by that for the handshake."""
        connection = self._accepted.connection
        if self._handshake_end < NEVER:
            left = max(self._handshake_end - connection.now(), _AT_ONCE)
            seconds = min(seconds, left) if seconds > 0.0 else left
        connection.set_idle(seconds)

    def on_data(self, data: bytes) -> bool:
        if not self._has_begun and not self._is_limited:
            self._start_timeout()
        self._data += data
        self._run()
        return STOP

    def _start_timeout(self) -> None:
        """Sets the time for the rest of the first bytes."""
        self._has_begun = True
        plan = self._plan
        connection = self._accepted.connection
        if not plan.serves_undecided:
            self._set_idle(DRAIN_GRACE if self._is_draining else plan.timeout)
        elif plan.timeout > 0.0:  # otherwise the time of a silent connection remains set
            connection.set_idle(min(plan.timeout, max(self._deadline - connection.now(), _AT_ONCE)))

    def _run(self) -> None:
        """Runs steps as long as there are bytes for them."""
        steps = self._plan.steps
        while self._step < len(steps):
            if not self._data and steps[self._step].needs_bytes(self._accepted):
                return
            answer: i64 = steps[self._step].on_first_bytes(self._accepted, self._data)
            if answer == MORE_BYTES:
                self._limit_step()
                return
            if answer != DONE:
                self._refuse(self._accepted.failure)
                return
            self._end_step()
            if not self._enter_source():
                self._refuse(TOO_MANY_HANDSHAKES)
                return
        self._hand_over()

    def _end_step(self) -> None:
        self._step += 1
        if self._accepted.consumed > 0:
            self._data = self._data[self._accepted.consumed :]
            self._accepted.consumed = 0
        self._accepted.time_limit = 0.0
        if self._is_limited:
            self._is_limited = False
            self._start_silence()
            if self._data:
                self._start_timeout()

    def _limit_step(self) -> None:
        """Starts the time limit of a step that has one."""
        limit = self._accepted.time_limit
        if limit > 0.0 and not self._is_limited:
            self._is_limited = True
            self._set_idle(min(limit, DRAIN_GRACE) if self._is_draining else limit)

    def _end_limit(self) -> None:
        """The time of a step with a limit of its own is over."""
        accepted = self._accepted
        accepted.waiting = len(self._data)
        if self._plan.steps[self._step].on_undecided(accepted) != DONE:
            self._refuse(accepted.failure)
            return
        self._end_step()
        if self._enter_source():
            self._run()
        else:
            self._refuse(TOO_MANY_HANDSHAKES)

    def _decide(self) -> bool:
        """No more bytes are awaited: asks the remaining steps. Returns False when one of them has no fallback."""
        steps = self._plan.steps
        while self._step < len(steps):
            self._accepted.waiting = len(self._data)
            if steps[self._step].on_undecided(self._accepted) != DONE:
                return False
            self._end_step()
        self._hand_over()
        return True

    def _hand_over(self) -> None:
        security = self._accepted.security
        if isinstance(security, ServerHandshake):
            self._shake_hands(security)
        else:
            self._open_filters()

    def _shake_hands(self, handshake: ServerHandshake) -> None:
        connection = self._accepted.connection
        if not isinstance(connection, TcpConnection):
            self._refuse(INTERNAL_ERROR)
            return
        self._is_shaking = True
        self._plan.stats.tls.active.value += 1
        self._set_idle(DRAIN_GRACE if self._is_draining else 0.0)
        data = self._data
        self._data = b""
        receiver = ServerHandshakeReceiver(self, handshake)
        connection.start_tls(TlsTransport(connection, receiver, handshake.ssl_context, is_server=True), data)

    def on_secured(self, transport: TlsTransport, handshake: ServerHandshake) -> None:
        """The handshake is complete."""
        self._end_handshake()
        info = server_facts(transport.engine, handshake)
        stats = self._plan.stats.tls
        note_handshake(self._accepted.connection, transport.engine, info, stats)
        fault = handshake.context.fault_of(info.certificate, time.time())
        if fault is None:
            self._open_filters()
        else:
            stats.failed.value += 1
            self._refuse(fault, "after the handshake")

    def on_insecure(self, failure: Failure, detail: str) -> None:
        """The handshake has failed."""
        self._end_handshake()
        self._plan.stats.tls.failed.value += 1
        if self._plan.gate is not None and detail:
            self._plan.gate.note_failure(self._accepted.connection, failure, detail)
        self._refuse(failure, detail)

    def _end_handshake(self) -> None:
        if self._is_shaking:
            self._is_shaking = False
            self._plan.stats.tls.active.value -= 1
        self._leave_gate()

    def _leave_gate(self) -> None:
        if self._pass is not None:
            self._pass.leave()
            self._pass = None

    def _open_filters(self) -> None:
        """Replaces this reader by the chosen filters, and gives them what it holds."""
        accepted = self._accepted
        if not accepted.filters and accepted.factory is not None:
            accepted.filters = accepted.factory.create()
        filters = accepted.filters
        if not filters:
            self._refuse(NO_FILTER_CHAIN)
            return
        self._leave_gate()
        connection = accepted.connection
        if accepted.factory is not None and isinstance(connection, TcpConnection):
            connection.chain = accepted.factory
            self._is_draining = self._is_draining or accepted.factory.is_gone
        connection.set_idle(0.0)
        connection.replace_filters(filters)
        for network_filter in filters:
            network_filter.on_connection(connection)
        if self._is_draining:
            for network_filter in filters:
                network_filter.on_drain()
        data = self._data
        self._data = b""
        if data:
            for network_filter in filters:
                if not network_filter.on_data(data):
                    break

    def _refuse(self, failure: Failure, detail: str = "") -> None:
        """Counts and logs the connection, and closes it: with a reset, unless an alert is on its way."""
        plan = self._plan
        connection = self._accepted.connection
        self._leave_gate()
        if plan.gate is not None:
            plan.gate.keep_failure(plan.listener, connection, failure, detail)
        plan.stats.connection_refused.value += 1
        plan.stats.count_reason(failure.reason)
        plan.factory.on_refused(connection, failure)
        self._data = b""
        last_words = self._accepted.last_words
        if last_words:
            connection.write(last_words)
            connection.close_lingering(failure)
        elif detail:
            connection.close(failure)
        else:
            connection.abort(failure)

    def on_eof(self) -> None:
        connection = self._accepted.connection
        if not self._data:
            connection.close(CLOSED_LOCALLY)
        elif not self._decide():
            self._refuse(self._accepted.failure)
        else:
            for network_filter in self._accepted.filters:
                network_filter.on_eof()

    def on_idle(self) -> None:
        if self._is_shaking:
            self.on_insecure(TLS_HANDSHAKE_TIMEOUT, "")
            return
        is_late = self._accepted.connection.now() >= self._handshake_end
        self._accepted.failure = TLS_HANDSHAKE_TIMEOUT if is_late else DETECTION_TIMEOUT
        if self._is_limited and not (self._is_draining and not self._data):
            self._end_limit()
            return
        if self._decide():
            return
        if self._data:
            self._refuse(self._accepted.failure)
        else:
            self._accepted.connection.close(IDLE_TIMEOUT)

    def on_drain(self) -> None:
        self._is_draining = True
        if self._is_shaking or not self._plan.serves_undecided:
            self._set_idle(DRAIN_GRACE)

    def departs(self) -> bool:
        return not self._is_shaking

    def on_depart(self, moves: bool) -> None:
        pass  # the filters that are chosen are notified themselves

    def departure(self) -> Passage | None:
        if self._is_shaking:
            return None
        passage = Passage("", self._data)
        passage.step = self._step
        return passage

    def kind(self) -> str:
        return "handshake" if self._is_shaking else "new"

    def is_idle(self) -> bool:
        return not self._data and not self._is_shaking

    def on_close(self, failure: Failure) -> None:
        self._end_handshake()
        if self._data and failure is CLOSED_BY_PEER:
            accepted = self._accepted
            if not self._plan.serves_undecided:  # otherwise there may be a fallback, which it is too late for
                accepted.waiting = len(self._data)
                self._plan.steps[self._step].on_undecided(accepted)
            self._refuse(accepted.failure)


class ServerHandshakeReceiver(HandshakeReceiver):
    """Reports the result of its handshake to a reader."""

    def __init__(self, reader: FirstBytesReader, handshake: ServerHandshake) -> None:
        self._reader = reader
        self._handshake = handshake

    def on_secured(self, transport: TlsTransport) -> None:
        self._reader.on_secured(transport, self._handshake)

    def on_insecure(self, failure: Failure, detail: str) -> None:
        self._reader.on_insecure(failure, detail)
