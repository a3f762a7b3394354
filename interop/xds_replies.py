"""The group about the form of local replies."""

from __future__ import annotations

from interop.xds_groups import Json, direct, group, header, redirect, route, to, virtual_host

_IS_ONE: Json = {"header_filter": {"header": {"name": "x-pick", "string_match": {"exact": "one"}}}}
_IS_TWO: Json = {"header_filter": {"header": {"name": "x-pick", "present_match": True}}}


def _has_status(op: str, status: int) -> Json:
    return {"status_code_filter": {"comparison": {"op": op, "value": {"default_value": status, "runtime_key": "x"}}}}


_MAPPERS: list[Json] = [
    {
        "filter": {"and_filter": {"filters": [_has_status("EQ", 418), _IS_ONE]}},
        "status_code": 429,
        "body": {"inline_string": "mapped"},
        "headers_to_add": [header("x-mapped", "%RESPONSE_CODE%"), header("x-path", "%REQ(:path)%")],
    },
    {
        "filter": {"or_filter": {"filters": [_has_status("EQ", 404), _IS_TWO]}},
        "body_format_override": {
            "text_format_source": {"inline_string": "<%RESPONSE_CODE%> %LOCAL_REPLY_BODY%\n%REQ(x-none)% 100%%\n"},
            "content_type": "text/html; charset=utf-8",
        },
    },
    {"filter": _has_status("GE", 500), "status_code": 200},
]
_JSON: Json = {
    "json_format": {
        "body": "%LOCAL_REPLY_BODY%",
        "method": "%REQ(:METHOD)%",
        "none": "%REQ(x-none)%",
        "status": "%RESPONSE_CODE%",
        "text": "was %RESPONSE_CODE%",
    }
}

REPLIES = group(
    "replies",
    [
        virtual_host(
            "replies",
            [
                route("direct", "/direct", direct(418, 'a "direct" response\n')),
                route("error", "/error", direct(503, "an error")),
                route("moved", "/moved", redirect(host_redirect="new.test")),
                route("refusing", "/refusing", to("refusing")),
                route("upstream", "/", to("a")),
            ],
        )
    ],
    """
    /direct
    HEAD /direct
    /direct | x-pick: one
    HEAD /direct | x-pick: one
    POST /direct | x-pick: one
    /direct | x-pick: two
    /direct?q="x" | x-pick: two
    /error
    /error | x-pick: two
    /moved | x-pick: two
    /refusing
    /upstream | x-pick: one
    /upstream | x-pick: two | x-answers: 503
    none.test /direct
    none.test /direct | x-pick: one
    """,
    hcm={"local_reply_config": {"mappers": _MAPPERS, "body_format": _JSON}},
)
