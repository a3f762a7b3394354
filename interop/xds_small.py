"""The groups about small parts of routes: the choice by a number, certificates of clients, limits of time."""

from __future__ import annotations

from interop.xds_groups import group, route, to, virtual_host

_WEIGHTS = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}], "header_name": "x-pick"}
_PART = {"pattern": {"regex": "([a-z]+)-\\d+"}, "substitution": "\\1"}
_HASH = {"header": {"header_name": "x-user", "regex_rewrite": _PART}, "terminal": True}

SMALL = group(
    "small",
    [
        virtual_host(
            "small",
            [
                route("number", "/number", to("", weighted_clusters=_WEIGHTS)),
                route("presented", {"prefix": "/client", "tls_context": {"presented": True}}),
                route("validated", {"prefix": "/client", "tls_context": {"validated": True}}),
                route("plain", {"prefix": "/client", "tls_context": {"presented": False, "validated": False}}),
                route("hash", "/hash", to("ring", hash_policy=[_HASH])),
                route("slow", "/slow", to("a", timeout="0s")),
                route("own", "/own", to("a", timeout="0s", max_stream_duration={"max_stream_duration": "10s"})),
                route("unlimited", "/unlimited", to("a", timeout="0s", max_stream_duration={"max_stream_duration": "0s"})),
            ],
        )
    ],
    """
    /number | x-pick: 0
    /number | x-pick: 1
    /number | x-pick: 3
    /number | x-pick: 4
    /number | x-pick: 18446744073709551615
    /client
    /hash | x-user: one-1
    /hash | x-user: two-1
    /hash | x-user: two-2
    /hash | x-user: 77
    /slow | x-answer-delay: 0.1
    /slow | x-answer-delay: 1.5
    /own | x-answer-delay: 1.5
    /unlimited | x-answer-delay: 1.5
    """,
    hcm={"common_http_protocol_options": {"max_stream_duration": "0.8s"}},
)
