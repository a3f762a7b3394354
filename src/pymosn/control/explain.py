"""Explains how a request is routed: the listener, virtual host and route it matches, and what would be sent upstream.

The answer comes from the run-time tables: the codec decodes the request, the table finds its route, and the conditions of
other routes report why they do not match. Stream filters are not run, so their changes are missing; only the number of
copies that the filter `mirror` sets is included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import TIMEOUT, GrpcRequest, is_grpc, of_failure, of_http_status
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.protocol import ProtocolError
from pymosn.api.routing import Route
from pymosn.api.stream import ListenerFacts
from pymosn.api.tls import TlsInfo
from pymosn.assembly.alpn import alpn_offers
from pymosn.assembly.clusters import original_plan
from pymosn.assembly.routes import build_table
from pymosn.config.chains import chain_name
from pymosn.config.schema import Cluster, Listener, MosnConfig, ProxyConfig, RouterConfiguration, TlsContext
from pymosn.config.tls_contexts import cluster_tls
from pymosn.config.typed import typed
from pymosn.control.explain_chain import choose_chain, host_of
from pymosn.control.explain_hosts import Choice, choose_host
from pymosn.control.explain_logs import log_states
from pymosn.control.origins import Origins, Parts
from pymosn.control.plane import ClusterView
from pymosn.core.addresses import HIGHEST_PORT, address_host, address_port
from pymosn.core.authority import DEFAULT_PORTS, is_host, split_authority
from pymosn.core.chars import decimal
from pymosn.core.failure import NO_ROUTER, REPEATED_FIELD, Failure, as_envoy
from pymosn.core.headers import (
    HeaderError,
    HttpHeaders,
    encode_name,
    encode_value,
    headers_from,
    to_bytes,
    to_text,
    wire_lines,
)
from pymosn.core.message import ResponseHead
from pymosn.core.overload import OverloadState
from pymosn.core.redaction import KnownSecrets, hidden, redacted_text
from pymosn.core.request_ids import RequestIds
from pymosn.core.secrets import is_credential, names_secret
from pymosn.core.uri import Uri, parse_uri
from pymosn.filters.stream.mirror import MirrorFilter
from pymosn.filters.stream.mirror import Settings as MirrorSettings
from pymosn.network.tls.names import alpn_of
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http1.request import RequestDecoder
from pymosn.proxy.decision import Rejection, choose_target, decide, plan_forward, wanted_protocol
from pymosn.proxy.forwarding import change_request, change_response
from pymosn.proxy.mirroring import EACH_HEALTHY_HOST, copies_wanted
from pymosn.routing.actions import NO_TIMEOUT, DirectResponse, Forward, ForwardPlan, ForwardWeighted, Redirect
from pymosn.routing.rewrites import rewrite_host, rewrite_path
from pymosn.routing.table import RouteTable, VirtualHost
from pymosn.stream.http.options import forwarding_options, path_policy, read_http_options
from pymosn.stream.registry import protocols
from pymosn.upstream.original_dst import is_ambiguous
from pymosn.upstream.way_out import AUTO, WayOut

#: The upstream protocol where it is not known before a connection is open.
BY_ALPN: Final = "what the TLS handshake selects (ALPN)"

#: Maximum number of virtual hosts and routes listed as not matching, those nearest to the match.
MOST: Final = 100


class Question(msgspec.Struct, kw_only=True):
    """A request to explain. `url`: absolute, or a path in addition to a Host header. `headers`: pairs of name and value.

    `listener`: its name, when the URL's port is ambiguous. `client`: the client's IP address.
    """

    method: str = "GET"
    url: str
    headers: list[tuple[str, str]] = []
    listener: str = ""
    client: str = "127.0.0.1"


class QuestionError(ValueError):
    """The question has an invalid URL, header or listener."""


def explain(
    config: MosnConfig,
    question: Question,
    live: Mapping[str, ClusterView] | None = None,
    origins: Origins | None = None,
) -> dict[str, Any]:
    """How a request is handled, as plain data without secrets. Raises QuestionError.

    `live`: the current state of the clusters by name; without it every host counts as healthy, and the answer notes that.
    `origins`: where the parts of the configuration come from.
    """
    parts = Parts()
    try:
        answer, table = _explain(config, question, live, parts)
    except QuestionError as error:
        raise QuestionError(redacted_text(str(error))) from None
    _add_call_status(answer)
    if origins is not None:
        answer["origins"] = origins.of(config, parts)
    secrets = KnownSecrets()
    # Texts of conditions quote values of the table.
    secrets.read(None if table is None else msgspec.to_builtins(table))
    shown: dict[str, Any] = _without(answer, secrets, {(name.lower(), value) for name, value in question.headers})
    return shown


def _without(value: Any, secrets: KnownSecrets, known: set[tuple[str, str]]) -> Any:
    """An answer without secrets. `known`: the header fields that are in the question, which stay."""
    if isinstance(value, dict):
        return {
            key: hidden(item) if names_secret(key, item) else _without(item, secrets, known) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without(item, secrets, known) for item in value]
    if isinstance(value, tuple):
        name, text = value
        if (name.lower(), text) in known:
            return value
        return name, hidden(text) if is_credential(name) else secrets.hide(text)
    return secrets.hide(value) if isinstance(value, str) else value


def _explain(
    config: MosnConfig, question: Question, live: Mapping[str, ClusterView] | None, parts: Parts
) -> tuple[dict[str, Any], RouterConfiguration | None]:
    """The answer, and the router table that it is from. `parts`: gets what the request meets."""
    listener, others = _listener(config, question)
    parts.listener = listener
    answer: dict[str, Any] = {"listener": {"name": listener.name or listener.address, "others": others}}
    connection = Connection()
    connection.remote_ip = question.client
    connection.local_ip = address_host(listener.address)
    connection.local_port = _port(listener)
    url = _split(question.url)
    choice = choose_chain(listener, url.scheme.decode(), host_of(url, question.headers), _port(listener), question.client)
    parts.chain = choice.chain
    if choice.facts:
        answer["chain"] = choice.facts
    if choice.failure is not None:
        return answer | _failed(choice.failure, "the connection is refused"), None
    proxy = listener.filter_chains[choice.chain].acting_filters().proxy
    if proxy is None:
        raise QuestionError(f"filter chain {chain_name(listener, choice.chain)} has no proxy filter")
    if choice.server_name is not None:
        connection.scheme = "https"
        connection.tls = TlsInfo()
        connection.tls.server_name = choice.server_name
    exchange = Exchange(connection)
    protocol = _protocol_of(proxy, question)
    http = proxy.extend_config.of(protocol)
    failure = _decode(question, exchange, protocol, http)
    if failure is not None:
        return answer | _failed(failure, "the request is invalid"), None
    head = exchange.request
    query = redacted_text(f"?{head.query}")[1:]
    answer["request"] = {"method": head.method, "host": head.host, "path": head.path, "query": query}
    if head.has_call_status:
        answer["request"] |= {"service": head.service(), "rpc_method": head.rpc_method(), "deadline": head.timeout}
    config_table = config.servers[0].router_tables().get(proxy.router_config_name)
    if config_table is None:
        return answer | _failed(NO_ROUTER, f"unknown router {proxy.router_config_name!r}"), None
    parts.table = proxy.router_config_name
    table = build_table(config_table)
    host = table.find_virtual_host(head.raw_host)
    answer["virtual_host"] = _virtual_host(table, host, head.raw_host)
    route = decide(exchange, table, table.name)
    logs = listener.access_logs if proxy.access_logs is None else proxy.access_logs
    answer["access_logs"] = log_states(logs, route if isinstance(route, Route) else None)
    if host is not None:
        parts.virtual_host = table.virtual_hosts.index(host)
        parts.route = host.routes.index(route) if isinstance(route, Route) else -1
        answer["route"] = _route(host, route if isinstance(route, Route) else None, exchange)
    if isinstance(route, Rejection):
        detail = f"no domain matches {head.host!r}" if host is None else f"no route of {host.name} matches"
        return answer | _failed(route.failure, detail), config_table
    answer["action"] = route.action.text()
    if isinstance(route.action, Forward):
        for entry in listener.stream_filters if proxy.stream_filters is None else proxy.stream_filters:
            if entry.type == "mirror":
                MirrorFilter(typed(entry.config, MirrorSettings)).on_request(exchange)
        return answer | _forward(config, exchange, route.action, proxy, live, parts), config_table
    return answer | {"reply": _direct_reply(exchange, route.action)}, config_table


def _add_call_status(answer: dict[str, Any]) -> None:
    """Adds the status of a local reply to a gRPC call."""
    reply = answer.get("reply")
    if reply is not None and "service" in answer.get("request", ()):
        status, reason = reply["status"], reply.get("reason")
        reply["grpc_status"] = int(of_failure(Failure(reason, status)) if reason else of_http_status(status))


def _failed(failure: Failure, detail: str) -> dict[str, Any]:
    return {"reply": {"status": failure.status, "reason": failure.reason, "detail": detail}}


# ---- the request


def _listener(config: MosnConfig, question: Question) -> tuple[Listener, list[str]]:
    """The listener that accepts the request, and why others do not."""
    port: int = decimal(split_authority(_split(question.url).authority or b"").port)
    others: list[str] = []
    unwanted: list[str] = []
    found: list[Listener] = []
    for listener in config.servers[0].listeners if config.servers else []:
        name = listener.name or listener.address
        if all(acting.proxy is None for acting in listener.acting_filters()):
            others.append(f"{name}: has no proxy filter")
        elif question.listener and question.listener not in (listener.name, listener.address):
            others.append(f"{name}: not the requested listener {question.listener}")
            unwanted.append(name)
        else:
            found.append(listener)
    if not found and unwanted:
        raise QuestionError(f"no listener {question.listener!r} accepts this request; there is {', '.join(unwanted)}")
    if not found:
        raise QuestionError(f"no listener accepts this request: {'; '.join(others) or 'there is none'}")
    exact = [listener for listener in found if _port(listener) == port] if port > 0 and not question.listener else []
    listener = (exact or found)[0]
    others += [f"{other.name or other.address}: listens on {other.address}" for other in found if other is not listener]
    return listener, others


def _port(listener: Listener) -> int:
    """The port of a listener; 0 if it has none."""
    return address_port(listener.address)


def _split(url: str) -> Uri:
    uri = parse_uri(to_bytes(url))
    if uri.scheme not in (b"", *DEFAULT_PORTS) or not (uri.authority or url.startswith("/")):
        raise QuestionError(f"not an http URL or a path: {url!r}")
    port = split_authority(uri.authority or b"").port
    if port and not 0 <= decimal(port) <= HIGHEST_PORT:
        raise QuestionError(f"not a URL: its port must be a number from 0 to {HIGHEST_PORT}: {url!r}")
    if uri.authority and not is_host(uri.authority, False):
        raise QuestionError(f"not a URL: its host is invalid: {url!r}")
    return uri


def request_bytes(question: Question) -> bytes:
    """The request as a client sends it. Raises QuestionError."""
    uri = _split(question.url)
    try:
        fields = HttpHeaders()
        for name, value in question.headers:
            fields.add_raw(encode_name(name), encode_value(name, value))  # a client may send two Hosts
        if fields.get("host") is None and uri.authority:
            fields.put_first(b"Host", uri.authority)
    except HeaderError as error:
        raise QuestionError(str(error)) from None
    return question.method.encode() + b" " + uri.target() + b" HTTP/1.1\r\n" + wire_lines(fields) + b"\r\n"


def _protocol_of(proxy: ProxyConfig, question: Question) -> str:
    """The version of HTTP in which the request is sent: HTTP/1 if the listener speaks it, HTTP/2 for gRPC."""
    names = proxy.protocols()
    if names == ["Http2"]:
        return "Http2"
    types = [value.encode() for name, value in question.headers if name.lower() == "content-type"]
    is_call = len(types) == 1 and is_grpc(types[0])
    return "Http2" if is_call and not {"Http2", AUTO}.isdisjoint(names) else "Http1"


def _decode(question: Question, exchange: Exchange, protocol: str, http: Mapping[str, object]) -> Failure | None:
    """Adds the request to the exchange, as decoded by a listener with these settings; or returns why it is invalid."""
    facts = ListenerFacts(idle_timeout=0.0, overload=OverloadState())
    options = read_http_options(http, facts)
    decoder = RequestDecoder(options.limits, options.policy)
    decoder.feed(request_bytes(question))
    try:
        decoder.decode()
    except ProtocolError as error:
        return error.failure
    exchange.protocol = protocol
    exchange.request = decoder.head
    if protocol == "Http2" and is_grpc(decoder.head.headers.get_raw(b"content-type") or b""):
        call = GrpcRequest(decoder.head.headers)
        decoder.head.copy_into(call)
        call.adopt_timeout(call.headers.get_raw(TIMEOUT) or b"")
        exchange.request = call
    scheme = _split(question.url).scheme
    if scheme:
        exchange.request.scheme = scheme.decode()
    forwarding = forwarding_options(http)
    if forwarding.trusts_peer:
        exchange.forwarded_ip = decoder.head.adopt_forwarded(forwarding)
    if forwarding.changes_host and isinstance(exchange.request, HttpRequest):
        exchange.request.simplify_host(forwarding, exchange.connection.destination()[1])
    return None


# ---- virtual host and route


def _virtual_host(table: RouteTable, match: VirtualHost | None, authority: bytes) -> dict[str, Any]:
    reasons = []
    unlisted = 0
    for host in table.virtual_hosts:
        if host is match:
            continue
        domains = _matching_domains(table, host, authority)
        if domains:
            reasons.append(f"{host.name}: {', '.join(domains)} also matches, but less specifically")
        elif len(reasons) < MOST and match is None:
            reasons.append(f"{host.name}: none of {', '.join(host.domains) or 'no domains'} matches")
        else:
            unlisted += 1
    answer: dict[str, Any] = {"table": table.name, "others": reasons, "not_matching": unlisted}
    return answer if match is None else answer | {"name": match.name, "domains": _matching_domains(table, match, authority)}


def _matching_domains(table: RouteTable, host: VirtualHost, authority: bytes) -> list[str]:
    """The domains of `host` that match when each is tested alone."""
    found = []
    for domain in host.domains:
        alone = table.alike()
        alone.add(VirtualHost("", [domain], []))
        if alone.find_virtual_host(authority) is not None:
            found.append(domain)
    return found


def _route(host: VirtualHost, match: Route | None, exchange: Exchange) -> dict[str, Any]:
    routes = host.routes if match is None else host.routes[: host.routes.index(match)]
    earlier = [{"name": route.name, "why_not": route.matcher.why_not(exchange)} for route in routes]
    answer: dict[str, Any] = {"earlier": earlier[-MOST:], "left_out": max(0, len(earlier) - MOST)}
    return answer if match is None else answer | {"name": match.name, "because": match.matcher.text()}


# ---- the action


def _direct_reply(exchange: Exchange, action: object) -> dict[str, Any]:
    """The local reply of a redirect or a direct response."""
    assert isinstance(action, Redirect | DirectResponse)
    headers = headers_from(None)
    if isinstance(action, Redirect):
        headers.set("location", action.location(exchange.request))
    exchange.response = ResponseHead(action.status, headers)
    change_response(exchange, headers)
    reply: dict[str, Any] = {"status": action.status, "headers": headers.items()}
    return reply | {"body": action.body.decode()} if isinstance(action, DirectResponse) else reply


def _forward(
    config: MosnConfig,
    exchange: Exchange,
    action: Forward,
    proxy: ProxyConfig,
    live: Mapping[str, ClusterView] | None,
    parts: Parts,
) -> dict[str, Any]:
    """The cluster and the request that is sent to it, or why it is not sent."""
    http = proxy.extend_config.of(exchange.protocol)
    answer: dict[str, Any] = {}
    chosen = action.choose(exchange)
    if isinstance(action, ForwardWeighted):
        answer["clusters"] = [{"cluster": name, "weight": weight} for name, weight in action.shares()]
    if chosen is not None and chosen.route is not None:
        exchange.route = chosen.route
        if isinstance(chosen.route.action, Forward):
            action = chosen.route.action
    target = choose_target(exchange, action, chosen)
    if isinstance(target, Rejection):
        return answer | _failed(target.failure, target.detail)
    clusters = {cluster.name: cluster for cluster in config.cluster_manager.clusters}
    cluster = clusters.get(target.cluster)
    parts.cluster = target.cluster
    if cluster is None:
        return answer | _failed(action.unknown_cluster, f"unknown cluster {target.cluster!r}")
    if action.mirrors:
        answer["mirrors"] = _mirrors(exchange, action, clusters)
    original = original_plan(cluster)
    if original is not None and is_ambiguous(original, exchange):
        return answer | _failed(REPEATED_FIELD, f"header {original.header} is given more than once")
    plan = plan_forward(exchange, action, target, bool(action.hash_policies), original, True)
    if exchange.set_cookie:
        answer["set_cookie"] = to_text(exchange.set_cookie)
    failure = rewrite_path(exchange, action.changes, path_policy(http))
    if failure is not None:
        return answer | _failed(failure, "the rewritten path climbs, or has no normal form")
    tls = cluster_tls(cluster, config.cluster_manager)
    choice = choose_host(cluster, plan.selection, live, tls)
    way = WayOut(cluster.upstream_protocol, () if tls is None else alpn_of(tls.alpn), protocols())
    protocol = way.protocol(wanted_protocol(exchange, action), exchange.protocol)
    answer["cluster"] = {
        "name": cluster.name,
        "lb_type": cluster.lb_type or "LB_ROUNDROBIN",
        "subset": dict(target.subset or ()),
        "health": "assumed" if live is None else "live",
        "hosts": choice.hosts,
        "protocol": BY_ALPN if protocol == AUTO else protocol,
    }
    if offered := _offered(proxy, cluster, tls, protocol):
        answer["cluster"]["alpn"] = offered
    answer["timeouts"] = {"request": 0.0 if plan.timeout >= NO_TIMEOUT else plan.timeout, "try": plan.try_timeout}
    if choice.failure is not None:
        return answer | _failed(as_envoy(choice.failure) if http.get("envoy_statuses") else choice.failure, choice.detail)
    return answer | _sent(exchange, plan, choice, http, protocol)


def _offered(proxy: ProxyConfig, cluster: Cluster, tls: TlsContext | None, protocol: str) -> list[str]:
    """What the proxy offers by ALPN to hosts with TLS; empty if it leaves that to the cluster."""
    offers = alpn_offers(proxy.upstream_alpn)
    contexts = [tls, *(match.tls_context for match in cluster.tls_matches)]
    if offers is None or cluster.keep_alpn or not any(context is not None and context.status for context in contexts):
        return []
    return list(offers[protocol].names) if protocol in offers else []


def _sent(
    exchange: Exchange, plan: ForwardPlan, choice: Choice, http: Mapping[str, object], protocol: str
) -> dict[str, Any]:
    """The request as it is sent to the chosen host. The steps are those of `pymosn.proxy.forwarder`; its id is random.

    A request in HTTP/2 has the form that curl shows too: a request line instead of pseudo-header fields.
    """
    exchange.upstream_address = choice.address
    exchange.upstream_hostname = choice.hostname
    head = exchange.request
    ids = RequestIds()
    head.add_forwarding_fields(forwarding_options(http), exchange.connection.remote_ip, choice.address, False, ids)
    failure = change_request(exchange, plan.changes)
    if failure is not None:
        return _failed(failure, "the request names several hosts")
    if plan.uses_host_name and choice.hostname:
        rewrite_host(exchange, choice.hostname.encode())
    line, _, fields = b"".join(encode_request(head)).partition(b"\r\n")
    headers = HttpHeaders(fields[:-2]).items()
    if protocol == "Http2":
        line = line.removesuffix(b"HTTP/1.1") + b"HTTP/2"
    return {"upstream": {"line": line.decode("latin-1"), "headers": headers, "host": head.host, "path": head.path}}


def _mirrors(exchange: Exchange, action: Forward, clusters: Mapping[str, object]) -> list[dict[str, Any]]:
    """The clusters that get copies, and of what share of the requests."""
    copies = copies_wanted(exchange)
    return [
        {
            "cluster": mirror.cluster,
            "percent": mirror.percent,
            "copies": "each healthy host" if copies == EACH_HEALTHY_HOST else copies,
            "instead_of_request": copies == EACH_HEALTHY_HOST,
            "exists": mirror.cluster in clusters,
        }
        for mirror in action.mirrors
    ]
