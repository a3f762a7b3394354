"""Performs what `decision` decides: forwards a request, transcoded or not, redirects or answers it."""

from __future__ import annotations

from pymosn.api.routing import Route
from pymosn.core.failure import BAD_REQUEST, INTERNAL_ERROR, PROTOCOL_MISMATCH, REPEATED_FIELD
from pymosn.core.headers import headers_from
from pymosn.core.message import BAD_HOPS, CONNECT, CONNECT_HERE, LAST_HOP, MORE_HOPS, RequestHead, UnreadableHeaders
from pymosn.proxy.bodies import RequestBody
from pymosn.proxy.decision import Rejection, choose_target, decide, plan_forward, wanted_protocol
from pymosn.proxy.forwarder import Forwarder
from pymosn.proxy.mirroring import Mirroring, draw_mirrors
from pymosn.proxy.owner import ExchangeOwner
from pymosn.proxy.stream_filters import ROUTE, TRANSCODE, PhaseHandler
from pymosn.proxy.transcoding import Transcoding
from pymosn.routing.actions import DirectResponse, Forward, Redirect, Target
from pymosn.routing.rewrites import rewrite_path
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.original_dst import is_ambiguous


class DispatchOwner(ExchangeOwner):
    """The interface of the exchange to these functions."""

    def start_forwarding(self, forwarder: Forwarder, mirroring: Mirroring | None) -> None:
        """Starts `forwarder`; `mirroring`: the request's copies."""
        raise NotImplementedError


def route_request(owner: DispatchOwner) -> None:
    """Finds the route, and performs its action unless a filter of the route phase replies or waits."""
    exchange = owner.exchange
    slot = owner.options.slot
    try:
        route = decide(exchange, slot.table, slot.name)
        if isinstance(route, Route) and isinstance(route.action, Forward):
            owner.target = route.action.choose(exchange)
    except UnreadableHeaders as error:
        owner.fail_unreadable(error, "route")
        return
    if isinstance(route, Rejection):
        owner.fail(route.failure, route.detail)
        return
    target = owner.target
    if target is not None:
        exchange.cluster_name = target.cluster
        if target.route is not None:  # the cluster of a weighted route has changes and settings of its own
            route = target.route
            exchange.route = route
    owner.changes_response = owner.changes_response or route.response_changes is not None
    filters = owner.options.filters.on_route
    if not filters or owner.passes(filters, ROUTE):
        _perform(owner, route)


def act(owner: DispatchOwner) -> None:
    """Performs the action of the route."""
    route = owner.exchange.route
    assert isinstance(route, Route)
    _perform(owner, route)


def _perform(owner: DispatchOwner, route: Route) -> None:
    action = route.action
    if isinstance(action, Forward):
        if not owner.exchange.request.has_hop_limit or _may_forward(owner):
            _forward(owner, action)
    elif isinstance(action, Redirect):
        headers = headers_from(None)
        headers.set("location", action.location(owner.exchange.request))
        owner.reply(action.status, headers, b"")
    elif isinstance(action, DirectResponse):
        owner.reply(action.status, headers_from(None), action.body)
    else:
        owner.fail(INTERNAL_ERROR, f"route {route.name} has no action")


def _may_forward(owner: DispatchOwner) -> bool:
    """Whether the request may go to another server, as far as it limits that; else it is answered here."""
    request = owner.exchange.request
    hops = request.spend_hop()
    if hops == LAST_HOP:
        headers = headers_from(None)
        body = request.last_hop_reply(headers)
        owner.reply(200, headers, body)
    elif hops == BAD_HOPS:
        owner.fail(BAD_REQUEST, "Max-Forwards is not one number")
    return hops == MORE_HOPS


def _forward(owner: DispatchOwner, action: Forward) -> None:
    exchange = owner.exchange
    target = choose_target(exchange, action, owner.target)
    if isinstance(target, Rejection):
        owner.fail(target.failure, target.detail)
        return
    cluster = owner.runtime.clusters.get(target.cluster)
    if cluster is None:
        owner.fail(action.unknown_cluster, target.cluster)
        return
    if exchange.transcoded_to:
        exchange.spoken_upstream = exchange.transcoded_to
        _start(owner, action, target, cluster)
        return
    client = exchange.protocol
    protocol = cluster.way_out.protocol(wanted_protocol(exchange, action), client)
    if protocol is not client and cluster.way_out.translates(protocol, client):
        _transcode(owner, action, protocol)
    else:
        if len(exchange.request.raw_tunnel) > 0 and _takes_bytes(exchange.request, action):
            protocol = cluster.way_out.for_bytes(protocol, client)
        exchange.spoken_upstream = protocol
        _start(owner, action, target, cluster)


def _takes_bytes(head: RequestHead, action: Forward) -> bool:
    """Whether the tunnel that a request asks for ends here, so that the host gets nothing but its bytes."""
    is_connect = head.raw_tunnel == CONNECT_HERE or head.raw_tunnel == CONNECT
    if is_connect and len(action.connect) > 0:
        head.raw_tunnel = action.connect
    return head.raw_tunnel == CONNECT_HERE


def _transcode(owner: DispatchOwner, action: Forward, protocol: str) -> None:
    """Converts the request to an RPC call in the upstream `protocol`."""
    exchange = owner.exchange
    filters = owner.options.filters
    handle = filters.transcoders.get(protocol)
    if handle is None or exchange.request.raw_tunnel:  # an RPC call cannot open a tunnel
        owner.fail(PROTOCOL_MISMATCH, f"{exchange.protocol} to {protocol}")
        return
    transcoding = Transcoding(handle, owner, RequestBody(owner), filters.request_body, action.changes)
    owner.wrapper = transcoding
    if owner.passes([PhaseHandler(handle, transcoding.convert)], TRANSCODE):
        on_transcoded(owner)


def on_transcoded(owner: DispatchOwner) -> None:
    """Continues with the RPC call that the request was converted to."""
    transcoding = owner.wrapper
    assert isinstance(transcoding, Transcoding)
    if transcoding.verdict is not None:
        owner.apply(transcoding.verdict)
        return
    owner.replace_request_body(b"")  # the call contains it
    owner.held_request().release()
    act(owner)


def _limit_time(owner: DispatchOwner, action: Forward) -> None:
    """Applies the limits of the route besides its timeout."""
    if action.idle_timeout > 0.0:
        owner.idle_timeout = action.idle_timeout
    longest = action.longest_exchange or owner.options.longest_exchange
    if action.longest_call > 0.0 and owner.exchange.request.has_call_status:
        longest = min(longest, action.longest_call) if longest > 0.0 else action.longest_call
    if longest > 0.0:
        owner.deadline = min(owner.deadline, owner.exchange.started + longest)


def _start(owner: DispatchOwner, action: Forward, target: Target, cluster: Cluster) -> None:
    exchange = owner.exchange
    request = exchange.request
    original = cluster.original
    reads_timeouts = request.has_timeout or owner.options.filters.sees_requests
    try:
        if original is not None and is_ambiguous(original, exchange):
            owner.fail(REPEATED_FIELD, f"header {original.header}")
            return
        # A balancer that follows Envoy has hashes of policies only.
        hashes_source = cluster.balancer.uses_hash and not cluster.balancer.follows_envoy
        plan = plan_forward(exchange, action, target, hashes_source, original, reads_timeouts)
    except UnreadableHeaders as error:
        owner.fail_unreadable(error, "balancer")
        return
    if exchange.set_cookie:
        owner.changes_response = True
    mirroring: Mirroring | None = None
    if action.has_limits or owner.options.longest_exchange > 0.0:
        _limit_time(owner, action)
    if not action.is_plain:
        if not exchange.transcoded_to:
            failure = rewrite_path(exchange, action.changes, owner.options.paths)
            if failure is not None:
                owner.fail(failure, f"route: {request.path}")
                return
        if action.mirrors and owner.wrapper is None and len(request.raw_tunnel) == 0:
            mirroring = draw_mirrors(action, owner)
            owner.wrapper = mirroring
    owner.start_forwarding(Forwarder(owner, cluster, plan, exchange.spoken_upstream), mirroring)
