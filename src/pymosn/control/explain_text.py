"""The answer of `explain` as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymosn.control.certificates import iso_time
from pymosn.control.explain_logs import log_lines
from pymosn.control.origins import lines_of


def as_text(answer: dict[str, Any]) -> str:
    """An answer of `explain` as lines for a terminal."""
    lines = _section("listener", answer["listener"]["name"], [f"not {other}" for other in answer["listener"]["others"]])
    chain = answer.get("chain")
    if chain is not None:
        name = f", server name {chain['server_name']}" if chain["server_name"] else ""
        because = f": {chain['because']}" if chain["because"] else ""
        others = [f"not {other}" for other in chain["others"]]
        if "waits_for" in chain:
            others.insert(0, f"waits for the secrets {', '.join(chain['waits_for'])}, until then no handshake succeeds")
        lines += _section("filter chain", f"{chain['name']} ({chain['transport']}{name}){because}", others)
    request = answer.get("request", {})
    if "service" in request:
        deadline = f", deadline {request['deadline']:g} s" if request["deadline"] else ""
        lines += _section("gRPC call", f"service {request['service']}, method {request['rpc_method']}{deadline}")
    host = answer.get("virtual_host")
    if host is not None:
        domains = f" ({', '.join(host['domains'])})" if "name" in host else ""
        more = [f"not {other}" for other in host["others"]]
        if host["not_matching"]:
            more.append(f"and {host['not_matching']} more whose domains do not match")
        lines += _section("virtual host", f"{host.get('name', 'none')}{domains} of router {host['table']}", more)
    route = answer.get("route")
    if route is not None:
        because = f": {route['because']}" if "name" in route else ""
        more = [f"{route['left_out']} earlier routes are omitted"] if route["left_out"] else []
        more += [f"not {entry['name']}: {entry['why_not']}" for entry in route["earlier"]]
        lines += _section("route", f"{route.get('name', 'none')}{because}", more)
    if "action" in answer:
        lines += _section("action", answer["action"])
    logs = log_lines(answer)
    logged = _section("access logs", logs[0], logs[1:]) if logs else []
    return "\n".join([*lines, *_forward_lines(answer), *_reply_lines(answer), *logged, *_origin_lines(answer)])


def _section(title: str, first: str, more: Iterable[str] = ()) -> list[str]:
    return [f"{title:14}{first}", *(f"{'':14}{line}" for line in more)]


def _forward_lines(answer: dict[str, Any]) -> list[str]:
    lines = []
    cluster = answer.get("cluster")
    if cluster is not None:
        note = "the health of its hosts is unknown" if cluster["health"] == "assumed" else "with the health of now"
        hosts = []
        for host in cluster["hosts"]:
            health = f", {host['health']}" if "health" in host else ""
            out = "" if host["in_subset"] else ", not in the subset"
            secured = "" if host["tls"] == "no TLS" else f", {host['tls']}"
            hosts.append(f"host {host['address']} weight {host['weight']}{health}{out}{secured}")
        lines += _section("cluster", f"{cluster['name']} ({cluster['lb_type']}), {note}", hosts)
        lines += _section("protocol", cluster["protocol"])
        if "alpn" in cluster:
            lines += _section("alpn", ", ".join(cluster["alpn"]))
        seconds = answer["timeouts"]["request"]
        lines += _section("timeout", f"{seconds:g} s" if seconds else "none")
    for mirror in answer.get("mirrors", ()):
        lines += _section("mirror", _mirror_text(mirror))
    upstream = answer.get("upstream")
    if upstream is not None:
        lines += _section("sent", upstream["line"], _fields(upstream))
    if "set_cookie" in answer:
        lines += _section("set-cookie", answer["set_cookie"])
    return lines


def _reply_lines(answer: dict[str, Any]) -> list[str]:
    reply = answer.get("reply")
    if reply is None:
        return []
    details = [reply["detail"]] if "detail" in reply else []
    status = f"gRPC status {reply['grpc_status']}" if "grpc_status" in reply else reply["status"]
    return _section("reply", f"{status} {reply.get('reason', '')}".rstrip(), [*details, *_fields(reply)])


def _origin_lines(answer: dict[str, Any]) -> list[str]:
    """Where all of it comes from, and the last failed handshakes of the listener."""
    origins, failures = lines_of(answer.get("origins", ())), answer.get("failed_handshakes", ())
    lines = _section("from", origins[0], origins[1:]) if origins else []
    failed = [
        f"{iso_time(one['time'])} {one['client'] or 'unix'}: {one['reason']} {one['detail']}".rstrip() for one in failures
    ]
    return lines + (_section("handshakes", failed[0], failed[1:]) if failed else [])


def _fields(message: dict[str, Any]) -> list[str]:
    return [f"{name}: {value}" for name, value in message.get("headers", ())]


def _mirror_text(mirror: dict[str, Any]) -> str:
    share = f"{mirror['percent']:g} % of requests"
    if mirror["instead_of_request"]:
        text = f"every healthy host of cluster {mirror['cluster']}, and 200 in place of the reply, for {share}"
    else:
        times = "" if mirror["copies"] == 1 else f" {mirror['copies']} times"
        text = f"cluster {mirror['cluster']}{times}, {share}"
    return text if mirror["exists"] else f"{text}: unknown cluster"
