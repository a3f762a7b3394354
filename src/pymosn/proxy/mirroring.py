"""Mirrored requests: copies sent to other clusters (`request_mirror_policies`).

Copies use the pools, balancer and limits of their own cluster. The exchange feeds them, but neither waits for them nor
learns how they end: copies to slow hosts are dropped, and the responses to the others are discarded.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.api.stream import RequestSender
from pymosn.api.upstream import NO_CONSTRAINTS, Selection
from pymosn.core.authority import Authority, split_authority
from pymosn.core.counters import Metrics
from pymosn.core.failure import CLUSTER_UNKNOWN, OVERFLOW, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, UnreadableHeaders
from pymosn.proxy.decision import wanted_protocol
from pymosn.proxy.internal_request import InternalRequest
from pymosn.proxy.owner import ExchangeOwner
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.sender_wrapper import SenderWrapper
from pymosn.proxy.upstream_request import NO_VERDICT
from pymosn.routing.actions import Forward, Mirror
from pymosn.routing.envoy_hashing import NO_HASH
from pymosn.routing.hashing import hash_value
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost

#: Bytes of a request's body that one copy may buffer.
MIRROR_BUFFER: Final[i64] = 256 * 1024

#: Variables set by the stream filter `mirror` or by other filters: the number of copies; and, if `true`: send one copy to
#: each healthy host, and a local reply instead of the upstream's response.
AMPLIFICATION: Final = "mirror_amplification"
BROADCAST: Final = "mirror_broadcast"

#: Result of `copies_wanted`: one copy to each healthy host, instead of the request itself.
EACH_HEALTHY_HOST: Final = -1


class MirrorStats:
    """The counters of the copies to one cluster.

    `mirrored`: started. Of these, `mirror_failed`: got no response; `mirror_dropped`: given up, because the cluster was at a
    limit, the host was too slow, or the request itself was reset.
    """

    def __init__(self, metrics: Metrics, cluster: str) -> None:
        group = metrics.group("upstream", ("cluster", cluster))
        self.mirrored = group.counter("mirrored")
        self.failed = group.counter("mirror_failed")
        self.dropped = group.counter("mirror_dropped")


class MirrorCopy(InternalRequest):
    """One copy, sent to one host."""

    def __init__(
        self, host: ClusterHost, runtime: Runtime, stats: MirrorStats, head: RequestHead, timeout: float, client: Connection
    ) -> None:
        """`head`: must not change from now on. `timeout`: seconds between the ends of request and response."""
        super().__init__(host, runtime)
        self._client = client
        self._stats = stats
        self._head = head
        self._timeout = timeout
        self._held: list[bytes] = []
        self._held_size: i64 = 0
        self._has_ended = False
        self._trailers: Headers | None = None
        self._is_full = False
        self.is_one_way = head.is_one_way

    def start(self, protocol: str, data: bytes, end: bool) -> None:
        """Asks for a stream to send the request on; `data`: the part of the body received so far."""
        self._stats.mirrored.value += 1
        self.is_whole = end
        self._hold(data, end)
        if not self._is_over:
            self._wheel.set(self, self._timeout)
            self._take_stream(protocol, False)

    def add(self, data: bytes, end: bool) -> None:
        """The next bytes of the body."""
        if self._is_over:
            return
        self._wheel.set(self, self._timeout)
        self.note_sent(end)
        sender = self.sender
        if sender is None or self._is_full:
            self._hold(data, end)
        else:
            self._has_ended = end
            sender.send_data(data, end)

    def add_trailers(self, trailers: Headers) -> None:
        """The trailers, which end the request."""
        if self._is_over:
            return
        self._wheel.set(self, self._timeout)
        self.note_sent(True)
        self._has_ended = True
        sender = self.sender
        if sender is None or self._is_full:
            self._trailers = trailers
        else:
            sender.send_trailers(trailers)

    def abandon(self) -> None:
        """The request itself has ended: drops the copy unless it has the complete request."""
        if not self._has_ended:
            self._drop()

    def _hold(self, data: bytes, end: bool) -> None:
        self._has_ended = end
        if data:
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size > MIRROR_BUFFER:
                self._drop()

    def _drop(self) -> None:
        if not self._is_over:
            self._stats.dropped.value += 1
            self._end(NO_VERDICT)
            self._leave_stream()

    def _end(self, status: i64) -> None:
        self._held = []
        super()._end(status)

    def on_failed(self, failure: Failure) -> None:
        if failure is OVERFLOW:
            self._stats.dropped.value += 1
        else:
            self._stats.failed.value += 1

    # ---- from the pool and the stream

    def client_connection(self) -> Connection | None:
        return self._client

    def send(self, sender: RequestSender) -> None:
        sender.send_request(self._head, self._take_held(), self._has_ended and self._trailers is None)
        if self._trailers is not None:
            sender.send_trailers(self._trailers)

    def _take_held(self) -> bytes:
        data = b"".join(self._held)
        self._held = []
        self._held_size = 0
        return data

    def on_writable(self, writable: bool) -> None:
        sender = self.sender
        if self._is_over or sender is None or writable != self._is_full:
            return
        self._is_full = not writable
        if writable and (self._held or self._has_ended):
            sender.send_data(self._take_held(), self._has_ended and self._trailers is None)
            if self._trailers is not None:
                sender.send_trailers(self._trailers)


class Mirroring(SenderWrapper):
    """The copies of one request, sent in addition to the request or instead of it."""

    def __init__(self, mirrors: list[Mirror], action: Forward, owner: ExchangeOwner) -> None:
        """`mirrors`: those of the `action` that copy this request."""
        super().__init__()
        self._count = copies_wanted(owner.exchange)
        #: Whether the copies replace the request itself.
        self.replaces_request: bool = self._count == EACH_HEALTHY_HOST
        self._mirrors = mirrors
        self._action = action
        self._owner = owner
        self._copies: list[MirrorCopy] = []
        # Of the request as received: the route has changed it when the copies are sent.
        self._hash: i64 = NO_HASH
        # Whether the hash depends on headers that cannot be read.
        self._is_unreadable = False
        if any([_uses_hash(owner.runtime, mirror) for mirror in mirrors]):  # noqa: C419 - no generator in compiled code
            try:
                self._hash = hash_value(action.hash_policies, owner.exchange)
            except UnreadableHeaders:
                self._is_unreadable = True

    def abandon(self) -> None:
        """The exchange has ended: copies that have the complete request continue, the others are dropped."""
        for copy in self._copies:
            copy.abandon()

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        super().send_request(head, data, end)
        failure = self._start(head.copy(), data, end)
        if self.replaces_request and (failure is not None or end):
            self._owner.on_copies_sent(failure)

    def send_data(self, data: bytes, end: bool) -> None:
        super().send_data(data, end)
        for copy in self._copies:
            copy.add(data, end)
        if end and self.replaces_request:
            self._owner.on_copies_sent(None)

    def send_trailers(self, trailers: Headers) -> None:
        super().send_trailers(trailers)
        for copy in self._copies:
            copy.add_trailers(trailers)
        if self.replaces_request:
            self._owner.on_copies_sent(None)

    # ---- the copies

    def _start(self, head: RequestHead, data: bytes, end: bool) -> Failure | None:
        """Starts the copies. Returns a failure if none of them has a host."""
        runtime = self._owner.runtime
        no_host: Failure | None = CLUSTER_UNKNOWN
        for mirror in self._mirrors:
            stats = MirrorStats(runtime.metrics, mirror.cluster)
            cluster = runtime.clusters.get(mirror.cluster)
            hosts: list[ClusterHost] = []
            protocol = ""
            if cluster is not None:
                protocol = self._protocol(cluster)
                if not cluster.way_out.translates(protocol, self._owner.exchange.protocol):
                    hosts = self._hosts(cluster)
            if hosts:
                no_host = None
            else:
                stats.mirrored.value += 1
                stats.failed.value += 1
                if cluster is not None and no_host is not None:
                    no_host = cluster.no_host_failure(NO_CONSTRAINTS)
            for host in hosts:
                own_head = head
                if self._action.uses_host_name and host.hostname:
                    own_head = head.copy()
                    own_head.rewrite_host(host.hostname.encode())
                if mirror.marks_host:
                    own_head = head.copy() if own_head is head else own_head
                    own_head.rewrite_host(shadow_host(own_head.raw_host))
                copy = MirrorCopy(host, runtime, stats, own_head, self._action.timeout, self._owner.exchange.connection)
                copy.offers = self._owner.options.offers
                self._copies.append(copy)
                copy.start(protocol, data, end)
        return no_host

    def _protocol(self, cluster: Cluster) -> str:
        """The upstream protocol of copies: of their cluster, else that of the request itself."""
        client = self._owner.exchange.protocol
        own = cluster.way_out.protocol("", client)
        return (
            own if own != client else cluster.way_out.protocol(wanted_protocol(self._owner.exchange, self._action), client)
        )

    def _hosts(self, cluster: Cluster) -> list[ClusterHost]:
        """The hosts to send copies to: each one chosen by the balancer, or all healthy hosts."""
        if self.replaces_request:
            return [host for host in cluster.hosts if host.is_healthy]
        selection = Selection()
        if cluster.balancer.uses_hash:
            if self._is_unreadable:
                return []
            if self._hash != NO_HASH and (self._action.hash_policies or not cluster.balancer.follows_envoy):
                selection.set_hash(self._hash)
        chosen: list[ClusterHost] = []
        while len(chosen) < self._count:
            host = cluster.balancer.choose(selection)
            if host is None:
                break
            assert isinstance(host, ClusterHost)
            chosen.append(host)
            selection.attempt_index += 1
        return chosen


def shadow_host(host: bytes) -> bytes:
    """A host with `-shadow` appended to its name, before the port; an address in brackets cannot have it."""
    authority = split_authority(host)
    return host if authority.is_literal() else Authority(authority.host + b"-shadow", authority.port).write()


def _uses_hash(runtime: Runtime, mirror: Mirror) -> bool:
    cluster = runtime.clusters.get(mirror.cluster)
    return cluster is not None and cluster.balancer.uses_hash


def draw_mirrors(action: Forward, owner: ExchangeOwner) -> Mirroring | None:
    """Draws the mirrors that copy this request, by their percentages; None if there are none."""
    drawn = [mirror for mirror in action.mirrors if mirror.wants_one()]
    return Mirroring(drawn, action, owner) if drawn and copies_wanted(owner.exchange) != 0 else None


def copies_wanted(exchange: Exchange) -> int:
    """The number of copies that filters asked for, 1 by default, or EACH_HEALTHY_HOST."""
    own = exchange.own_variables
    if own is None:
        return 1
    if own.get(BROADCAST) == "true":
        return EACH_HEALTHY_HOST
    text = own.get(AMPLIFICATION, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1
