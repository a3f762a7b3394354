"""Differences from Envoy that are intended, each with its reason; docs/xds-differences.md is made from this table.

`python -m interop.xds_explained` writes the page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "docs" / "xds-differences.md"


class Explained(NamedTuple):
    """`pattern`: of the differences, as `GROUP REQUEST :: DIFFERENCE`, from its beginning. `what`, `why`: for the page."""

    pattern: str
    what: str
    why: str


#: Headers of Envoy's own that pymosn does not send.
_ENVOYS = "x-envoy-(expected-rq-timeout-ms|upstream-service-time|original-host|external-address|internal)"

EXPLAINED = [
    Explained(
        r".* :: response server: envoy -> (pymosn|theirs|\(absent\))",
        "Without `server_name`, `server` is `pymosn`; requests that are rejected before they are routed have none",
        "It is not Envoy.",
    ),
    Explained(
        rf".* :: (response|upstream) {_ENVOYS}: .* -> \(absent\)",
        "`x-envoy-expected-rq-timeout-ms`, `-upstream-service-time`, `-original-host`, `-external-address` and `-internal` "
        "are not sent",
        "They are Envoy's own, as with its `suppress_envoy_headers`; access logs have the times.",
    ),
    Explained(
        r".* :: upstream x-(envoy|mosn)-original-path: ",
        "A rewritten request has `x-mosn-original-path`, the path without the query, not `x-envoy-original-path`",
        "MOSN's name, also in tables of files.",
    ),
    Explained(
        r".* :: response content-type: (text/plain|\(absent\)) -> text/plain; charset=utf-8",
        "Local replies have `content-type: text/plain; charset=utf-8`, and those for 404 and 503 a body",
        "The body names the status; it has that charset.",
    ),
    Explained(
        r"replies (/refusing|none.test /direct.*) :: response body: ",
        "`%LOCAL_REPLY_BODY%` of a failure is the status, also for 404",
        "The reason is for the operator: access logs have it.",
    ),
    Explained(
        r"filters none.test / :: status: 403 -> 404",
        "A request without a route is answered 404, before filters that judge with the route, such as rbac",
        "There is nothing that it could reach.",
    ),
    Explained(
        r".* :: response connection: close -> \(absent\)",
        "A local reply to a request with a body, and a request with `proxy-connection: close`, do not close the connection",
        "The rest of such a body is read, so that the connection can be used again. `proxy-connection` has no meaning.",
    ),
    Explained(
        r"paths /(%65xact|\./exact|sep/\.\./exact) :: ",
        "Paths are always normalized before routes and access rules see them, also without `normalize_path`",
        "`/sep/../exact` and `/%65xact` are `/exact` for most servers; a rule that sees another path can be bypassed.",
    ),
    Explained(
        r"(normal|unescaped) .* :: (status: \d+ -> 400|hosts: \['a'\] -> \[\]|response .*)",
        "Paths that climb above the root, with a backslash, or with an invalid percent-encoding are answered 400",
        "Envoy repairs or forwards them; servers differ in how they read them.",
    ),
    Explained(
        r"redirected .* :: ",
        "`UNESCAPE_AND_REDIRECT` routes the request by the unescaped path, without a redirect; there is a warning",
        "Rules see the same path as with the redirect, and the client needs one request less.",
    ),
    Explained(
        r"(hops|inner) .* :: upstream x-envoy-attempt-count: 7 -> \(absent\)",
        "`x-envoy-attempt-count` of clients is removed, also where the table does not set it",
        "It would be taken for the proxy's.",
    ),
    Explained(
        r"(attempts|inner) .*x-envoy-.* :: upstream x-envoy-",
        "With `use_remote_address: false` the `x-envoy-*` headers of clients are forwarded, and have no effect",
        "Every client of such a listener is trusted. Envoy removes them, unless `x-forwarded-for` is an internal address.",
    ),
    Explained(
        r"cors .* :: response vary: \(absent\) -> Origin",
        "Responses of routes with a CORS policy have `vary: Origin`",
        "The Fetch standard: a cache must not give the response to another origin.",
    ),
    Explained(
        r"cors OPTIONS .* :: (status: 200 -> 204|response (access-control-expose-headers: x-c|x-route: \(absent\)) -> )",
        "A preflight request is answered 204, without `access-control-expose-headers`, and with the headers of the route",
        "It has no content, and that header has no meaning for it.",
    ),
    Explained(
        r"faults .* :: response content-type: text/plain -> \(absent\)",
        "An injected failure has no body",
        "The status is what the policy asks for.",
    ),
    Explained(
        r"headers /agent .* :: upstream user-agent: ",
        "Repeated fields are forwarded unchanged, also those of names such as `user-agent` and `accept`",
        "RFC 9110 section 5.3: both forms are equivalent. Envoy joins the fields of some names.",
    ),
    Explained(
        r"attempts /headers .* :: ",
        "`retriable_headers` has no effect; there is a warning",
        "Not implemented: the response is passed on.",
    ),
    Explained(
        r"attempts /none \| x-answers: reset,200 :: ",
        "An idempotent request is repeated once if a connection that has been used before ends before the response",
        "RFC 9110 section 9.2.2: the upstream has closed an idle connection at the moment at which the request was sent.",
    ),
    Explained(
        r"choice /plain .* :: ",
        "An upgrade that the listener does not allow is forwarded as an ordinary request, without `upgrade`",
        "RFC 9110 section 7.8: a server may ignore it. Envoy answers 403.",
    ),
    Explained(
        r"choice .*/mirror.* :: upstream x-forwarded-for: ",
        "Copies of requests have no `x-forwarded-for` of their own",
        "The copy has what the original has.",
    ),
    Explained(
        r"rewrites /by-path/ :: upstream host: ",
        "`host_rewrite_path_regex` that does not match leaves the host unchanged",
        "Envoy makes the path the host, which is not a valid one.",
    ),
    Explained(
        r"specific /first .* :: (response|upstream) x-levels?: ",
        "With `most_specific_header_mutations_wins`, the changes of a weighted cluster are applied last",
        "It is the most specific level. Envoy applies them first, so that the virtual host wins.",
    ),
    Explained(
        r"changes .*/values.* :: upstream x-route-name: ",
        "`%ROUTE_NAME%` is `TABLE/VIRTUAL_HOST/INDEX`",
        "It names the route in all tables, also one without a name.",
    ),
    Explained(
        r"(edge|hops|inner) .* :: upstream x-forwarded-for: ",
        "`x-forwarded-for` has the address of the client, also on the loopback interface; with `xff_num_trusted_hops` what "
        "is left of the trusted proxies is removed",
        "Envoy writes an address of the machine for clients on the loopback interface. The rest is a claim of the client.",
    ),
    Explained(
        r"(edge|hops|inner) .*x-forwarded-host: forged.test :: upstream x-forwarded-host: ",
        "`x-forwarded-host` of clients is removed where they are not trusted",
        "As every other claim about the client; see SECURITY.md.",
    ),
    Explained(
        r"hops / \| x-forwarded-proto: (https|ftp) :: upstream x-forwarded-proto: ",
        "With `xff_num_trusted_hops`, a request without `x-forwarded-for` has not come through the trusted proxies",
        "Its claims are not believed. Envoy believes `x-forwarded-proto` all the same.",
    ),
    Explained(
        r"(edge|inner) / \| x-forwarded-proto: ftp :: upstream x-forwarded-proto: ",
        "An `x-forwarded-proto` that is neither `http` nor `https` is replaced",
        "Upstreams build URLs with it.",
    ),
    Explained(
        r"(edge|hops|inner) .* :: (upstream|response) via: ",
        "`via` is not added; there is a warning",
        "Not implemented.",
    ),
    Explained(
        r"hops .* :: response x-request-id: ",
        "`always_set_request_id_in_response` has no effect; there is a warning",
        "Not implemented.",
    ),
    Explained(
        r"(edge|hops|inner) .*te: trailers.* :: upstream connection: \(absent\) -> te",
        "`te: trailers` is forwarded with `connection: te`",
        "RFC 9110 section 10.1.4: `te` is a field of the connection, and has to be listed.",
    ),
    Explained(
        r"(edge|hops|inner) .*x-answer-header: connection=x-hop.* :: response x-hop: 1 -> \(absent\)",
        "Response headers that `connection` lists are removed",
        "RFC 9110 section 7.6.1. Envoy forwards them.",
    ),
]

_HEAD = """# Differences from Envoy

With the same resources of a control plane, pymosn and Envoy 1.40 are sent the same {count} requests
(`interop/xds_all.py`). Status, headers of the response, chosen hosts, and all that the upstreams receive are the same, apart
from what is listed here. `make interop` compares them, and fails for any other difference and
for a row that is no longer true.

| pymosn | why |
|---|---|
"""
_REFUSED = """
Rejected with the path of the field, although Envoy accepts them, because they cannot be done, and ignoring them would change
what the resource means (`interop/xds_refused.py`):

"""


def page(count: int, refused: list[str]) -> str:
    """The page. `count`: of the requests. `refused`: the ends of the paths of what is rejected."""
    rows = "".join(f"| {one.what} | {one.why} |\n" for one in EXPLAINED)
    return _HEAD.format(count=count) + rows + _REFUSED + "".join(f"- `{path}`\n" for path in refused)


def explanation(group: str, request: str, difference: str) -> Explained | None:
    """Why it is intended; None if it is not."""
    text = f"{group} {request} :: {difference}"
    return next((one for one in EXPLAINED if re.match(one.pattern, text)), None)


def main() -> None:
    """Writes the page."""
    from interop.xds_all import GROUPS, count
    from interop.xds_refused import REFUSED

    assert GROUPS
    PAGE.write_text(page(count(), [one.path for one in REFUSED]))


if __name__ == "__main__":
    main()
