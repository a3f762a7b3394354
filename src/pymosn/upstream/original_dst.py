"""Clusters of type ORIGINAL_DST (key reference section 8.7): a host for each destination that clients want to reach.

The destination comes from a request header or from the connection, which the kernel redirected here. Hosts are made when
they are first asked for, and forgotten when nobody has for a while; a worker keeps a bounded number of them.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection, Dialer, DialReceiver, NetworkFilter, Peer
from pymosn.api.upstream import Balancer, Host, Selection
from pymosn.core.addresses import split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import LOOP, Failure
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.core.uri import is_host
from pymosn.network.original_dst import OwnAddresses
from pymosn.upstream.plan import OriginalPlan

#: Hosts of one cluster that a worker keeps. A client that may name any destination must not fill its memory.
MAX_HOSTS: Final = 1024
#: Seconds without a request after which a host is forgotten, and between two looks for such.
IDLE_TIME: Final = 60.0
LOOK_PERIOD: Final = 10.0
#: The port of a header's value that names none, as in MOSN.
DEFAULT_PORT: Final = 80


def destination(plan: OriginalPlan, exchange: Exchange) -> str:
    """Where a request is to go, as an address to dial; empty when neither header nor connection tells."""
    wanted = ""
    if plan.header:
        raw = exchange.request.raw_host if plan.header == "host" else exchange.request.headers.get_raw(plan.header.encode())
        if raw:
            if not is_host(raw):
                return ""
            wanted = raw.decode("latin-1").lower()
    if not wanted:
        wanted = exchange.connection.original_destination
    return _address(wanted, plan.replace_local)


def _address(wanted: str, replace_local: bool) -> str:
    """`wanted`, a host with or without a port, as `host:port`; empty when it cannot be dialed."""
    if wanted.endswith("]") or ":" not in wanted:
        wanted = f"{wanted}:{DEFAULT_PORT}"
    try:
        host, port = split_address(wanted)
    except ValueError:
        return ""
    if replace_local:
        return f"127.0.0.1:{port}"
    # `unix:1` would be a socket's path to the dialer.
    return "" if host in ("", "unix") or port == 0 else wanted


@mypyc_attr(allow_interpreted_subclasses=True)
class HostSource:
    """Makes hosts for destinations: the cluster."""

    def new_host(self, address: str) -> Host:
        """A host that nobody had before."""
        raise NotImplementedError

    def drop_host(self, host: Host) -> None:
        """A host that nobody uses any more is forgotten."""
        raise NotImplementedError


class OriginalHosts(Balancer):
    """The hosts that were wanted lately, and "balancing" among them: each request gets its own.

    It outlives the snapshots of its cluster. Whoever asks it after `forget_all`, from an old snapshot, is served too, and
    that is forgotten like everything else.
    """

    def __init__(self, source: HostSource, clock: Clock, wheel: TimerWheel) -> None:
        super().__init__([])
        #: Who makes the next hosts.
        self.source = source
        self._clock = clock
        self._wheel = wheel
        self._look = _Look(self)
        # In the order in which they were last wanted.
        self._known: dict[str, _Wanted] = {}

    def choose(self, selection: Selection) -> Host | None:
        address = selection.destination
        if not address:
            return None
        wanted = self._known.pop(address, None)
        if wanted is None:
            if len(self._known) >= MAX_HOSTS and not self._forget_one():
                return None
            wanted = _Wanted(self.source.new_host(address))
            if not self._known:
                self._wheel.set(self._look, LOOK_PERIOD)
        wanted.last = self._clock.now
        self._known[address] = wanted
        return wanted.host

    def _forget_one(self) -> bool:
        """Makes room: the one that was not wanted for longest and has nothing to do. False when all are busy."""
        for address, wanted in self._known.items():
            if wanted.host.active_requests == 0:
                self._forget(address)
                return True
        return False

    def forget_idle(self) -> None:
        """Forgets what was not wanted for IDLE_TIME."""
        before = self._clock.now - IDLE_TIME
        idle = [
            address for address, wanted in self._known.items() if wanted.last <= before and wanted.host.active_requests == 0
        ]
        for address in idle:
            self._forget(address)
        if self._known:
            self._wheel.set(self._look, LOOK_PERIOD)

    def forget_all(self) -> None:
        """The cluster is gone."""
        self._wheel.clear(self._look)
        for address in list(self._known):
            self._forget(address)

    def _forget(self, address: str) -> None:
        self.source.drop_host(self._known.pop(address).host)


class _Wanted:
    """A host and when it was last wanted."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.last: float = 0.0


class _Look(Alarm):
    """The time for a look at which hosts are idle."""

    def __init__(self, hosts: OriginalHosts) -> None:
        super().__init__()
        self._hosts = hosts

    def on_alarm(self) -> None:
        self._hosts.forget_idle()


class GuardedDialer(Dialer):
    """Dials where clients want to go, and gives up a connection that ends at this process: its request would come back.

    The look comes after the connection is there and before anything is sent, so that it sees where a name led, too.
    """

    def __init__(self, dialer: Dialer, own: OwnAddresses) -> None:
        self._dialer = dialer
        self._own = own

    def dial(self, peer: Peer, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        self._dialer.dial(peer, timeout, network_filter, _Guard(receiver, self._own))


class _Guard(DialReceiver):
    """Stands before the receiver of one dial."""

    def __init__(self, receiver: DialReceiver, own: OwnAddresses) -> None:
        self._receiver = receiver
        self._own = own

    def on_dialed(self, connection: Connection) -> None:
        if self._own.is_end_of(connection):
            connection.abort(LOOP)
            self._receiver.on_dial_failed(LOOP, "that is a listener of this process")
        else:
            self._receiver.on_dialed(connection)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._receiver.on_dial_failed(failure, detail)
