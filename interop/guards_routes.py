"""Settings of routes, mirrors, tunnels and upgrades."""

from __future__ import annotations

from typing import Final

from interop.guards_kit import (
    Guarded,
    ask,
    chain,
    field,
    guarded,
    of_route,
    path,
    rbac,
    rules,
    typed,
    with_headers,
    wrapped,
)
from interop.xds_groups import Json, route, to

GUARDS: list[Guarded] = []


_OFF: Final = typed("rbac.v3.RBACPerRoute")
_ONLY: Final = typed("rbac.v3.RBACPerRoute", rbac=rules("ALLOW", field("x-only")))
_EVERY: Final = rbac("DENY", path("prefix", "/"))
_OVERRIDES: Final = [
    route("off", "/off", **of_route(_OFF)),
    route("only", "/only", **of_route(_ONLY)),
    route("disabled", "/disabled", **of_route(wrapped(disabled=True))),
    route("empty", "/empty", **of_route(wrapped(config=_OFF))),
    route("weighted", "/weighted", to("", weighted_clusters={"clusters": [{"name": "a", "weight": 1, **of_route(_ONLY)}]})),
    route("weighted-off", "/woff", to("", weighted_clusters={"clusters": [{"name": "a", "weight": 1, **of_route(_OFF)}]})),
    route("other", "/"),
]
_BY_ROUTE: Final = [
    *(
        ask(one)
        for one in ("/off", "/off/../x", "/off%2f..%2fx", "/offx", "/only", "/disabled", "/empty", "/weighted", "/woff")
    ),
    *(ask(one, x_only="1") for one in ("/only", "/weighted", "/x")),
    ask("/x"),
    ask("//off"),
    ask("/OFF"),
    ask("/off;x"),
]
_NAMED: Final = [
    route("one", "/one", **of_route(_OFF, "one")),
    route("two", "/two", **of_route(_OFF, "two")),
    route("usual", "/usual", **of_route(_OFF)),
    route("usual-off", "/disabled", **of_route(wrapped(disabled=True))),
    route("other", "/"),
]
_BY_NAME: Final = [ask(one) for one in ("/one", "/two", "/usual", "/disabled", "/x")]
GUARDS += [
    guarded("overrides", chain(_EVERY), _BY_ROUTE, _OVERRIDES),
    guarded("host-override", chain(_EVERY), _BY_ROUTE, _OVERRIDES, host=of_route(_ONLY)),
    guarded("table-override", chain(_EVERY), _BY_ROUTE, _OVERRIDES, table=of_route(_OFF)),
    guarded("named", chain(rbac("DENY", path("prefix", "/"), name="one")), _BY_NAME, _NAMED),
    guarded(
        "two-named",
        chain(rbac("DENY", path("prefix", "/"), name="one"), rbac("DENY", path("prefix", "/"), name="two")),
        _BY_NAME,
        _NAMED,
    ),
    guarded(
        "usual-named",
        chain(rbac("DENY", path("prefix", "/"), name="one"), rbac("DENY", field("x-usual"))),
        _BY_NAME,
        _NAMED,
    ),
]

# ---- mirrors, tunnels, upgrades

_MIRRORED: Final = to("a", request_mirror_policies=[{"cluster": "b"}])
_TUNNELS: Final[Json] = {
    "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
    "http2_protocol_options": {"allow_connect": True},
}
_CONNECTS: Final = [
    route("connect", {"connect_matcher": {}}, to("a")),
    route("all", "/"),
]
_UPGRADE: Final = [("upgrade", "websocket"), ("connection", "upgrade")]
_BY_TUNNEL: Final = [
    ask("guards.test:80", "CONNECT", host="guards.test:80"),
    ask("deny.test:80", "CONNECT", host="deny.test:80"),
    ask("/x", "CONNECT", host="guards.test:80"),
    with_headers("/x", _UPGRADE),
    with_headers("/ws", _UPGRADE),
    with_headers("/deny", _UPGRADE),
    with_headers("/x", [("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "")]),
    with_headers("/x", [("upgrade", "websocket, foo"), ("connection", "upgrade")]),
]
GUARDS += [
    guarded(
        "mirror",
        chain(rbac("DENY", path("prefix", "/deny"))),
        [ask("/deny"), ask("/x"), ask("/deny", "POST")],
        [route("mirrored", "/", _MIRRORED)],
    ),
    guarded("tunnel-deny", {**chain(rbac("DENY", path("prefix", "/"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
    guarded("tunnel-allow", {**chain(rbac("ALLOW", path("prefix", "/"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
    guarded(
        "tunnel-host",
        {
            **chain(rbac("DENY", field(":authority", "prefix", "deny.test"), field("upgrade", "exact", "websocket"))),
            **_TUNNELS,
        },
        _BY_TUNNEL[1:],
        _CONNECTS,
    ),
    guarded("tunnel-path-deny", {**chain(rbac("DENY", field(":path", "prefix", "/"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
    guarded("tunnel-path-allow", {**chain(rbac("ALLOW", field(":path", "prefix", "/"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
    guarded("tunnel-path-any", {**chain(rbac("ALLOW", field(":path"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
    guarded("tunnel-method", {**chain(rbac("ALLOW", field(":method", "exact", "GET"))), **_TUNNELS}, _BY_TUNNEL, _CONNECTS),
]
