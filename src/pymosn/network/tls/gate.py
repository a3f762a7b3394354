"""The limits on TLS handshakes in progress: a flood of clients that begin one and do not go on must not exhaust a worker.

A connection that is to be encrypted counts from its acceptance, before its first byte, to the end of its handshake.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from mypy_extensions import i64

from pymosn.api.network import Connection, join_address
from pymosn.core.counters import Counter
from pymosn.core.failure import TLS_CLOSED_IN_HANDSHAKE, TLS_HANDSHAKE_TIMEOUT, Failure
from pymosn.core.log import ALERT_TLS, ERROR, INFO, Log

#: Seconds between two log lines about failed handshakes.
LOG_PERIOD: Final = 1.0
#: Failures that are kept for each listener until they are taken, the last ones.
KEPT_FAILURES: Final[i64] = 5


class FailedHandshake:
    """A connection that was refused before or in its handshake. `at`: as `Clock.now`. `reason`: the word of the failure."""

    def __init__(self, at: float, client: str, reason: str, detail: str) -> None:
        self.at = at
        self.client = client
        self.reason = reason
        self.detail = detail


def source_of(ip: str) -> str:
    """The network of a client, /24 for IPv4 and /56 for IPv6; the address itself if it is none, such as of a unix socket."""
    if ":" not in ip:
        return ip.rpartition(".")[0]
    try:
        address = int(ipaddress.IPv6Address(ip.partition("%")[0]))
    except ValueError:
        return ip
    return f"{address >> 72:x}:"


class HandshakeGate:
    """One per worker, for all its listeners."""

    def __init__(self) -> None:
        #: Handshakes in progress, at most; 0 is no limit. Per source: for each network.
        self.limit: i64 = 0
        self.source_limit: i64 = 0
        self.pending: i64 = 0
        #: Connections refused by either limit.
        self.refused = Counter()
        #: For failed handshakes.
        self.log: Log | None = None
        self._failures: dict[str, list[FailedHandshake]] = {}
        self._next_line = 0.0
        self._unlogged: i64 = 0
        self._sources: dict[str, int] = {}

    @property
    def source_count(self) -> int:
        """Networks with handshakes in progress."""
        return len(self._sources)

    def enter(self) -> bool:
        """One more handshake; False if there are too many. `leave` must follow True."""
        if 0 < self.limit <= self.pending:
            self.refused.value += 1
            return False
        self.pending += 1
        return True

    def leave(self) -> None:
        """A handshake has ended."""
        self.pending -= 1

    def note_failure(self, connection: Connection, failure: Failure, detail: str) -> None:
        """Logs a failed handshake: at most one line in LOG_PERIOD, since a flood of them costs a client little.

        Without an alert if the client only left or was silent, as what checks ports does.
        """
        log = self.log
        is_silent = failure is TLS_CLOSED_IN_HANDSHAKE or failure is TLS_HANDSHAKE_TIMEOUT
        level = INFO if is_silent else ERROR
        if log is None or log.level > level:
            return
        now = connection.now()
        if now < self._next_line:
            self._unlogged += 1
            return
        self._next_line = now + LOG_PERIOD
        more = f", and {self._unlogged} others that are not in this log" if self._unlogged > 0 else ""
        self._unlogged = 0
        client = join_address(connection.remote_ip, connection.remote_port)
        text = f"the TLS handshake with {client} failed: {failure.reason}: {detail}{more}"
        log.write(level, text, "" if is_silent else ALERT_TLS)

    def keep_failure(self, listener: str, connection: Connection, failure: Failure, detail: str) -> None:
        """Keeps a failed handshake until `take_failures`, if it is one of the last ones of its listener."""
        kept = self._failures.setdefault(listener, [])
        if len(kept) >= KEPT_FAILURES:
            kept.pop(0)
        kept.append(FailedHandshake(connection.now(), connection.remote_ip, failure.reason, detail))

    def take_failures(self) -> dict[str, list[FailedHandshake]]:
        """The last failed handshakes of each listener since the last call."""
        found = self._failures
        if found:
            self._failures = {}
        return found

    def enter_source(self, source: str) -> bool:
        """One more handshake of a network, `source_of`; False if it has too many. `leave_source` must follow True."""
        count = self._sources.get(source, 0)
        if 0 < self.source_limit <= count:
            self.refused.value += 1
            return False
        self._sources[source] = count + 1
        return True

    def leave_source(self, source: str) -> None:
        """A handshake of the network has ended."""
        count = self._sources.get(source, 0)
        if count > 1:
            self._sources[source] = count - 1
        else:
            self._sources.pop(source, None)


class GatePass:
    """What one connection counts for at the gate."""

    def __init__(self, gate: HandshakeGate) -> None:
        self._gate: HandshakeGate | None = gate
        self._is_in = False
        self._source = ""

    def enter(self) -> bool:
        """As `HandshakeGate.enter`."""
        gate = self._gate
        self._is_in = gate is not None and gate.enter()
        return self._is_in

    def enter_source(self, ip: str) -> bool:
        """As `HandshakeGate.enter_source`, for a client with that IP address; a second call changes nothing.

        Clients of a unix socket have none: only the limit for all applies.
        """
        gate = self._gate
        if gate is None or self._source or not ip:
            return True
        source = source_of(ip)
        if not gate.enter_source(source):
            return False
        self._source = source
        return True

    def leave(self) -> None:
        """The handshake has ended, or there will be none. Further calls have no effect."""
        gate = self._gate
        self._gate = None
        if gate is None:
            return
        if self._is_in:
            gate.leave()
        if self._source:
            gate.leave_source(self._source)
