"""Rules about the addresses of clients, for requests and for connections; and rules within rules."""

from __future__ import annotations

from typing import Final

from interop.guards_kit import (
    ANY,
    LISTENER,
    NETWORK,
    RBAC,
    Guarded,
    ask,
    chain,
    field,
    guarded,
    path,
    rbac,
    rules,
    typed,
)
from interop.xds_groups import Json

GUARDS: list[Guarded] = []


def network(address: str, bits: int) -> Json:
    """A CidrRange."""
    return {"address_prefix": address, "prefix_len": bits}


def proxied(source: str) -> bytes:
    """The header of the PROXY protocol, version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    here = "::1" if ":" in source else "127.0.0.1"
    return f"PROXY {family} {source} {here} 4000 80\r\n".encode()


_FORWARDED: Final = (
    *("10.0.0.1", "9.9.9.9", "10.0.0.1, 9.9.9.9", "9.9.9.9, 10.0.0.1", "9.9.9.9\n10.0.0.1", "10.0.0.1\n9.9.9.9", "", "x"),
    *("10.0.0.1, x", "x, 10.0.0.1", "10.0.0.1:80", "[::ffff:10.0.0.1]", "::ffff:10.0.0.1", "010.0.0.1", "10.0.0.1,", "10.1"),
)
_BY_ADDRESS: Final = [ask("/"), *(ask("/", x_forwarded_for=value) for value in _FORWARDED)]
_TENS: Final = network("10.0.0.0", 8)
_LOCAL: Final = network("127.0.0.0", 8)
_PROXY: Final[Json] = {
    "listener_filters": [
        {
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {"@type": LISTENER + "proxy_protocol.v3.ProxyProtocol"},
        }
    ]
}
_SOURCES: Final = ("10.0.0.1", "9.9.9.9", "127.0.0.1", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1")
_BY_PROXY: Final = [ask("/", preface=proxied(one)) for one in _SOURCES]
_BY_BOTH: Final = [ask("/", preface=proxied(one), x_forwarded_for="10.0.0.1") for one in _SOURCES]
for _kind in ("direct_remote_ip", "source_ip", "remote_ip"):
    for _action, _ranges in (("DENY", _TENS), ("ALLOW", _TENS), ("ALLOW", _LOCAL), ("DENY", _LOCAL)):
        _name = f"{_kind.split('_')[0]}-{_action.lower()}-{_ranges['address_prefix'].split('.')[0]}"
        _filters = chain(rbac(_action, (ANY, {_kind: _ranges})))
        GUARDS += [
            guarded(f"{_name}-edge", {**_filters, "use_remote_address": True}, _BY_ADDRESS),
            guarded(f"{_name}-hop", {**_filters, "use_remote_address": True, "xff_num_trusted_hops": 1}, _BY_ADDRESS),
            guarded(f"{_name}-inner", _filters, _BY_ADDRESS),
            guarded(f"{_name}-proxy", {**_filters, "use_remote_address": True}, [*_BY_PROXY, *_BY_BOTH], listener=_PROXY),
        ]

# ---- logic


def nested(depth: int, inner: Json, inverts: bool = True) -> Json:
    """A permission within others."""
    for i in range(depth):
        inner = {"not_rule": inner} if inverts else {("and_rules", "or_rules")[i % 2]: {"rules": [inner]}}
    return inner


_LOGIC: Final = (
    nested(8, path("exact", "/even")),
    {"and_rules": {"rules": [nested(7, path("exact", "/odd")), path("prefix", "/o")]}},
    nested(12, path("exact", "/deep"), inverts=False),
    {"and_rules": {"rules": [path("prefix", "/and"), {"or_rules": {"rules": [field("x-a"), field("x-b")]}}]}},
    (path("exact", "/who"), {"not_id": {"or_ids": {"ids": [{"header": {"name": "x-user", "present_match": True}}]}}}),
    (path("exact", "/tls"), {"not_id": {"authenticated": {}}}),
    (path("exact", "/named"), {"authenticated": {"principal_name": {"prefix": ""}}}),
    (path("exact", "/peer"), {"not_id": {"authenticated": {"principal_name": {"exact": "spiffe://a/ns/b/sa/c"}}}}),
    {"and_rules": {"rules": [path("exact", "/sni"), {"requested_server_name": {"exact": ""}}]}},
    {"and_rules": {"rules": [path("exact", "/sni2"), {"not_rule": {"requested_server_name": {"exact": "good.test"}}}]}},
    {"and_rules": {"rules": [path("exact", "/ip"), {"destination_ip": _LOCAL}]}},
    {"and_rules": {"rules": [path("exact", "/port"), {"not_rule": {"destination_port": 443}}]}},
    {"and_rules": {"rules": [path("exact", "/ports"), {"destination_port_range": {"start": 1, "end": 65535}}]}},
)
_LOGIC = tuple(
    one
    for one in _LOGIC
    if "principal_name': {'prefix': ''" not in str(one)  # an empty prefix is rejected by both
)
_ASKED: Final = (
    "/even",
    "/odd",
    "/other",
    "/deep",
    "/and",
    "/who",
    "/tls",
    "/peer",
    "/sni",
    "/sni2",
    "/ip",
    "/port",
    "/ports",
)
_BY_LOGIC: Final = [
    *(ask(one) for one in _ASKED),
    *(ask(one, x_a="1") for one in ("/and", "/android", "/an")),
    ask("/and", x_b=""),
    ask("/who", x_user="1"),
    ask("/who", x_user=""),
]
_CHAIN: Final = chain(
    rbac("DENY", path("prefix", "/no")),
    rbac("ALLOW", path("prefix", "/no"), path("prefix", "/yes")),
    rbac("LOG", path("prefix", "/no"), path("prefix", "/yes")),
)
_SHADOW: Final = chain(
    {"name": RBAC, "typed_config": typed("rbac.v3.RBAC", shadow_rules=rules("DENY", path("prefix", "/"))["rules"])},
    {
        "name": "two",
        "typed_config": typed(
            "rbac.v3.RBAC",
            shadow_rules=rules("ALLOW", path("prefix", "/"))["rules"],
            shadow_rules_stat_prefix="x",
            **rules("DENY", path("prefix", "/no")),
        ),
    },
)
GUARDS += [
    guarded("logic", chain(rbac("DENY", *_LOGIC)), _BY_LOGIC),
    guarded("logic-allow", chain(rbac("ALLOW", *_LOGIC)), _BY_LOGIC),
    guarded("order", _CHAIN, [ask(one) for one in ("/no", "/yes", "/other", "/no/../yes", "/yes/../no", "/yes/%2e%2e/no")]),
    guarded("shadow", _SHADOW, [ask(one) for one in ("/no", "/yes")]),
    guarded("nobody", chain(rbac("ALLOW")), [ask("/"), ask("/", "OPTIONS"), ask("*", "OPTIONS")]),
    guarded("everybody", chain(rbac("DENY")), [ask("/")]),
]


# ---- connections


def _tcp_rbac(action: str, *policies: Json | tuple[Json, Json]) -> list[Json]:
    config = {"@type": NETWORK + "rbac.v3.RBAC", "stat_prefix": "x", **rules(action, *policies)}
    return [{"name": "envoy.filters.network.rbac", "typed_config": config}]


_CONNECTIONS: Final[dict[str, tuple[str, tuple[Json, Json]]]] = {
    "deny-tens": ("DENY", (ANY, {"direct_remote_ip": _TENS})),
    "deny-source-tens": ("DENY", (ANY, {"source_ip": _TENS})),
    "deny-remote-tens": ("DENY", (ANY, {"remote_ip": _TENS})),
    "allow-tens": ("ALLOW", (ANY, {"direct_remote_ip": _TENS})),
    "allow-local": ("ALLOW", (ANY, {"direct_remote_ip": _LOCAL})),
    "allow-source-local": ("ALLOW", (ANY, {"source_ip": _LOCAL})),
    "allow-remote-local": ("ALLOW", (ANY, {"remote_ip": _LOCAL})),
    "deny-unnamed": ("DENY", (ANY, {"not_id": {"authenticated": {}}})),
    "allow-named": ("ALLOW", (ANY, {"authenticated": {}})),
    "deny-no-path": ("DENY", ({"not_rule": path("prefix", "/")}, ANY)),
    "allow-port": ("ALLOW", ({"destination_port": 80}, ANY)),
    "deny-port": ("DENY", ({"not_rule": {"destination_port": 80}}, ANY)),
    "deny-empty-name": ("DENY", ({"requested_server_name": {"exact": ""}}, ANY)),
    "deny-other-name": ("DENY", ({"not_rule": {"requested_server_name": {"exact": "good.test"}}}, ANY)),
}
for _name, (_action, _policy) in _CONNECTIONS.items():
    GUARDS += [
        guarded(f"tcp-{_name}", chain(), [ask("/"), ask("/", x="1")], network=_tcp_rbac(_action, _policy)),
        guarded(
            f"tcp-{_name}-proxy", chain(), _BY_PROXY, network=_tcp_rbac(_action, _policy), listener=_PROXY
        ),
    ]  # fmt: skip
