"""Why a request goes where it goes: which listener, virtual host and route take it, and what would be sent upstream.

The answer comes from the run-time tables themselves: the request is decoded by the codec, the table is asked, and the
route's own conditions say why they do not hold. Stream filters are not run, so what they would change is not seen; only
what the filter `mirror` says of copies is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pymosn.api.exchange import Exchange
from pymosn.api.network import Connection
from pymosn.api.protocol import ProtocolError
from pymosn.api.routing import Route
from pymosn.api.stream import ListenerFacts
from pymosn.assembly.clusters import original_plan
from pymosn.assembly.routes import build_table
from pymosn.config.schema import Listener, MosnConfig, ProxyFilter
from pymosn.config.schema.network_filters import Http1Settings
from pymosn.config.typed import typed
from pymosn.control.explain_hosts import choose_host
from pymosn.control.plane import ClusterView
from pymosn.core.failure import BAD_REWRITE, CLUSTER_UNKNOWN, NO_ROUTER, Failure
from pymosn.core.headers import (
    HeaderError,
    Headers,
    HttpHeaders,
    encode_name,
    encode_value,
    headers_from,
    to_text,
    wire_lines,
)
from pymosn.core.message import ForwardingOptions, ResponseHead
from pymosn.core.overload import OverloadState
from pymosn.core.request_ids import RequestIds
from pymosn.filters.stream.mirror import MirrorFilter
from pymosn.filters.stream.mirror import Settings as MirrorSettings
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.proxy.decision import Rejection, choose_target, decide, plan_forward
from pymosn.proxy.forwarding import change_request, change_response
from pymosn.proxy.mirroring import EACH_HEALTHY_HOST, copies_wanted
from pymosn.routing.actions import DirectResponse, Forward, ForwardPlan, ForwardWeighted, Redirect
from pymosn.routing.rewrites import rewrite_host
from pymosn.routing.table import RouteTable, VirtualHost
from pymosn.stream.http1.options import read_http1_options, trusts_peer

#: Virtual hosts and routes that lost are told of up to here, the nearest to the winner.
MOST: Final = 100


class Question(msgspec.Struct, kw_only=True):
    """A request to explain. `url`: absolute, or a path beside a Host header. `headers`: pairs of name and value.

    `listener`: its name, when the port of the URL does not tell. `client`: the client's IP address.
    """

    method: str = "GET"
    url: str
    headers: list[tuple[str, str]] = []
    listener: str = ""
    client: str = "127.0.0.1"


class QuestionError(ValueError):
    """The question makes no sense."""


def explain(config: MosnConfig, question: Question, live: Mapping[str, ClusterView] | None = None) -> dict[str, Any]:
    """What becomes of a request, as plain data. Raises QuestionError for a URL, a header or a listener that is none.

    `live`: the clusters as they are now, by name; without them every host counts as healthy, and the answer says so.
    """
    listener, proxy, others = _listener(config, question)
    answer: dict[str, Any] = {"listener": {"name": listener.name or listener.address, "others": others}}
    exchange = Exchange(_FixedConnection(question.client, listener.address))
    exchange.protocol = "Http1"
    http1 = proxy.config.extend_config.Http1
    failure = _decode(question, exchange, http1)
    if failure is not None:
        return _failed(answer, failure, "the request itself is refused")
    head = exchange.request
    answer["request"] = {"method": head.method, "host": head.host, "path": head.path, "query": head.query}
    config_table = config.servers[0].router_tables().get(proxy.config.router_config_name)
    if config_table is None:
        return _failed(answer, NO_ROUTER, f"there is no router {proxy.config.router_config_name!r}")
    table = build_table(config_table)
    host = table.find_virtual_host(head.raw_host)
    answer["virtual_host"] = _explain_host(table, host, head.raw_host)
    route = decide(exchange, table, table.name)
    if host is not None:
        answer["route"] = _explain_route(host, route if isinstance(route, Route) else None, exchange)
    if isinstance(route, Rejection):
        detail = f"no domain matches {head.host!r}" if host is None else f"no route of {host.name} matches"
        return _failed(answer, route.failure, detail)
    for entry in listener.stream_filters:
        if entry.type == "mirror":
            MirrorFilter(typed(entry.config, MirrorSettings)).on_request(exchange)
    return _explain_action(config, proxy, exchange, route, answer, live)


def _failed(answer: dict[str, Any], failure: Failure, detail: str) -> dict[str, Any]:
    answer["reply"] = {"status": failure.status, "reason": failure.reason, "detail": detail}
    return answer


class _FixedConnection(Connection):
    """A connection from nobody."""

    def __init__(self, client: str, address: str) -> None:
        super().__init__()
        self.remote_ip = client
        host, _, port = address.rpartition(":")
        self.local_ip = host
        self.local_port = int(port) if port.isdigit() else 0


# ---- the request


def _listener(config: MosnConfig, question: Question) -> tuple[Listener, ProxyFilter, list[str]]:
    """The listener that the request comes to, and why the others before it do not get it."""
    port = _split(question.url).port
    others: list[str] = []
    unwanted: list[str] = []
    found: list[tuple[Listener, ProxyFilter]] = []
    for listener in config.servers[0].listeners if config.servers else []:
        name = listener.name or listener.address
        entries = [entry for chain in listener.filter_chains for entry in chain.filters if isinstance(entry, ProxyFilter)]
        if not entries:
            others.append(f"{name}: has no proxy filter")
        elif question.listener and question.listener not in (listener.name, listener.address):
            others.append(f"{name}: {question.listener} is asked for")
            unwanted.append(name)
        else:
            found.append((listener, entries[0]))
    if not found and unwanted:
        raise QuestionError(f"no listener {question.listener!r} takes it; there is {', '.join(unwanted)}")
    if not found:
        raise QuestionError(f"no listener takes it: {'; '.join(others) or 'there is none'}")
    exact = [pair for pair in found if listener_port(pair[0]) == port] if port and not question.listener else []
    listener, entry = (exact or found)[0]
    others += [f"{other.name or other.address}: listens on {other.address}" for other, _ in found if other is not listener]
    return listener, entry, others


def listener_port(listener: Listener) -> int:
    """The port of a listener, 0 for one without."""
    port = listener.address.rpartition(":")[2]
    return int(port) if port.isdigit() else 0


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise QuestionError(f"not a URL: {error}") from None
    if parts.scheme not in ("", "http", "https") or not (parts.netloc or url.startswith("/")):
        raise QuestionError(f"not an http URL or a path: {url!r}")
    return parts


def request_bytes(question: Question) -> bytes:
    """The request as a client sends it. Raises QuestionError."""
    parts = _split(question.url)
    try:
        fields = HttpHeaders()
        for name, value in question.headers:
            fields.add_raw(encode_name(name), encode_value(name, value))  # a client may send two Hosts
        if fields.get("host") is None and parts.netloc:
            fields.put_first(b"Host", parts.netloc.encode())
    except HeaderError as error:
        raise QuestionError(str(error)) from None
    target = (parts.path or "/") + (f"?{parts.query}" if "?" in question.url else "")
    return f"{question.method} {target} HTTP/1.1\r\n".encode() + wire_lines(fields) + b"\r\n"


def _decoder(http1: Http1Settings) -> RequestDecoder:
    facts = ListenerFacts(idle_timeout=0.0, overload=OverloadState())
    options = read_http1_options(msgspec.structs.asdict(http1), facts)
    return RequestDecoder(options.limits, options.policy)


def _decode(question: Question, exchange: Exchange, http1: Http1Settings) -> Failure | None:
    """Puts the request as the listener's codec gives it into the exchange."""
    decoder = _decoder(http1)
    decoder.feed(request_bytes(question))
    try:
        decoder.decode()
    except ProtocolError as error:
        return error.failure
    exchange.request = decoder.head
    if http1.trusted_hops > 0:
        exchange.forwarded_ip = decoder.head.forwarded_ip(http1.trusted_hops)
    scheme = _split(question.url).scheme
    if scheme:
        exchange.request.scheme = scheme
    return None


# ---- virtual host and route


def _explain_host(table: RouteTable, winner: VirtualHost | None, authority: bytes) -> dict[str, Any]:
    matching = {host.name: [name for name in host.domains if _takes(name, authority)] for host in table.virtual_hosts}
    reasons = []
    silent = 0
    for host in table.virtual_hosts:
        if host is winner:
            continue
        if matching[host.name]:
            reasons.append(f"{host.name}: {', '.join(matching[host.name])} matches too, but less exactly")
        elif len(reasons) < MOST and winner is None:
            reasons.append(f"{host.name}: none of {', '.join(host.domains) or 'no domains'} matches")
        else:
            silent += 1
    answer: dict[str, Any] = {"table": table.name, "others": reasons, "not_matching": silent}
    if winner is not None:
        answer["name"] = winner.name
        answer["domains"] = matching[winner.name]
    return answer


def _takes(domain: str, authority: bytes) -> bool:
    """Whether a domain alone would take it: a table of one domain is asked."""
    table = RouteTable("")
    table.add(VirtualHost("", [domain], []))
    return table.find_virtual_host(authority) is not None


def _explain_route(host: VirtualHost, winner: Route | None, exchange: Exchange) -> dict[str, Any]:
    earlier = []
    for route in host.routes:
        if route is winner:
            break
        earlier.append({"name": route.name, "why_not": route.matcher.why_not(exchange)})
    answer: dict[str, Any] = {"earlier": earlier[-MOST:], "left_out": max(0, len(earlier) - MOST)}
    if winner is not None:
        answer["name"] = winner.name
        answer["because"] = winner.matcher.text()
    return answer


# ---- what is done


def _explain_action(
    config: MosnConfig,
    proxy: ProxyFilter,
    exchange: Exchange,
    route: Route,
    answer: dict[str, Any],
    live: Mapping[str, ClusterView] | None,
) -> dict[str, Any]:
    action = route.action
    answer["action"] = action.text()
    if isinstance(action, Redirect):
        headers = headers_from(None)
        headers.set("location", action.location(exchange.request))
        answer["reply"] = _reply(action.status, headers, exchange)
    elif isinstance(action, DirectResponse):
        answer["reply"] = {**_reply(action.status, headers_from(None), exchange), "body": action.body.decode()}
    elif isinstance(action, Forward):
        _explain_forward(config, proxy, exchange, action, answer, live)
    return answer


def _reply(status: int, headers: Headers, exchange: Exchange) -> dict[str, Any]:
    exchange.response = ResponseHead(status, headers)
    change_response(exchange, headers)
    return {"status": status, "headers": headers.items()}


def _explain_forward(
    config: MosnConfig,
    proxy: ProxyFilter,
    exchange: Exchange,
    action: Forward,
    answer: dict[str, Any],
    live: Mapping[str, ClusterView] | None,
) -> None:
    target = choose_target(exchange, action, action.choose(exchange))
    if isinstance(action, ForwardWeighted):
        answer["clusters"] = [{"cluster": name, "weight": weight} for name, weight in action.shares()]
    if isinstance(target, Rejection):
        _failed(answer, target.failure, target.detail)
        return
    cluster = {cluster.name: cluster for cluster in config.cluster_manager.clusters}.get(target.cluster)
    if cluster is None:
        _failed(answer, CLUSTER_UNKNOWN, f"there is no cluster {target.cluster!r}")
        return
    if action.mirrors:
        answer["mirrors"] = _mirrors(config, exchange, action)
    plan = plan_forward(exchange, action, target, bool(action.hash_policies), original_plan(cluster), True)
    if exchange.set_cookie:
        answer["set_cookie"] = to_text(exchange.set_cookie)
    choice = choose_host(cluster, plan.selection, live)
    answer["cluster"] = {
        "name": cluster.name,
        "lb_type": cluster.lb_type or "LB_ROUNDROBIN",
        "subset": dict(target.subset or ()),
        "health": "assumed" if live is None else "live",
        "hosts": choice.hosts,
    }
    answer["timeouts"] = {"request": plan.timeout, "try": plan.try_timeout}
    if choice.failure is not None:
        _failed(answer, choice.failure, choice.detail)
        return
    exchange.upstream_address = choice.address
    exchange.upstream_hostname = choice.hostname
    if not _prepare(proxy, exchange, plan):
        _failed(answer, BAD_REWRITE, "the rewritten path escapes the root")
        return
    head = exchange.request
    line, _, fields = b"".join(encode_request(head)).partition(b"\r\n")
    answer["upstream"] = {
        "line": line.decode("latin-1"),
        "headers": HttpHeaders(fields[:-2]).items(),
        "host": head.host,
        "path": head.path,
    }


def _mirrors(config: MosnConfig, exchange: Exchange, action: Forward) -> list[dict[str, Any]]:
    """Who gets copies, of what share of the requests."""
    copies = copies_wanted(exchange)
    known = {cluster.name for cluster in config.cluster_manager.clusters}
    return [
        {
            "cluster": mirror.cluster,
            "percent": mirror.percent,
            "copies": "each healthy host" if copies == EACH_HEALTHY_HOST else copies,
            "instead_of_request": copies == EACH_HEALTHY_HOST,
            "exists": mirror.cluster in known,
        }
        for mirror in action.mirrors
    ]


def _prepare(proxy: ProxyFilter, exchange: Exchange, plan: ForwardPlan) -> bool:
    """Prepares the request as the proxy does before it sends it; the request id is made up."""
    http1 = proxy.config.extend_config.Http1
    forwarding = ForwardingOptions(
        x_forwarded=http1.x_forwarded,
        x_request_id=http1.x_request_id,
        trusts_peer=trusts_peer(msgspec.structs.asdict(http1)),
        trusted_hops=http1.trusted_hops,
    )
    remote_ip = exchange.connection.remote_ip
    exchange.request.add_forwarding_fields(forwarding, remote_ip, exchange.upstream_address, False, RequestIds())
    if not change_request(exchange, plan.changes):
        return False
    if plan.uses_host_name and exchange.upstream_hostname:
        rewrite_host(exchange, exchange.upstream_hostname.encode())
    return True


# ---- for people


def as_text(answer: dict[str, Any]) -> str:
    """An answer of `explain` as lines for a terminal."""
    lines = [f"listener      {answer['listener']['name']}"]
    lines += [f"              not {other}" for other in answer["listener"]["others"]]
    host = answer.get("virtual_host")
    if host is not None:
        domains = f" ({', '.join(host['domains'])})" if "name" in host else ""
        lines.append(f"virtual host  {host.get('name', 'none')}{domains} of router {host['table']}")
        lines += [f"              not {other}" for other in host["others"]]
        if host["not_matching"]:
            lines.append(f"              and {host['not_matching']} more whose domains do not match")
    route = answer.get("route")
    if route is not None:
        because = f": {route['because']}" if "name" in route else ""
        lines.append(f"route         {route.get('name', 'none')}{because}")
        if route["left_out"]:
            lines.append(f"              {route['left_out']} earlier routes are left out here")
        lines += [f"              not {entry['name']}: {entry['why_not']}" for entry in route["earlier"]]
    return "\n".join([*lines, *_action_lines(answer)])


def _action_lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"action        {answer['action']}"] if "action" in answer else []
    cluster = answer.get("cluster")
    if cluster is not None:
        note = "the health of its hosts is not known here" if cluster["health"] == "assumed" else "with the health of now"
        lines.append(f"cluster       {cluster['name']} ({cluster['lb_type']}), {note}")
        for host in cluster["hosts"]:
            health = f", {host['health']}" if "health" in host else ""
            out = "" if host["in_subset"] else ", not in the subset"
            lines.append(f"              host {host['address']} weight {host['weight']}{health}{out}")
        lines.append(f"timeout       {answer['timeouts']['request']:g} s")
    lines += [_mirror_line(mirror) for mirror in answer.get("mirrors", [])]
    upstream = answer.get("upstream")
    if upstream is not None:
        lines.append(f"sent          {upstream['line']}")
        lines += [f"              {name}: {value}" for name, value in upstream["headers"]]
    if "set_cookie" in answer:
        lines.append(f"set-cookie    {answer['set_cookie']}")
    reply = answer.get("reply")
    if reply is not None:
        lines.append(f"reply         {reply['status']}" + (f" {reply['reason']}" if "reason" in reply else ""))
        if "detail" in reply:
            lines.append(f"              {reply['detail']}")
        lines += [f"              {name}: {value}" for name, value in reply.get("headers", [])]
    return lines


def _mirror_line(mirror: dict[str, Any]) -> str:
    share = f"{mirror['percent']} % of requests"
    if mirror["instead_of_request"]:
        text = f"every healthy host of cluster {mirror['cluster']}, and 200 in place of the reply, for {share}"
    else:
        times = "" if mirror["copies"] == 1 else f" {mirror['copies']} times"
        text = f"cluster {mirror['cluster']}{times}, {share}"
    return f"mirror        {text}" + ("" if mirror["exists"] else ": there is no such cluster")
