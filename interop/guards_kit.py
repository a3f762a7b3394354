"""Listeners that guard something by RBAC, JWT or ext_authz, and requests that try to pass.

What counts is whether an upstream has got the request. Every group is a listener; each request is tried at Envoy and at
pymosn, both driven by the same control plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from interop.xds_groups import Group, Json, Sent, route, virtual_host

_HTTP: Final = "type.googleapis.com/envoy.extensions.filters.http."
NETWORK: Final = "type.googleapis.com/envoy.extensions.filters.network."
LISTENER: Final = "type.googleapis.com/envoy.extensions.filters.listener."
RBAC: Final = "envoy.filters.http.rbac"
#: The group whose requests are mirrored.
MIRROR: Final = "guard-mirror"
ANY: Final[Json] = {"any": True}


class Try(NamedTuple):
    """A request that tries to pass. `preface`: bytes before it. `is_h2`: over HTTP/2, with the same fields."""

    sent: Sent
    preface: bytes = b""
    is_h2: bool = False


class Guarded(NamedTuple):
    """A listener and the requests to it."""

    group: Group
    tries: list[Try]


def ask(
    path: str, method: str = "GET", host: str = "guards.test", preface: bytes = b"", is_h2: bool = False, **fields: str
) -> Try:
    """A request. `fields`: headers, with `_` for `-`, and several values as lines."""
    headers = [(name.replace("_", "-"), value) for name, text in fields.items() for value in text.split("\n")]
    return with_headers(path, headers, method, host, preface, is_h2)


def with_headers(
    path: str,
    headers: Iterable[tuple[str, str]],
    method: str = "GET",
    host: str = "guards.test",
    preface: bytes = b"",
    is_h2: bool = False,
) -> Try:
    """A request with any names of headers."""
    fields = tuple(headers)
    shown = " ".join([f"{method} {host or '(no host)'} {path}", *(f"| {name}: {value}" for name, value in fields)])
    text = f"{'h2 ' if is_h2 else ''}{preface.decode().strip() + ' ' if preface else ''}{shown}"
    return Try(Sent(text, method, host, path, fields), preface, is_h2)


def typed(kind: str, **fields: Any) -> Json:
    """A message of an HTTP filter, such as `rbac.v3.RBAC`, in an Any."""
    return {"@type": _HTTP + kind, **fields}


def chain(*filters: Json) -> Json:
    """The HTTP filters of a connection manager, with the router."""
    return {"http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": typed("router.v3.Router")}]}


def rules(action: str, *policies: Json | tuple[Json, Json]) -> Json:
    """Rules of policies, each a permission for everyone or a pair of permission and principal."""
    pairs = [one if isinstance(one, tuple) else (one, ANY) for one in policies]
    made = {f"p{i}": {"permissions": [what], "principals": [who]} for i, (what, who) in enumerate(pairs)}
    return {"rules": {"action": action, "policies": made}}


def rbac(action: str, *policies: Json | tuple[Json, Json], name: str = RBAC) -> Json:
    """An RBAC filter."""
    return {"name": name, "typed_config": typed("rbac.v3.RBAC", **rules(action, *policies))}


def path(kind: str, value: str, **more: Any) -> Json:
    """A permission by path."""
    matcher = {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}
    return {"url_path": {"path": {**matcher, **more}}}


def field(name: str, kind: str = "", value: str = "", **more: Any) -> Json:
    """A permission by header; without a kind the header has to be present."""
    if not kind:
        return {"header": {"name": name, "present_match": True, **more}}
    matcher = {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}
    return {"header": {"name": name, "string_match": matcher, **more}}


def guarded(name: str, hcm: Json, tries: list[Try], routes: list[Json] | None = None, **more: Any) -> Guarded:
    """A listener whose routes, by default one, forward to cluster a."""
    host = virtual_host(name, routes or [route("all", "/")], ["*"], **more.pop("host", {}))
    return Guarded(Group(f"guard-{name}", [host], [], hcm=hcm, **more), tries)


def http1(asked: Try, case: str) -> bytes:
    """A request as it is sent over HTTP/1."""
    sent = asked.sent
    body = b"hello" if sent.method in ("POST", "PUT", "PATCH") else b""
    lines = [f"{sent.method} {sent.path} HTTP/1.1", f"host: {sent.host}", f"x-case: {case}"]
    lines += [f"{name}: {value}" for name, value in sent.headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return asked.preface + "\r\n".join([*lines, "", ""]).encode() + body


def of_route(message: Json, name: str = RBAC) -> Json:
    """Settings of a route for a filter."""
    return {"typed_per_filter_config": {name: message}}


def wrapped(**fields: Any) -> Json:
    """A FilterConfig."""
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", **fields}
