"""Rules about paths, authorities and headers."""

from __future__ import annotations

from typing import Final

from interop.guards_kit import (
    Guarded,
    ask,
    chain,
    field,
    guarded,
    path,
    rbac,
    with_headers,
)
from interop.xds_groups import Json

_DENIED_PATHS: Final = rbac(
    "DENY",
    path("exact", "/admin"),
    path("prefix", "/deny/"),
    path("suffix", ".secret"),
    path("regex", "/re/[0-9]+"),
    path("prefix", "/case", ignore_case=True),
    path("contains", "%2f"),
    path("contains", ";x="),
    field(":path", "prefix", "/query?x="),
    field(":path", "exact", "/mark?"),
    field(":path", "regex", r".*//.*"),
)
_PATHS: Final = (
    *("/admin", "/admin/", "/admin?x", "/admin;x=1", "/admin;", "/Admin", "/ADMIN", "/%61dmin", "/%41dmin", "/admin%20"),
    *("/admin%00", "/admin#x", "/admin%23", "/admin.", "/./admin", "/x/../admin", "//admin", "/x//../admin", "/admin//"),
    *("/deny/x", "/deny", "/deny/../y", "/y/../deny/x", "/deny%2Fx", "/deny%2fx", "/deny%5Cx", "/deny\\x", "/deny;/x"),
    *("/a.secret", "/a.secret/", "/a.secret?x", "/a.secret;v", "/a.SECRET", "/a.secre%74", "/a?.secret", "/a.secret#f"),
    *("/re/12", "/re/12/", "/re/1a", "/re/12?x", "/re/%31", "/CaSe/x", "/case", "/%43ase", "/c%61se", "/x%2fy", "/x%2Fy"),
    *("/query?x=1", "/query?X=1", "/query?", "/query??x=", "/mark?", "/mark", "/a//b", "/a/%2f/b", "/a/.//b", "/;x=2"),
    *("http://guards.test/admin", "http://guards.test/deny/x", "http://other.test:80/admin", "http://guards.test//admin"),
    *("/%2e%2e/admin", "/%2e/admin", "/x/%2e%2e/admin", "/%c0%ae/admin", "/%u0061dmin", "/\u00e1dmin", "/%zz", "/."),
    *("http://guards.test", "http://guards.test?x", "HTTP://guards.test/admin", "https://guards.test/admin"),
)
_NORMAL: Final[Json] = {
    "normalize_path": True,
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
}
_H2_PATHS: Final = [ask(one, is_h2=True) for one in _PATHS if one.startswith("/") and one.isascii()]

_ALLOWED_PATHS: Final = rbac(
    "ALLOW",
    path("exact", "/ok"),
    path("prefix", "/ok/"),
    path("regex", "/n/[0-9]+"),
    field(":path", "exact", "/hp?x=1"),
    {"and_rules": {"rules": [path("prefix", "/api"), {"not_rule": path("prefix", "/api/private")}]}},
    {"not_rule": {"or_rules": {"rules": [path("prefix", "/"), path("exact", "*")]}}},
)
_ALLOWED: Final = (
    *("/ok", "/ok?x", "/ok/x", "/okx", "/ok/../admin", "/ok/%2e%2e/admin", "/ok%2F..%2Fadmin", "/ok/..%2fadmin", "/OK"),
    *("/ok;x", "/ok/;x", "//ok", "/./ok", "/n/1", "/n/1/", "/n/1?x", "/n/a", "/hp?x=1", "/hp?x=1#f", "/hp?x=2", "/hp"),
    *("/api/x", "/api/private", "/api/./private", "/api//private", "/api/%70rivate", "/api/PRIVATE", "/api/x/../private"),
    *("/api;/private", "/api/private;x", "http://guards.test/ok", "http://guards.test/api/private", "/api%2fprivate"),
    *("/", "/ok/\\..\\admin", "/ok/%5c..%5cadmin", "/api/private/../x"),
)

GUARDS: list[Guarded] = [
    guarded("paths", chain(_DENIED_PATHS), [*(ask(one) for one in _PATHS), *_H2_PATHS]),
    guarded("normal", {**chain(_DENIED_PATHS), **_NORMAL}, [*(ask(one) for one in _PATHS), *_H2_PATHS]),
    guarded("allow", chain(_ALLOWED_PATHS), [*(ask(one) for one in _ALLOWED), ask("*", "OPTIONS")]),
    guarded("allow-normal", {**chain(_ALLOWED_PATHS), **_NORMAL}, [ask(one) for one in _ALLOWED]),
]

# ---- :authority

_HOSTS: Final = (
    *("admin.test", "ADMIN.test", "admin.test:80", "admin.test:", "admin.test.", "admin.test.:80", "user@admin.test"),
    *(
        "admin.test:443",
        "x.internal",
        "x.INTERNAL:8080",
        "x.internal.",
        "good.test",
        "good.test:80",
        "good.test.",
        "GOOD.test",
    ),
    *("", "admin.test good.test", "admin.test,good.test", "[::1]", "127.0.0.1", "good.test:80:80", "good.test/admin.test"),
    *("admin%2etest", "admin.test#", "good.test\\@admin.test"),
)
_BY_HOST: Final = [
    *(ask("/", host=one) for one in _HOSTS),
    *(ask(f"http://{one}/", host="good.test") for one in ("admin.test", "x.internal:80", "user@admin.test")),
    *(ask(f"http://{one}/", host="admin.test") for one in ("good.test", "good.test:80")),
    with_headers("/", [("host", "admin.test")], host="good.test"),
    with_headers("/", [("Host", "good.test")], host="admin.test"),
    with_headers("/", [("host", "good.test")], host="admin.test", is_h2=True),
    with_headers("/", [("host", "admin.test")], host="good.test", is_h2=True),
    *(ask("/", host=one, is_h2=True) for one in _HOSTS if one and " " not in one),
]
_HOST_RULES: Final = (
    field(":authority", "exact", "admin.test"),
    field(":authority", "suffix", ".internal"),
    field("host", "exact", "admin.test:443"),
)
GUARDS += [
    guarded("authority", chain(rbac("DENY", *_HOST_RULES)), _BY_HOST),
    guarded(
        "authority-allow",
        chain(rbac("ALLOW", field(":authority", "exact", "good.test"), field(":authority", "regex", "api[.].*"))),
        _BY_HOST,
    ),
    guarded("authority-not", chain(rbac("DENY", {"not_rule": field(":authority", "prefix", "good.test")})), _BY_HOST),
]

# ---- headers

_HEADER_RULES: Final = (
    field("x-role", "exact", "guest"),
    field("x-any"),
    field("x-re", "regex", "a+"),
    field("x-part", "contains", "bad"),
    {"header": {"name": "x-level", "range_match": {"start": 10, "end": 20}}},
    {"header": {"name": "x-not", "string_match": {"exact": "good"}, "invert_match": True}},
    {"header": {"name": "x-empty", "string_match": {"exact": ""}, "treat_missing_header_as_empty": False}},
    {"header": {"name": "x-folded", "string_match": {"exact": "bad", "ignore_case": True}}},
    field("cookie", "contains", "a=1; b=2"),
    field(":method", "exact", "DELETE"),
    field("te"),
    field("upgrade", "exact", "websocket"),
    field("x-forwarded-proto", "exact", "https"),
)
_HEADERS: Final = (
    *(
        {"x_role": "guest"},
        {"x_role": "Guest"},
        {"x_role": "guest\nadmin"},
        {"x_role": "admin\nguest"},
        {"x_role": " guest "},
    ),
    *(
        {"x_role": "admin,guest"},
        {"x_role": "guest,guest"},
        {"x_any": ""},
        {"x_any": "1"},
        {"x_re": "aa"},
        {"x_re": "aa\naa"},
    ),
    *({"x_re": "ab"}, {"x_part": "xbadx"}, {"x_part": "ba\nd"}, {"x_part": "x\nbad"}, {"x_level": "10"}, {"x_level": "20"}),
    *(
        {"x_level": "010"},
        {"x_level": "+11"},
        {"x_level": " 11"},
        {"x_level": "11.0"},
        {"x_level": "0xb"},
        {"x_level": "11\n5"},
    ),
    *({"x_not": "good"}, {"x_not": "bad"}, {"x_not": "good\nbad"}, {"x_not": ""}, {"x_empty": ""}, {"x_empty": "1"}),
    *({"x_folded": "BAD"}, {"x_folded": "bad\nx"}, {"cookie": "a=1; b=2"}, {"cookie": "a=1\nb=2"}, {"cookie": "a=1;b=2"}),
    *({"x_forwarded_proto": "https"}, {"X_ROLE": "guest"}, {"X_Any": "1"}, {"x_role": "guest\t"}, {"x_level": "1e1"}),
)
_ODD_NAMES: Final = (("x_role", "guest"), ("x-role ", "guest"), ("x_any", "1"), ("x-any\t", "1"), ("X-ROLE", "guest"))
_BY_HEADER: Final = [
    *(ask("/", **fields) for fields in _HEADERS),
    *(ask("/", is_h2=True, **{name.lower(): value for name, value in fields.items()}) for fields in _HEADERS),
    *(with_headers("/", [one]) for one in _ODD_NAMES),
    *(ask("/", method) for method in ("DELETE", "delete", "POST", "PUT", "HEAD", "OPTIONS", "PATCH", "FOO", "TRACE")),
    with_headers("/", [("upgrade", "websocket"), ("connection", "upgrade")]),
    with_headers("/", [("upgrade", "WebSocket"), ("connection", "Upgrade")]),
    with_headers("/", [("x-any", "1"), ("connection", "x-any")]),
    with_headers("/", [("x-role", "guest"), ("connection", "x-role")]),
]
GUARDS += [
    guarded("headers", chain(rbac("DENY", *_HEADER_RULES[:10], *_HEADER_RULES[12:])), _BY_HEADER),
    guarded(
        "headers-allow",
        chain(
            rbac(
                "ALLOW",
                field("x-role", "exact", "admin"),
                field("x-re", "regex", "a+"),
                field("x-part", "prefix", "good"),
                {"header": {"name": "x-level", "range_match": {"start": 1, "end": 6}}},
                {"not_rule": {"or_rules": {"rules": [field("x-folded"), {"not_rule": field("x-token")}]}}},
            )
        ),
        [
            *_BY_HEADER,
            *(ask("/", x_part=value) for value in ("good", "good\nbad", "bad\ngood", "goodbad", ",good")),
            ask("/", x_token="1"),
            ask("/", x_token=""),
            ask("/", x_token="1", x_folded="x"),
            with_headers("/", [("x-token", "1"), ("connection", "x-token")]),
            with_headers("/", [("x-token", "1"), ("x-folded", "1"), ("connection", "x-folded")]),
        ],
    ),
]
