"""The step between accepting a connection and choosing its filters: inspecting its first bytes.

A listener that needs this step makes a `FirstBytesReader` the only filter of each new connection. It collects bytes and runs
the steps of its plan (`pymosn.api.network.FirstBytes`) in order. Each step sees all bytes that no step has consumed, again
until it has enough, so it keeps no buffer and no state. The last one sets the filters, which then replace the reader: from
then on the connection is as fast as one that was never inspected.

    waiting for the first byte -> waiting for more -> handed over to the chosen filters
                  |                      |
                  +----------------------+---------> refused (counted and logged), or closed if no byte ever came

Timeouts and half-closes are handled in the same way for all steps. A silent connection has `silence_timeout`, one that has
begun `timeout`; a plan that serves undecided connections (with a fallback filter) instead asks its steps when
`silence_timeout` is over, counted from the start, since there the server may have to speak first.
"""

from __future__ import annotations

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
)
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import (
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    DETECTION_TIMEOUT,
    IDLE_TIMEOUT,
    NO_FILTER_CHAIN,
    PROTOCOL_UNKNOWN,
    Failure,
)

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
    ) -> None:
        """`factory`: logs refused connections. Seconds, 0 disables: `silence_timeout` until the first byte, then `timeout`.

        `serves_undecided`: a connection that is still undecided after `silence_timeout` in total, after `timeout`, or at its
        end is passed to `FirstBytes.on_undecided` in the hope of a fallback.
        """
        self.steps = steps
        self.factory = factory
        self.stats = stats
        self.silence_timeout = silence_timeout
        self.timeout = timeout
        self.serves_undecided = serves_undecided


class FirstBytesReader(NetworkFilter):
    """The filter of one connection until its filters are chosen. The module's docstring describes its states."""

    def __init__(self, plan: FirstBytesPlan) -> None:
        self._plan = plan
        self._accepted = Accepted(NO_CONNECTION)
        self._step: i64 = 0
        self._data = b""
        self._has_begun = False
        self._is_draining = False
        self._deadline = 0.0

    def on_connection(self, connection: Connection) -> None:
        self._accepted.connection = connection
        self._deadline = connection.now() + self._plan.silence_timeout
        connection.set_idle(self._plan.silence_timeout)

    def on_data(self, data: bytes) -> bool:
        if not self._has_begun:
            self._has_begun = True
            self._start_timeout()
        self._data += data
        self._run()
        return STOP

    def _start_timeout(self) -> None:
        """Sets the time for the rest of the first bytes."""
        plan = self._plan
        connection = self._accepted.connection
        if not plan.serves_undecided:
            connection.set_idle(DRAIN_GRACE if self._is_draining else plan.timeout)
        elif plan.timeout > 0.0:  # otherwise the time of a silent connection remains set
            connection.set_idle(min(plan.timeout, max(self._deadline - connection.now(), _AT_ONCE)))

    def _run(self) -> None:
        """Runs steps as long as there are bytes for them."""
        steps = self._plan.steps
        while self._step < len(steps):
            if not self._data:
                return
            answer: i64 = steps[self._step].on_first_bytes(self._accepted, self._data)
            if answer == MORE_BYTES:
                return
            if answer != DONE:
                self._refuse(self._accepted.failure)
                return
            self._end_step()
        self._hand_over()

    def _end_step(self) -> None:
        self._step += 1
        if self._accepted.consumed > 0:
            self._data = self._data[self._accepted.consumed :]
            self._accepted.consumed = 0

    def _decide(self) -> bool:
        """No more bytes are awaited: asks the remaining steps. Returns False when one of them has no fallback."""
        steps = self._plan.steps
        while self._step < len(steps):
            if steps[self._step].on_undecided(self._accepted) != DONE:
                return False
            self._end_step()
        self._hand_over()
        return True

    def _hand_over(self) -> None:
        filters = self._accepted.filters
        if not filters:
            self._refuse(NO_FILTER_CHAIN)
            return
        connection = self._accepted.connection
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

    def _refuse(self, failure: Failure) -> None:
        plan = self._plan
        connection = self._accepted.connection
        plan.stats.connection_refused.value += 1
        plan.stats.count_reason(failure.reason)
        plan.factory.on_refused(connection, failure)
        self._data = b""
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
        self._accepted.failure = DETECTION_TIMEOUT
        if self._decide():
            return
        if self._data:
            self._refuse(self._accepted.failure)
        else:
            self._accepted.connection.close(IDLE_TIMEOUT)

    def on_drain(self) -> None:
        self._is_draining = True
        if not self._plan.serves_undecided:
            self._accepted.connection.set_idle(DRAIN_GRACE)

    def on_close(self, failure: Failure) -> None:
        if self._data and failure is CLOSED_BY_PEER:
            self._refuse(PROTOCOL_UNKNOWN)
