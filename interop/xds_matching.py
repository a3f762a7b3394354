"""The groups about matching: paths, headers, query parameters, and the choice of the virtual host."""

from __future__ import annotations

from interop.xds_groups import Json, direct, group, route, text, virtual_host, with_header, with_query

_OTHER = route("other", "/", direct(404, "no other route"))


def _fraction(numerator: int) -> Json:
    return {"default_value": {"numerator": numerator, "denominator": "MILLION"}}


PATHS = group(
    "paths",
    [
        virtual_host(
            "paths",
            [
                route("exact", {"path": "/exact"}),
                route("exact-ci", {"path": "/Exact/Ci", "case_sensitive": False}),
                route("prefix", "/prefix/"),
                route("prefix-ci", {"prefix": "/PreFix-Ci", "case_sensitive": False}),
                route("separated", {"path_separated_prefix": "/sep/one"}),
                route("separated-ci", {"path_separated_prefix": "/Sep/Ci", "case_sensitive": False}),
                route("regex", {"safe_regex": {"regex": r"/re/[a-z]+\d{2}"}}),
                route("regex-or", {"safe_regex": {"regex": "/one|/one/two"}}),
                route("regex-ci", {"safe_regex": {"regex": "(?i)/rEi/.*"}}),
                route("never", {"prefix": "/fraction", "runtime_fraction": _fraction(0)}),
                route("always", {"prefix": "/fraction", "runtime_fraction": _fraction(1_000_000)}),
                route("grpc", {"prefix": "/grpc", "grpc": {}}),
                route("not-grpc", "/grpc"),
                _OTHER,
            ],
        )
    ],
    """
    /exact
    /exact?a=b
    /exact/
    /Exact
    /exact;a=b
    /%65xact
    /EXACT/CI
    /exact/ci?q
    /exact/ci/more
    /prefix/
    /prefix/some/where?x=y
    /prefix
    /Prefix/
    /prefix-cI
    /PREFIX-CI/more
    /sep/one
    /sep/one?q=1
    /sep/one/
    /sep/one/two
    /sep/onetwo
    /Sep/one
    /sEp/cI/x
    /sEp/cIx
    /re/abc12
    /re/abc12?z=1
    /re/abc123
    /re/ABC12
    /x/re/abc12
    /one
    /one/two
    /one/twox
    /REI/x
    /fraction
    POST /grpc/S/m | content-type: application/grpc
    POST /grpc/S/m | content-type: application/grpc+proto
    POST /grpc/S/m | content-type: application/grpc-web
    POST /grpc/S/m | content-type: application/json
    /
    /nowhere
    //exact
    /./exact
    /sep/../exact
    """,
)


def _headers() -> list[Json]:
    exact = text("exact", "one")
    routes = [
        route("exact", with_header("x-a", exact, "/exact")),
        route("exact-ci", with_header("x-a", text("exact", "OnE", True), "/exact-ci")),
        route("prefix", with_header("x-a", text("prefix", "pre"), "/prefix")),
        route("prefix-ci", with_header("x-a", text("prefix", "PRE", True), "/prefix-ci")),
        route("suffix", with_header("x-a", text("suffix", "end"), "/suffix")),
        route("contains", with_header("x-a", text("contains", "mid"), "/contains")),
        route("contains-ci", with_header("x-a", text("contains", "MID", True), "/contains-ci")),
        route("regex", with_header("x-a", text("regex", "[a-c]+"), "/regex")),
        route("not", with_header("x-a", exact, "/not", invert_match=True)),
        route("present", with_header("x-a", {"present_match": True}, "/present")),
        route("absent", with_header("x-a", {"present_match": False}, "/absent")),
        route("not-present", with_header("x-a", {"present_match": True}, "/not-present", invert_match=True)),
        route("any-kind", with_header("x-a", {}, "/any-kind")),
        route("range", with_header("x-a", {"range_match": {"start": -10, "end": 10}}, "/range")),
        route("not-range", with_header("x-a", {"range_match": {"start": 1, "end": 9}}, "/not-range", invert_match=True)),
        route("empty", with_header("x-a", text("regex", "^$"), "/empty", treat_missing_header_as_empty=True)),
        route("not-empty", with_header("x-a", exact, "/not-empty", invert_match=True, treat_missing_header_as_empty=True)),
        route("old-exact", with_header("x-a", {"exact_match": "one"}, "/old-exact")),
        route("old-prefix", with_header("x-a", {"prefix_match": "pre"}, "/old-prefix")),
        route("old-suffix", with_header("x-a", {"suffix_match": "end"}, "/old-suffix")),
        route("old-contains", with_header("x-a", {"contains_match": "mid"}, "/old-contains")),
        route("old-regex", with_header("x-a", {"safe_regex_match": {"regex": "[a-c]+"}}, "/old-regex")),
        route("method", with_header(":method", text("regex", "PUT|PATCH"), "/method")),
        route("authority", with_header(":authority", text("prefix", "headers.test"), "/authority")),
        route("scheme", with_header(":scheme", text("exact", "https"), "/scheme")),
        route("path", with_header(":path", text("exact", "/path?x=1"), "/path")),
        route("host", with_header("host", text("exact", "headers.test"), "/host")),
    ]
    both = {"path": "/both", "headers": [{"name": n, "string_match": exact} for n in ("x-a", "x-b")]}
    repeated = [
        route("each", with_header("x-a", text("regex", "[ab]"), "/each")),
        route("none", with_header("x-a", exact, "/none", invert_match=True)),
        route("all", with_header("x-a", text("exact", "one,two"), "/all")),
        route("agent", with_header("user-agent", text("exact", "one,two"), "/agent")),
        route("cookies", with_header("cookie", text("exact", "b=2"), "/cookies")),
        route("accepts", with_header("accept", exact, "/accepts")),
    ]
    return [*routes, *repeated, route("both", both), _OTHER]


HEADERS = group(
    "headers",
    [virtual_host("headers", _headers())],
    """
    /exact | x-a: one
    /exact | X-A: one
    /exact | x-a: One
    /exact
    /exact | x-a: one | x-a: two
    /exact | x-a: one | x-a: one
    /each | x-a: c | x-a: b
    /each | x-a: c | x-a: d
    /none | x-a: two | x-a: one
    /none | x-a: two | x-a: three
    /all | x-a: one | x-a: two
    /all | x-a: one,two
    /agent | user-agent: one | user-agent: two
    /cookies | cookie: a=1 | cookie: b=2
    /accepts | accept: one | accept: two
    /range | x-a: x | x-a: 2
    /empty | x-a: x | x-a:
    /exact-ci | x-a: ONE
    /prefix | x-a: prefix
    /prefix | x-a: Prefix
    /prefix | x-a: apre
    /prefix-ci | x-a: prefix
    /suffix | x-a: the end
    /suffix | x-a: endless
    /suffix | x-a: one | x-a: end
    /contains | x-a: amidst
    /contains | x-a: Mid
    /contains-ci | x-a: aMidst
    /regex | x-a: abc
    /regex | x-a: abcd
    /regex | x-a: a | x-a: b
    /not | x-a: one
    /not | x-a: two
    /not
    /present | x-a: x
    /present | x-a:
    /present
    /absent | x-a: x
    /absent
    /not-present | x-a: x
    /not-present
    /any-kind | x-a: x
    /any-kind
    /range | x-a: -10
    /range | x-a: 9
    /range | x-a: 10
    /range | x-a: +5
    /range | x-a: 5x
    /range | x-a: 5.0
    /range | x-a: 1 | x-a: 2
    /range
    /not-range | x-a: 5
    /not-range | x-a: 9
    /not-range | x-a: no number
    /not-range
    /empty
    /empty | x-a:
    /empty | x-a: x
    /not-empty
    /not-empty | x-a: one
    /old-exact | x-a: one
    /old-exact | x-a: two
    /old-prefix | x-a: prefix
    /old-suffix | x-a: the end
    /old-contains | x-a: amidst
    /old-regex | x-a: abc
    /old-regex | x-a: xyz
    PUT /method
    PATCH /method
    DELETE /method
    /authority
    /scheme
    /path?x=1
    /path?x=2
    /host
    /both | x-a: one | x-b: one
    /both | x-a: one
    """,
)

_Q_IS_1 = {"name": "q", "string_match": {"exact": "1"}}

QUERY = group(
    "query",
    [
        virtual_host(
            "query",
            [
                route("exact", with_query("q", text("exact", "one"), "/exact")),
                route("exact-ci", with_query("q", text("exact", "One", True), "/exact-ci")),
                route("prefix", with_query("q", text("prefix", "pre"), "/prefix")),
                route("suffix", with_query("q", text("suffix", "end"), "/suffix")),
                route("contains", with_query("q", text("contains", "mid"), "/contains")),
                route("regex", with_query("q", text("regex", "[0-9]+"), "/regex")),
                route("present", with_query("q", {"present_match": True}, "/present")),
                route("absent", with_query("q", {"present_match": False}, "/absent")),
                route("empty", with_query("q", text("regex", "^$"), "/empty")),
                route("two", {"path": "/two", "query_parameters": [_Q_IS_1, {"name": "r", "present_match": True}]}),
                _OTHER,
            ],
        )
    ],
    """
    /exact?q=one
    /exact?q=One
    /exact?q=two
    /exact
    /exact?
    /exact?Q=one
    /exact?a=b&q=one
    /exact?q=one&q=two
    /exact?q=two&q=one
    /exact?q=%6fne
    /exact?q=one%20
    /exact?%71=one
    /exact?q=one;r=2
    /exact-ci?q=oNE
    /prefix?q=prefix
    /prefix?q=apre
    /suffix?q=theend
    /suffix?q=the+end
    /contains?q=a%20mid
    /regex?q=42
    /regex?q=42x
    /present?q
    /present?q=
    /present?r=1
    /absent?r=1
    /absent?q=1
    /absent
    /empty?q=
    /empty?q
    /empty
    /two?q=1&r
    /two?r=2&q=1
    /two?q=1
    """,
)

DOMAINS = group(
    "domains",
    [
        virtual_host("exact", [route("exact", "/")], ["exact.wild.test", "UPPER.test"]),
        virtual_host("suffix", [route("suffix", "/")], ["*.wild.test"]),
        virtual_host("longer", [route("longer", "/")], ["*.deep.wild.test", "*-dash.test"]),
        virtual_host("prefix", [route("prefix", "/")], ["pre.*"]),
        virtual_host("port", [route("port", "/")], ["port.test:8080", "other-port.test"]),
        virtual_host("all", [route("all", {"path": "/all"})], ["*"]),
    ],
    """
    exact.wild.test /
    EXACT.wild.test /
    upper.test /
    some.wild.test /
    some.WILD.test /
    .wild.test /
    wild.test /all
    a.deep.wild.test /
    a.b.deep.wild.test /
    x-dash.test /
    -dash.test /all
    pre.test /
    pre.a.b /
    pre. /all
    pre /all
    port.test:8080 /
    port.test /all
    port.test:80 /all
    other-port.test /
    other-port.test:80 /all
    unknown.test /all
    unknown.test /
    127.0.0.1 /all
    [::1] /all
    """,
)

PORTS = group(
    "ports",
    [
        virtual_host("bare", [route("bare", "/")], ["bare.test"]),
        virtual_host("wild", [route("wild", "/")], ["*.wild.test"]),
    ],
    """
    bare.test /
    bare.test:80 /
    bare.test:8080 /
    x.wild.test:99 /
    unknown.test:80 /
    """,
    table={"ignore_port_in_host_matching": True},
    is_inline=True,
)
