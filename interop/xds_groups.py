"""Groups of routes and requests that are sent through pymosn and through Envoy, both driven by the same control plane.

A group is a listener with its RouteConfiguration, and the requests that are sent to it. A request is a line of text:
`[METHOD] [HOST] PATH [| header: value]...`. Each route adds its name to the response as `x-route`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

#: What all hosts of the clusters are called; each is a server of its own.
HOSTS = ("a", "b", "c", "d", "e")


class Sent(NamedTuple):
    """One request. `headers`: in the order in which they are sent, without `host`."""

    text: str
    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]


class Group(NamedTuple):
    """One listener. `hcm`: more fields of its HttpConnectionManager. `table`: more fields of the RouteConfiguration.

    `listener`: more fields of the listener. `network`: filters before the connection manager.
    """

    name: str
    virtual_hosts: list[Json]
    requests: list[Sent]
    hcm: Json = {}
    table: Json = {}
    is_inline: bool = False
    listener: Json = {}
    network: Sequence[Json] = ()


def group(name: str, virtual_hosts: list[Json], requests: str, **more: Any) -> Group:
    """A group whose requests are the lines of a text; `#` begins a comment."""
    lines = [line.strip() for line in requests.strip().splitlines()]
    return Group(name, virtual_hosts, [sent(line, f"{name}.test") for line in lines if line and line[0] != "#"], **more)


def sent(line: str, default_host: str) -> Sent:
    """The request of a line."""
    first, *fields = (part.strip() for part in line.split(" | "))
    words = first.split()
    method = words.pop(0) if words[0].isalpha() and words[0].isupper() else "GET"
    host = words.pop(0) if not words[0].startswith("/") else default_host
    headers = tuple((name, value.strip()) for name, _, value in (field.partition(":") for field in fields))
    return Sent(line, method, host, words[0], headers)


def virtual_host(name: str, routes: list[Json], domains: list[str] | None = None, **more: Any) -> Json:
    """A virtual host, by default of the domain `NAME.test`."""
    return {"name": name, "domains": domains or [f"{name}.test"], "routes": routes, **more}


def route(name: str, match: str | Json, action: Json | None = None, **more: Any) -> Json:
    """A route, by default to the cluster `a`. `match`: a prefix, or a RouteMatch."""
    added = [*more.pop("response_headers_to_add", []), header("x-route", name)]
    matched = {"prefix": match} if isinstance(match, str) else match
    chosen = action or to("a")
    return {"name": name, "match": matched, **chosen, "response_headers_to_add": added, **more}


def to(cluster: str = "a", **more: Any) -> Json:
    """The action that forwards to a cluster; with `cluster=""` another field names it."""
    return {"route": {"cluster": cluster, **more} if cluster else more}


def direct(status: int, body: str = "", **more: Any) -> Json:
    """The action that answers."""
    return {"direct_response": {"status": status, **({"body": {"inline_string": body}} if body else {}), **more}}


def redirect(**fields: Any) -> Json:
    """The action that redirects."""
    return {"redirect": fields}


def header(key: str, value: str, action: str = "", **more: Any) -> Json:
    """A HeaderValueOption."""
    return {"header": {"key": key, "value": value}, **({"append_action": action} if action else {}), **more}


def text(kind: str, value: Any, ignore_case: bool = False) -> Json:
    """A StringMatcher: `exact`, `prefix`, `suffix`, `contains` or `regex`."""
    matcher = {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}
    return {**matcher, **({"ignore_case": True} if ignore_case else {})}


def with_header(name: str, value: Json, path: str = "", **more: Any) -> Json:
    """A RouteMatch for a path (by default any) and a header; `value`: a StringMatcher, or another kind of HeaderMatcher."""
    is_text = set(value) & {"exact", "prefix", "suffix", "contains", "safe_regex", "custom"}
    matcher = {"name": name, **({"string_match": value} if is_text else value), **more}
    return {**({"path": path} if path else {"prefix": "/"}), "headers": [matcher]}


def with_query(name: str, value: Json, path: str) -> Json:
    """A RouteMatch for a path and a query parameter."""
    is_presence = "present_match" in value
    return {"path": path, "query_parameters": [{"name": name, **(value if is_presence else {"string_match": value})}]}
