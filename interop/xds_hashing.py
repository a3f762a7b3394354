"""Consistent hashing: each request has to arrive at the same host by either proxy."""

from __future__ import annotations

from interop.xds_groups import Json, group, route, to, virtual_host
from interop.xds_hash_clusters import HASH_CLUSTERS

_USERS = ("alice", "bob", "carol", "dave", "erin", "frank")


def _header(name: str, **more: bool) -> Json:
    return {"header": {"header_name": name}, **more}


def _hashed(*policies: Json, cluster: str = "h-ring") -> Json:
    return to(cluster, hash_policy=list(policies))


_SOURCE: Json = {"connection_properties": {"source_ip": True}}
_NO_SOURCE: Json = {"connection_properties": {"source_ip": False}}
_QUERY: Json = {"query_parameter": {"name": "u"}}
_COOKIE: Json = {"cookie": {"name": "session"}}
_ATTRIBUTES = [{"name": "SameSite", "value": "Strict"}, {"name": "Secure", "value": ""}]
_MADE: Json = {"cookie": {"name": "session", "ttl": "61.9s", "path": "/c", "attributes": _ATTRIBUTES}}
_SESSION: Json = {"cookie": {"name": "session", "ttl": "0s"}}

BALANCERS = group(
    "hash-balancers",
    [
        virtual_host(
            "hash-balancers",
            [
                route(one.name, {"path": f"/{one.name}"}, _hashed(_header("x-user"), cluster=one.name))
                for one in HASH_CLUSTERS
            ],
        )
    ],
    "\n".join(f"/{one.name} | x-user: {user}" for one in HASH_CLUSTERS for user in _USERS),
)

POLICIES = group(
    "hash-policies",
    [
        virtual_host(
            "hash-policies",
            [
                route("header", {"path": "/header"}, _hashed(_header("x-user"))),
                route("path", {"prefix": "/path"}, _hashed(_header(":path"))),
                route("authority", {"path": "/authority"}, _hashed(_header(":authority"))),
                route("method", {"path": "/method"}, _hashed(_header(":method"))),
                route("cookie", {"path": "/cookie"}, _hashed(_COOKIE)),
                route("made", {"path": "/made"}, _hashed(_MADE, cluster="h-ring-one")),
                route("made-short", {"path": "/made-short"}, _hashed(_SESSION, cluster="h-ring-one")),
                route("not-made", {"path": "/not-made"}, _hashed(_COOKIE, cluster="h-ring-one")),
                route("query", {"path": "/query"}, _hashed(_QUERY)),
                route("source", {"path": "/source"}, _hashed(_SOURCE)),
                route("two", {"path": "/two"}, _hashed(_header("x-user"), _header("x-other"))),
                route("twice", {"path": "/twice"}, _hashed(_header("x-user"), _header("x-user"))),
                route("order", {"path": "/order"}, _hashed(_header("x-other"), _header("x-user"))),
                route("many", {"path": "/many"}, _hashed(_header("x-user"), _COOKIE, _QUERY, _SOURCE, _header(":path"))),
                route("last", {"path": "/last"}, _hashed(_header("x-user", terminal=True), _QUERY, _SOURCE)),
                route("middle", {"path": "/middle"}, _hashed(_header("x-user"), {**_QUERY, "terminal": True}, _SOURCE)),
                route("no-source", {"path": "/no-source"}, _hashed(_header("x-user"), _NO_SOURCE)),
                route("table", {"path": "/table"}, _hashed(_header("x-user"), _SOURCE, cluster="h-maglev")),
            ],
        )
    ],
    """
    /header | x-user: alice
    /header | x-user: a,b
    /header | x-user: a | x-user: b
    /header | x-user: b | x-user: a
    /header | x-user: a | x-user: b | x-user: c
    /header | x-user: this is a text of more than thirty-two bytes, so that all of XXH64 is used
    /header | x-user: 12345678
    /header | x-user: 1234
    /path/one
    /path/two?three=4
    /authority
    /method
    POST /method
    /cookie | cookie: session=abc
    /cookie | cookie: session="abc"
    /cookie | cookie: a=b; session=def; c=d
    /cookie | cookie: session=one; session=two
    /cookie | cookie: x=1 | cookie: session=three
    /cookie | cookie: session=four | cookie: session=five
    /cookie | cookie: session= a b
    /cookie | cookie: session=a b ; x=1
    /cookie | cookie:  session=a=b
    /cookie | cookie: session="; x=1
    /made
    /made | cookie: session=x
    /made-short
    /made-short | cookie: other=x
    /not-made
    /query?u=alice
    /query?u=al%69ce
    /query?u=bob&u=carol
    /query?x=1&u=
    /query?x=1&u
    /query?U=alice&u=bob
    /source
    /source | x-forwarded-for: 10.1.2.3
    /two | x-user: alice | x-other: 1
    /two | x-user: alice | x-other: 2
    /two | x-user: bob | x-other: 1
    /two | x-other: 1
    /two | x-user: alice
    /twice | x-user: alice
    /twice | x-user: bob
    /order | x-user: alice | x-other: 1
    /order | x-user: alice | x-other: 2
    /many?u=1 | x-user: alice | cookie: session=abc
    /many?u=2 | x-user: bob | cookie: session=abc
    /many?u=3 | cookie: session=abc
    /many
    /last?u=1 | x-user: alice
    /last?u=1
    /last?u=2
    /middle?u=1 | x-user: alice
    /middle?u=2 | x-user: alice
    /middle | x-user: alice
    /no-source | x-user: alice
    /table | x-user: alice
    /table | x-user: bob
    """,
)
