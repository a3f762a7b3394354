"""Clusters of type ORIGINAL_DST (key reference section 8.7): one host for each destination that clients request.

The destination comes from a request header, or from a connection that the kernel redirected. Hosts are created on first
use and dropped when idle; a worker keeps a bounded number of them. `network/destinations.py` has the rule for what may be
dialed.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange
from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.core.addresses import write_address
from pymosn.core.authority import normal_authority, split_authority
from pymosn.core.chars import decimal
from pymosn.core.clock import Clock
from pymosn.core.headers import to_bytes, to_text
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.upstream.plan import OriginalPlan

#: Maximum hosts per cluster and worker, because clients may request any destination.
MAX_HOSTS: Final = 1024
#: Seconds without a request after which a host is dropped, and between two checks for such hosts.
IDLE_TIME: Final = 60.0
CHECK_PERIOD: Final = 10.0
#: Default port of the header's value, as in MOSN.
DEFAULT_PORT: Final = 80


def destination(plan: OriginalPlan, exchange: Exchange) -> str:
    """The destination of a request as an address to dial; empty if neither header nor connection specifies one."""
    target = ""
    if plan.header:
        raw = exchange.request.raw_host if plan.header == "host" else exchange.request.headers.get_raw(plan.header.encode())
        if raw:
            normal = normal_authority(raw)
            if normal is None:
                return ""
            target = to_text(normal)
    if not target:
        target = exchange.connection.original_destination
    return _address(target, plan.replace_local)


def is_ambiguous(plan: OriginalPlan, exchange: Exchange) -> bool:
    """Whether a request gives several destinations."""
    return plan.header not in ("", "host") and len(exchange.request.headers.get_all(plan.header)) > 1


def _address(target: str, replace_local: bool) -> str:
    """`target`, a host with optional port, as `host:port`; empty if it cannot be dialed."""
    parts = split_authority(to_bytes(target))
    host = to_text(parts.name())
    port = int(decimal(parts.port)) if parts.port else DEFAULT_PORT
    if replace_local:
        return write_address("127.0.0.1", port) if port >= 0 else ""
    # `unix:1` would be a socket's path to the dialer.
    return "" if host in ("", "unix") or port <= 0 else write_address(host, port)


@mypyc_attr(allow_interpreted_subclasses=True)
class HostSource:
    """Creates hosts for destinations; implemented by the cluster."""

    def new_host(self, address: str) -> Host:
        """Creates a host."""
        raise NotImplementedError

    def drop_host(self, host: Host) -> None:
        """Removes an unused host."""
        raise NotImplementedError


class OriginalHosts(Balancer):
    """The recently used hosts. A request selects the host of its destination; there is no balancing.

    Outlives the snapshots of its cluster. It still serves requests of old snapshots after `forget_all`; their hosts are
    dropped when idle, like all others.
    """

    def __init__(self, source: HostSource, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__([])
        #: Creates new hosts.
        self.source = source
        self._clock = clock
        self._wheel = wheel
        self._check = _IdleCheck(self)
        # In the order of their last use.
        self._known: dict[str, _Entry] = {}

    def choose(self, selection: Selection) -> Host | None:
        address = selection.destination
        if not address:
            return None
        entry = self._known.pop(address, None)
        if entry is None:
            if len(self._known) >= MAX_HOSTS and not self._forget_one():
                return None
            entry = _Entry(self.source.new_host(address))
            if not self._known:
                self._wheel.set(self._check, CHECK_PERIOD)
        entry.last = self._clock.now
        self._known[address] = entry
        return entry.host

    def _forget_one(self) -> bool:
        """Makes room by dropping the least recently used idle host; returns False if all are busy."""
        for address, entry in self._known.items():
            if entry.host.active_requests == 0:
                self._forget(address)
                return True
        return False

    def forget_idle(self) -> None:
        """Drops the hosts that were not used for IDLE_TIME."""
        before = self._clock.now - IDLE_TIME
        idle = [
            address for address, entry in self._known.items() if entry.last <= before and entry.host.active_requests == 0
        ]
        for address in idle:
            self._forget(address)
        if self._known:
            self._wheel.set(self._check, CHECK_PERIOD)

    def forget_all(self) -> None:
        """Drops all hosts, because the cluster has been removed."""
        self._wheel.clear(self._check)
        for address in list(self._known):
            self._forget(address)

    def _forget(self, address: str) -> None:
        self.source.drop_host(self._known.pop(address).host)


class _Entry:
    """A host and the time of its last use."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.last: float = 0.0


class _IdleCheck(Alarm):
    """Alarm of the periodic check for idle hosts."""

    def __init__(self, hosts: OriginalHosts) -> None:
        super().__init__()
        self._hosts = hosts

    def on_alarm(self) -> None:
        self._hosts.forget_idle()
