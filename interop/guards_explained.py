"""Requests that only one of the two proxies lets pass: patterns of them, and why that is intended."""

from __future__ import annotations

from typing import Final

_NORMAL: Final = "paths are always normalized; rules and upstreams see the same path, whatever the client has written"
_CASE: Final = "names of hosts are the same in upper and lower case, and with port or trailing dot"
_MAPPED: Final = "an IPv4 address within IPv6 is the IPv4 address"
_PORT: Final = "some balancers append the port of their peer; the entry is its address"
_LIST: Final = "empty elements of a list mean nothing (RFC 9110 section 5.6.1)"

#: What Envoy lets pass.
STRICTER: Final[dict[str, str]] = {
    r"guard-(paths|normal|allow|allow-normal|order|jwt|jwt-cors): .*GET guards.test /\S*(%|\./)\S*(: | \|)": _NORMAL,
    r"guard-(paths|allow|allow-normal): .*GET guards.test /\S*\\\S*: ": "a backslash is not valid in a path",
    r"guard-(overrides|host-override|table-override): .* /off(%2f|/)\.\.(%2f|/)x: ": _NORMAL,
    r"guard-authz.*: .* /off/\.\./x ": _NORMAL,
    r"guard-authority: .* -> 403": _CASE,
    r"guard-authority.*: .* -> (400|0) ": "an authority that is not valid, or not the same in all fields",
    r"guard-headers-allow: ": "a repeated field allows only if each of its values, and all of them together, do",
    r"guard-headers: .*x-(not|role): \w+(,| \| x-not: )": "a rule denies if it does for one value of a list",
    r"guard-headers: .*cookie: a=1 \| cookie: b=2": "the fields are one cookie (RFC 9113 section 8.2.3)",
    r"guard-headers: h2 .*x-role: ( guest |guest\t): .* -> 0": "spaces around values are not valid (RFC 9113 section 8.2.1)",
    r"guard-jwt: .*/maybe \| authorization: Bearer : ": "an empty token is not valid; it is not missing",
    r"guard-jwt.*: .*authorization: Basic x \| authorization: ": "several fields of this name are not valid",
    r"guard-authz-open: .*x-answers: 204: ": "an answer other than 200 denies; it is no failure of the service",
    r"guard-remote-.*: .*10\.0\.0\.1,: ": _LIST,
    r"guard-remote-.*: .*10\.0\.0\.1:80: ": _PORT,
    r"guard-.*: .*::ffff:": _MAPPED,
    r"guard-tunnel-(path-)?deny: CONNECT .*": "a rule that denies all paths denies what has none",
}
#: What Envoy denies.
HARMLESS: Final[dict[str, str]] = {
    r"guard-(allow|order|paths|authz.*): .*/\.\.?/": _NORMAL,
    r"guard-(paths|normal): .*http://guards.test\?x: 404 ": "an empty path is `/` (RFC 9110 section 4.2.3)",
    r"guard-authority-(allow|not): .*GOOD.test": _CASE,
    r"guard-(headers|tunnel-.*): .*upgrade: [wW]eb[sS]ocket": "not allowed: forwarded without it, after all rules",
    r"guard-headers: FOO ": "methods that are not registered are valid (RFC 9110 section 9.1), and seen by all rules",
    r"guard-jwt.*: .*authorization: bearer ": "schemes are the same in upper and lower case; the token is verified",
    r"guard-remote-.*: .*10\.0\.0\.1,: ": _LIST,
    r"guard-remote-.*: .*10\.0\.0\.1:80: ": _PORT,
    r"guard-.*: .*::ffff:": _MAPPED,
}
