"""Random paths, rewrites and listeners: what is sent is in normal form, below the replacement, and has no dot segment."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import SHARE

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import NO_CONNECTION
from pymosn.core.failure import BAD_REWRITE
from pymosn.core.headers import HeaderError
from pymosn.core.message import NoBodySource, RefusedPath
from pymosn.core.uri import DECODE_SLASHES, KEEP_SLASHES, REFUSE_SLASHES, PathPolicy, normalize_path
from pymosn.routing.rewrites import ORIGINAL_PATH, PathRewrite, PrefixRewrite, RegexRewrite, RequestChanges, rewrite_path

#: Pieces of which dot segments can arise, and what separates them.
PIECES = st.sampled_from(
    [
        "/",
        "/",
        ".",
        "..",
        "a",
        "x",
        ";",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "%25",
        "2e",
        "%",
        "%252e",
        "%3b",
        "//",
        "~",
        "%7e",
        "%41",
    ]
)
PATHS = st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces))
POLICIES = st.builds(
    PathPolicy,
    st.booleans(),
    st.booleans(),
    st.sampled_from([int(KEEP_SLASHES), int(DECODE_SLASHES), int(REFUSE_SLASHES)]),
)
PATTERNS = st.sampled_from(["x", "25", "%25", "/", "^/([^/]*)/", "[a;]", "a|x", "(.)x(.)", "$", "^", "^.*$", "%2F", "x+"])
SUBSTITUTIONS = st.sampled_from(["", "/", ".", "${1}", "/${1}", "${2}${1}", "%", "%2e", ";", "..", "\\", "?", "/s/", "a"])
REPLACEMENTS = st.one_of(
    SUBSTITUTIONS.filter(lambda text: "$" not in text), st.sampled_from(["/site", "/site/", "/site/.", "s%"])
)
READINGS = re.compile(rb"/|%2F|%5C")


def is_safe(path: bytes, before: bytes, policy: PathPolicy) -> bool:
    """Whether a path that was made of `before` is normal, and no server can find a dot segment in it that was not there."""
    segments = path.split(b"/")
    made = set(segments) - set(before.split(b"/"))
    readings = {part.partition(b";")[0] for segment in made for part in READINGS.split(segment)}
    return normalize_path(path, policy) == path and not {b".", b".."} & {*segments, *readings}


def exchange_of(path: bytes, policy: PathPolicy) -> Exchange:
    exchange = Exchange(NO_CONNECTION)
    exchange.request = HttpRequest()
    exchange.request.raw_path = path
    exchange.request.body_source = NoBodySource(policy)
    return exchange


@given(PATHS, st.integers(1, 12), REPLACEMENTS, PATTERNS, SUBSTITUTIONS, st.booleans(), POLICIES)
@settings(max_examples=2000 // SHARE, deadline=None)
def test_rewrites(
    received: str, cut: int, replacement: str, pattern: str, substitution: str, is_prefix: bool, policy: PathPolicy
) -> None:
    before = normalize_path(received.encode(), policy)
    if before is None:
        return
    rewrite: PathRewrite
    if is_prefix:
        rewrite = PrefixRewrite(before[:cut], replacement)
    elif "$2" in substitution.replace("{", "") and pattern != "(.)x(.)":
        return
    else:
        rewrite = RegexRewrite(pattern, substitution if "(" in pattern else substitution.replace("${1}", ""))
    exchange = exchange_of(before, policy)
    failure = rewrite_path(exchange, RequestChanges(path=rewrite), policy)
    sent = exchange.request.raw_path
    if failure is not None:
        assert failure is BAD_REWRITE
        assert (sent, exchange.original_path) == (before, b"")
        return
    assert is_safe(sent, before, policy), (before, sent)
    assert exchange.original_path == (b"" if sent == before else before)
    if is_prefix and before.startswith(before[:cut]) and replacement.startswith("/") and replacement.endswith("/"):
        assert sent.startswith(replacement.encode()), "it stays below the replacement"
    assert not exchange.request.headers.has_raw(ORIGINAL_PATH), "that is added when the request is sent"


@given(PATHS, PATHS | st.text(max_size=8), POLICIES)
@settings(max_examples=2000 // SHARE, deadline=None)
def test_paths_that_filters_set(received: str, value: str, policy: PathPolicy) -> None:
    before = normalize_path(received.encode(), policy)
    if before is None:
        return
    head = exchange_of(before, policy).request
    try:
        head.path = value
    except (HeaderError, RefusedPath):
        assert head.raw_path == before
        return
    assert is_safe(head.raw_path, before, policy), (before, head.raw_path)
    once = head.raw_path
    head.path = head.path
    assert head.raw_path == once
