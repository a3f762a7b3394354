"""The heads of requests over HTTP/2: what they become, and what is refused because HTTP/1 could read something else."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple
from tests.kit.h2_frames import literals
from tests.kit.options import http1_policy

from pymosn.api.grpc import GrpcRequest
from pymosn.core.headers import NO_HEADERS, wire_lines
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.core.uri import DECODE_SLASHES
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import DROP_UNDERSCORES, REFUSE_UNDERSCORES, STRICT, HttpPolicy
from pymosn.protocol.http2.request import RequestHeads

Pairs = list[tuple[bytes, bytes]]
LIMITS = HttpLimits(8192, 100, 1000)
TRUSTING = http1_policy(trusts_peer=True)
COMPATIBLE = http1_policy(is_strict=False)


def heads(policy: HttpPolicy = STRICT, connect: bytes = b"", limits: HttpLimits = LIMITS) -> RequestHeads:
    return RequestHeads(limits, policy, connect, 4096)


def fields(**pseudo: bytes | None) -> Pairs:
    """The pseudo-header fields of a GET with some of them changed; None leaves one out."""
    given: dict[str, bytes | None] = {"method": b"GET", "scheme": b"http", "path": b"/", "authority": b"a.example"}
    given.update(pseudo)
    return [(b":" + name.encode(), value) for name, value in given.items() if value is not None]


GET = fields()


def outcome(pairs: Pairs, decoder: RequestHeads | None = None, end: bool = True) -> str:
    """The reason word, with `reset` before it if there is no answer; empty for an acceptable request."""
    decoder = decoder or heads()
    failure = decoder.decode(literals(pairs), end)
    assert (failure is None) == (decoder.detail == "")
    assert decoder.is_malformed == (failure is not None and failure.reason == "malformed")
    return failure.reason if failure else ""


def block(pairs: Pairs, policy: HttpPolicy = STRICT, end: bool = True) -> bytes:
    """The block that an acceptable request gets after its host."""
    decoder = heads(policy)
    assert outcome(pairs, decoder, end) == "", decoder.detail
    lines = wire_lines(decoder.head.headers)
    assert lines.startswith(b"host: a.example\r\n")
    return lines[17:]


# ---- acceptable ones


def test_a_get() -> None:
    decoder = heads()
    decoder.scheme = "https"
    pairs = fields(scheme=b"https", path=b"/a//b/%41?x=%41", authority=b"A.Example:80")
    assert outcome([*pairs, (b"accept", b"*/*")], decoder) == ""
    head = decoder.head
    assert (head.raw_method, head.raw_path, head.raw_query) == (b"GET", b"/a/b/A", b"x=%41")
    assert (head.raw_host, head.scheme, head.content_length) == (b"a.example:80", "https", 0)
    assert wire_lines(head.headers) == b"host: A.Example:80\r\naccept: */*\r\n"
    assert head.accepts_trailers
    assert not head.raw_tunnel
    assert not isinstance(head, GrpcRequest)


@pytest.mark.parametrize("path", [b"/\xc3\xa9", b"/?\xff"])
def test_8_bit_bytes_are_escaped_by_a_tolerant_listener(path: bytes) -> None:
    assert outcome(fields(path=path)) == "malformed"
    decoder = heads(COMPATIBLE)
    for _ in range(2):  # the second time from what is known
        assert outcome(fields(path=path), decoder) == ""
        head = decoder.head
        assert (head.raw_path, head.raw_query) == ((b"/%C3%A9", None) if path.startswith(b"/\xc3") else (b"/", b"%FF"))


@pytest.mark.parametrize(
    ("authority", "host"), [(b"A.example:", b"a.example"), (b"[::1]:", b"[::1]"), (b"A.example:80", b"a.example:80")]
)
def test_an_empty_port_is_dropped(authority: bytes, host: bytes) -> None:
    decoder = heads()
    for pairs in (fields(authority=authority), [*fields(authority=None), (b"host", authority)], fields(authority=authority)):
        assert outcome(pairs, decoder) == ""
        assert decoder.head.raw_host == host
        sent = authority if len(authority) == len(host) else host
        assert wire_lines(decoder.head.headers) == b"host: " + sent + b"\r\n"
    assert outcome([*fields(authority=authority), (b"host", host)], decoder) == ""
    assert outcome([*fields(authority=authority), (b"host", b"b")], decoder) == "malformed"


def test_a_backslash_in_the_query() -> None:
    decoder = heads()
    assert outcome(fields(path=b"/a?\\b"), decoder) == ""
    assert decoder.head.raw_target() == b"/a?\\b"


@pytest.mark.parametrize(("path", "query"), [(b"/?", b""), (b"/", None), (b"/??a", b"?a")])
def test_queries(path: bytes, query: bytes | None) -> None:
    decoder = heads()
    assert outcome(fields(path=path), decoder) == ""
    assert decoder.head.raw_query == query


def test_the_whole_server() -> None:
    decoder = heads()
    assert outcome(fields(method=b"OPTIONS", path=b"*"), decoder) == ""
    assert decoder.head.raw_path == b"*"


def test_host_without_authority() -> None:
    decoder = heads()
    assert outcome([*fields(authority=None), (b"x", b"1"), (b"host", b"B.example")], decoder) == ""
    assert decoder.head.raw_host == b"b.example"
    assert wire_lines(decoder.head.headers) == b"host: B.example\r\nx: 1\r\n"


def test_the_same_host_twice_is_sent_once() -> None:
    assert block([*GET, (b"host", b"A.EXAMPLE"), (b"x", b"1")]) == b"x: 1\r\n"


def test_crumbs_are_joined() -> None:
    pairs = [*GET, (b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    assert block(pairs) == b"x: 1\r\ncookie: a=1; b=2; c=3\r\n"
    assert block(pairs[:6]) == b"x: 1\r\ncookie: a=1\r\n"


def test_what_must_never_be_indexed_keeps_its_mark() -> None:
    decoder = heads()
    pairs = [*GET, NeverIndexedHeaderTuple(b"x-key", b"1"), NeverIndexedHeaderTuple(b"cookie", b"2"), (b"cookie", b"3")]
    assert decoder.decode(Encoder().encode(pairs), True) is None
    assert wire_lines(decoder.head.headers) == b"host: a.example\r\nx-key:1\r\ncookie: 2; 3\r\n"
    assert decoder.head.headers.get("x-key") == "1"


@pytest.mark.parametrize(
    ("method", "given", "end", "length", "lines"),
    [
        (b"GET", None, True, 0, b""),
        (b"POST", None, True, 0, b"content-length: 0\r\n"),
        (b"POST", b"0", True, 0, b"content-length: 0\r\n"),
        (b"POST", None, False, UNKNOWN_LENGTH, b""),
        (b"GET", None, False, UNKNOWN_LENGTH, b""),
        (b"POST", b"7", False, 7, b"content-length: 7\r\n"),
        (b"POST", b"0", False, 0, b"content-length: 0\r\n"),
    ],
)
def test_lengths(method: bytes, given: bytes | None, end: bool, length: int, lines: bytes) -> None:
    decoder = heads()
    pairs = fields(method=method) + ([(b"content-length", given)] if given is not None else [])
    assert outcome(pairs, decoder, end) == ""
    assert decoder.head.content_length == length
    assert wire_lines(decoder.head.headers)[17:] == lines
    assert decoder.head.headers.has_raw(b"content-length") == bool(lines)


def test_facts() -> None:
    decoder = heads()
    names = (b"x-forwarded-for", b"x-request-id", b"x-mosn-try-timeout")
    assert outcome([*GET, *((name, b"1") for name in names), (b"expect", b"100-Continue")], decoder, False) == ""
    head = decoder.head
    assert head.has_forwarded_for
    assert head.has_request_id
    assert head.has_timeout
    assert head.expects_continue
    assert not head.has_forwarded_proto
    assert outcome([*GET], decoder) == ""
    assert not decoder.head.has_forwarded_for
    assert not decoder.head.expects_continue


CLAIMS: Pairs = [
    (b"x-real-ip", b"1"),
    (b"forwarded", b"2"),
    (b"x-envoy-a", b"3"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-client-cert", b"4"),
    (b"x-mosn-a-name-of-more-than-thirty-one-letters", b"5"),
]


def test_claims_of_a_client_are_dropped() -> None:
    assert block([*GET, *CLAIMS, (b"x-real-ipv6", b"1")]) == b"x-real-ipv6: 1\r\n"
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in CLAIMS])
    assert block([*GET, *CLAIMS], TRUSTING) == lines


def test_fields_of_a_hop_are_dropped() -> None:
    names = (b"trailer", b"proxy-authorization", b"http2-settings")
    assert block([*GET, *((name, b"1") for name in names), (b"te", b"trailers"), (b"x", b"1")]) == b"x: 1\r\n"


def test_underscores() -> None:
    pairs = [*GET, (b"x_mine", b"1"), (b"x_forwarded_for", b"2"), (b"transfer_encoding", b"chunked"), (b"x-other", b"3")]
    assert block(pairs) == b"x-other: 3\r\nx_mine: 1\r\n"
    assert block(pairs, http1_policy(underscores=DROP_UNDERSCORES)) == b"x-other: 3\r\n"
    assert outcome(pairs, heads(http1_policy(underscores=REFUSE_UNDERSCORES))) == "bad_request"


def test_paths_by_policy() -> None:
    decoder = heads(http1_policy(slashes=DECODE_SLASHES, merges_slashes=False))
    assert outcome(fields(path=b"/a//b%2fc"), decoder) == ""
    assert decoder.head.raw_path == b"/a//b/c"
    assert outcome(fields(path=b"/../a"), heads(COMPATIBLE)) == ""


def test_the_scheme_http_over_tls_is_accepted_but_not_believed() -> None:
    decoder = heads()
    decoder.scheme = "https"
    for scheme in (b"http", b"https", b"HTTP"):
        assert outcome(fields(scheme=scheme), decoder) == ""
        assert decoder.head.scheme == "https"
    assert outcome(fields(scheme=b"ftp"), decoder) == "bad_target"
    assert outcome(fields(scheme=b"https"), heads()) == "bad_target"


def test_a_scheme_that_a_trusted_peer_may_say() -> None:
    for policy in (TRUSTING, COMPATIBLE):
        decoder = heads(policy)
        assert outcome(fields(scheme=b"https"), decoder) == ""
        assert decoder.head.scheme == "http"
        assert outcome(fields(scheme=b"ftp"), decoder) == "bad_target"


def test_grpc() -> None:
    decoder = heads()
    pairs = fields(method=b"POST", path=b"/pkg.Service/Call")
    assert outcome([*pairs, (b"grpc-timeout", b"2S"), (b"content-type", b"application/grpc+proto")], decoder, False) == ""
    head = decoder.head
    assert isinstance(head, GrpcRequest)
    assert head.service() == "pkg.Service"
    assert head.timeout == 2.0
    assert head.has_timeout
    assert outcome([*pairs, (b"content-type", b"application/grpc-web")], decoder, False) == ""
    assert not isinstance(decoder.head, GrpcRequest)


# ---- tunnels


def test_connect() -> None:
    decoder = heads(connect=CONNECT)
    pairs = fields(method=b"CONNECT", authority=b"A.example:443", scheme=None, path=None)
    assert outcome(pairs, decoder, False) == ""
    head = decoder.head
    assert (head.raw_method, head.raw_tunnel, head.raw_host) == (b"CONNECT", CONNECT, b"a.example:443")
    assert (head.raw_path, head.content_length) == (b"/", 0)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (fields(method=b"CONNECT", authority=b"a:443"), "malformed"),
        (fields(method=b"CONNECT", authority=b"a:443", scheme=None), "malformed"),
        (fields(method=b"CONNECT", authority=b"a:443", path=None), "malformed"),
        (fields(method=b"CONNECT", authority=None, scheme=None, path=None), "malformed"),
        ([*fields(method=b"CONNECT", authority=None, scheme=None, path=None), (b"host", b"a:443")], "malformed"),
        (fields(method=b"CONNECT", authority=b"", scheme=None, path=None), "bad_host"),
        (fields(method=b"CONNECT", authority=b"a", scheme=None, path=None), "bad_target"),
        (fields(method=b"CONNECT", authority=b"a:", scheme=None, path=None), "bad_target"),
        (fields(method=b"CONNECT", authority=b"[::1]", scheme=None, path=None), "bad_target"),
        (fields(method=b"CONNECT", authority=b"u@a:443", scheme=None, path=None), "malformed"),
        ([*fields(method=b"CONNECT", authority=b"a:1", scheme=None, path=None), (b"content-length", b"1")], "bad_framing"),
    ],
)
def test_connects_that_are_refused(pairs: Pairs, reason: str) -> None:
    assert outcome(pairs, heads(connect=CONNECT), False) == reason


def test_connect_where_it_is_not_allowed() -> None:
    pairs = fields(method=b"CONNECT", authority=b"a:443", scheme=None, path=None)
    assert outcome(pairs, end=False) == "connect_not_allowed"


def test_extended_connect() -> None:
    decoder = heads()
    pairs = fields(method=b"CONNECT", path=b"/chat?a", protocol=b"WebSocket")
    assert outcome([*pairs, (b"sec-websocket-version", b"13")], decoder, False) == ""
    head = decoder.head
    assert (head.raw_method, head.raw_tunnel, head.raw_host) == (b"GET", b"websocket", b"a.example")
    assert (head.raw_path, head.raw_query, head.content_length) == (b"/chat", b"a", 0)
    assert outcome(GET, decoder) == ""
    assert decoder.head.raw_tunnel == b""


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (fields(protocol=b"websocket"), "malformed"),
        (fields(method=b"CONNECT", protocol=b""), "malformed"),
        (fields(method=b"CONNECT", protocol=b"web socket"), "malformed"),
        (fields(method=b"CONNECT", protocol=b"a, b"), "malformed"),
        (fields(method=b"CONNECT", protocol=b"websocket", path=None), "malformed"),
        (fields(method=b"CONNECT", protocol=b"websocket", path=b"*"), "malformed"),
        (fields(method=b"CONNECT", protocol=b"websocket", scheme=None), "malformed"),
        (fields(method=b"CONNECT", protocol=b"websocket", authority=None), "malformed"),
        ([*fields(method=b"CONNECT", protocol=b"websocket"), (b":protocol", b"websocket")], "malformed"),
        ([*fields(method=b"CONNECT", protocol=b"websocket"), (b"content-length", b"1")], "bad_framing"),
        ([*fields(method=b"CONNECT", protocol=b"websocket"), (b"expect", b"100-continue")], "bad_expectation"),
    ],
)
def test_extended_connects_that_are_refused(pairs: Pairs, reason: str) -> None:
    assert outcome(pairs, heads(connect=CONNECT), False) == reason


# ---- refused ones

BYTES_OF_NO_VALUE = (b"\r", b"\n", b"\x00", b"\x01", b"\x1f", b"\x7f", b"\x0b")
MALFORMED: list[tuple[str, Pairs]] = [
    *((f"no {name}", fields(**{name: None})) for name in ("method", "scheme", "path")),
    *((f"{name} twice", [*GET[:k], GET[k], *GET[k:]]) for k, name in enumerate(("method", "scheme", "path", "authority"))),
    *((f"late {GET[k][0]!r}", [*GET[:k], *GET[k + 1 :], (b"x", b"1"), GET[k]]) for k in range(4)),
    ("late after a dropped field", [*GET[:3], (b"te", b"trailers"), GET[3]]),
    ("late after a cookie", [*GET[:3], (b"cookie", b"a"), GET[3]]),
    *((f"empty {name}", fields(**{name: b""})) for name in ("method", "scheme", "path")),
    ("unknown pseudo", [*GET, (b":unknown", b"1")]),
    ("status", [*GET, (b":status", b"200")]),
    ("only a colon", [*GET, (b":", b"1")]),
    ("upper case in pseudo", [(b":Method", b"GET"), *GET[1:]]),
    ("relative path", fields(path=b"a")),
    ("absolute URI", fields(path=b"http://a.example/")),
    ("asterisk", fields(path=b"*")),
    ("asterisk with more", fields(method=b"OPTIONS", path=b"*?a")),
    ("path that is a query", fields(path=b"?a")),
    *((f"path {bad!r}", fields(path=b"/a" + bad + b"b")) for bad in (b" ", b"#", b"\\", b"\t", *BYTES_OF_NO_VALUE)),
    *((f"query {bad!r}", fields(path=b"/?a" + bad + b"b")) for bad in (b" ", b"#", b"\xff ", b"\r\n")),
    *(
        (f"method {bad!r}", fields(method=b"GE" + bad + b"T"))
        for bad in (b" ", b":", b"/", b"(", b"\x80", *BYTES_OF_NO_VALUE)
    ),
    ("request line as method", fields(method=b"GET / HTTP/1.1\r\nx: 1\r\n\r\nGET")),
    *(
        (f"authority {bad!r}", fields(authority=b"a" + bad + b"b"))
        for bad in (b" ", b"@", b"#", b"\x80", *BYTES_OF_NO_VALUE)
    ),
    ("user information", fields(authority=b"user:secret@a.example")),
    *((f"scheme {bad!r}", fields(scheme=b"ht" + bad + b"tp")) for bad in BYTES_OF_NO_VALUE),
    *((f"name {bad!r}", [*GET, (b"x" + bad + b"y", b"1")]) for bad in (b" ", b":", b"A", b"\x80", b"(", *BYTES_OF_NO_VALUE)),
    ("empty name", [*GET, (b"", b"1")]),
    ("name with a line", [*GET, (b"x: 1\r\nhost", b"b")]),
    ("leading space in a name", [*GET, (b" x", b"1")]),
    *((f"value {bad!r}", [*GET, (b"x", b"a" + bad + b"b")]) for bad in BYTES_OF_NO_VALUE),
    *((f"around {bad!r}", [*GET, (b"x", bad)]) for bad in (b" a", b"a ", b"\ta", b"a\t", b" ", b"\t")),
    ("value with a request", [*GET, (b"x", b"1\r\n\r\nGET /admin HTTP/1.1\r\nHost: b")]),
    *(
        (name.decode(), [*GET, (name, value)])
        for name, value in (
            (b"connection", b"close"),
            (b"connection", b"x"),
            (b"keep-alive", b"1"),
            (b"proxy-connection", b"keep-alive"),
            (b"transfer-encoding", b"chunked"),
            (b"transfer-encoding", b""),
            (b"upgrade", b"websocket"),
        )
    ),
    *((f"te {value!r}", [*GET, (b"te", value)]) for value in (b"gzip", b"trailers, gzip", b"", b"trailers;q=1")),
    ("te twice", [*GET, (b"te", b"trailers"), (b"te", b"gzip")]),
    ("other host", [*GET, (b"host", b"b.example")]),
    ("host with a port", [*GET, (b"host", b"a.example:80")]),
    ("host with a bad value", [*GET, (b"host", b"a.example\r\n")]),
    *(
        (f"length {value!r}", [*GET, (b"content-length", value)])
        for value in (b"", b"+1", b"-1", b"1,1", b"0x1", b"1 1", b"01", b"00", b"a", b"1" * 19, b"\xb2")
    ),
    ("two lengths", [*GET, (b"content-length", b"0"), (b"content-length", b"0")]),
    ("length without content", [*GET, (b"content-length", b"1")]),
]


@pytest.mark.parametrize("pairs", [pairs for _, pairs in MALFORMED], ids=[name for name, _ in MALFORMED])
def test_malformed_requests(pairs: Pairs) -> None:
    for policy in (STRICT, COMPATIBLE):
        assert outcome(pairs, heads(policy)) == "malformed"


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (fields(method=b"get"), "bad_request"),
        (fields(method=b"G" * 33), "bad_request"),
        (fields(authority=None), "bad_host"),
        (fields(authority=b""), "bad_host"),
        (fields(authority=b"a,b"), "bad_host"),
        (fields(authority=b"a/b"), "bad_host"),
        (fields(authority=b"a:99999"), "bad_host"),
        (fields(authority=b"[::1"), "bad_host"),
        ([*fields(authority=None), (b"host", b"a"), (b"host", b"a")], "bad_host"),
        (fields(path=b"/.."), "bad_target"),
        (fields(path=b"/%"), "bad_target"),
        (fields(path=b"/%00"), "bad_target"),
        (fields(path=b"/..;a/b"), "bad_target"),
        (fields(scheme=b"https"), "bad_target"),
        (fields(scheme=b"ftp"), "bad_target"),
        ([*GET, (b"expect", b"200-ok")], "bad_expectation"),
        ([*GET, (b"x", b"1" * 8192)], "headers_too_large"),
        ([*GET, *[(b"x", b"1")] * 101], "headers_too_large"),
        (fields(path=b"/" + b"a" * 8192), "target_too_long"),
    ],
)
def test_refused_requests(pairs: Pairs, reason: str) -> None:
    assert outcome(pairs) == reason


def test_as_many_fields_as_are_allowed() -> None:
    assert outcome([*GET, *[(b"x", b"1")] * 100]) == ""


def test_content_that_is_too_long() -> None:
    assert outcome([*fields(method=b"POST"), (b"content-length", b"1000")], end=False) == ""
    assert outcome([*fields(method=b"POST"), (b"content-length", b"1001")], end=False) == "body_too_large"
    assert (
        outcome([*fields(method=b"POST"), (b"content-length", b"9" * 18)], heads(limits=HttpLimits(8192, 9, 0)), False) == ""
    )


def test_what_is_understood_of_a_refused_request() -> None:
    decoder = heads()
    assert outcome([*fields(method=b"HEAD", path=b"/a"), (b"x", b"1"), (b"connection", b"close")], decoder) == "malformed"
    assert (decoder.head.raw_method, decoder.head.raw_path, decoder.head.raw_host) == (b"HEAD", b"/a", b"a.example")
    assert decoder.detail == "connection field"
    assert decoder.head.headers is not NO_HEADERS
    assert outcome(GET, decoder) == ""


# ---- the same block again


def test_heads_of_equal_blocks_are_independent() -> None:
    decoder, peer = heads(), Encoder()
    pairs = [*fields(path=b"/a?b", method=b"POST"), (b"x-forwarded-for", b"1"), (b"user-agent", b"u"), (b"cookie", b"c")]
    seen = []
    for _ in range(6):
        assert decoder.decode(peer.encode(pairs), True) is None
        head = decoder.head
        seen.append((wire_lines(head.headers), head.raw_path, head.raw_query, head.raw_host, head.has_forwarded_for))
        head.headers.set("x-added", "1")
        head.headers.remove("user-agent")
        head.raw_path = b"/changed"
        head.has_forwarded_for = False
        head.connection_lines = b"x-forwarded-proto: http\r\n"
    assert len(set(seen)) == 1
    assert decoder.head.headers.get("user-agent") is None
    assert decoder.decode(peer.encode(pairs), False) is None
    assert decoder.head.content_length == UNKNOWN_LENGTH
    assert decoder.head.connection_lines == b"x-forwarded-proto: http\r\n"


def test_an_equal_block_after_a_change_of_the_table_means_something_else() -> None:
    decoder, start = heads(), b"\x82\x86\x84"
    assert decoder.decode(start + b"\x41\x01a", True) is None
    again = start + b"\xbe"
    for _ in range(3):
        assert decoder.decode(again, True) is None
        assert decoder.head.raw_host == b"a"
    assert decoder.decode(start + b"\x41\x01b", True) is None
    for _ in range(3):
        assert decoder.decode(again, True) is None
        assert decoder.head.raw_host == b"b"
    assert decoder.decode(start + b"\x01\x01c", True) is None
    assert decoder.head.raw_host == b"c"
    assert decoder.decode(b"\x20" + start + b"\x01\x01c", True) is None


def test_a_refused_block_stays_refused() -> None:
    decoder = heads()
    for _ in range(4):
        assert outcome([*GET, (b"connection", b"close")], decoder) == "malformed"
        assert outcome(GET, decoder) == ""
        assert outcome(fields(authority=b""), decoder) == "bad_host"
        assert outcome(fields(path=b""), decoder) == "malformed"


# ---- trailers


def test_trailers() -> None:
    decoder, peer = heads(), Encoder()
    pairs = [(b"x-sum", b"1"), (b"content-length", b"5"), (b"authorization", b"a"), (b"x-mosn-a", b"1"), (b"x_host", b"2")]
    for _ in range(4):
        assert decoder.decode_trailers(peer.encode(pairs)) is None
        assert decoder.trailers is not None
        assert wire_lines(decoder.trailers) == b"x-sum: 1\r\nx_host: 2\r\n"
        decoder.trailers.set("x-sum", "2")
    assert decoder.decode_trailers(literals([(b"host", b"b")])) is None
    assert decoder.trailers is None
    assert decoder.decode_trailers(b"") is None
    assert decoder.trailers is None


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(b":path", b"/")], "malformed"),
        ([(b":status", b"200")], "malformed"),
        ([(b":unknown", b"1")], "malformed"),
        ([(b"X", b"1")], "malformed"),
        ([(b"x", b"1\n")], "malformed"),
        ([(b"", b"1")], "malformed"),
        ([(b"connection", b"close")], "malformed"),
        ([(b"transfer-encoding", b"chunked")], "malformed"),
        ([(b"x", b"1" * 8192)], "headers_too_large"),
        ([(b"x", b"1")] * 101, "headers_too_large"),
    ],
)
def test_trailers_that_are_refused(pairs: Pairs, reason: str) -> None:
    decoder = heads()
    for _ in range(3):
        failure = decoder.decode_trailers(literals(pairs))
        assert failure is not None
        assert failure.reason == reason
        assert decoder.detail
        assert decoder.is_malformed == (reason == "malformed")
        assert decoder.trailers is None
        assert decoder.decode_trailers(literals([(b"y", b"1")])) is None
        assert not decoder.is_malformed
