"""Requests: bytes in, messages out."""

from __future__ import annotations

import pytest
from tests.kit.options import http1_policy, http_limits
from tests.unit.protocol.decoding import Message, Outcome, requests

from pymosn.api.http import HttpRequest
from pymosn.core.chars import TOKEN
from pymosn.core.headers import wire_lines
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http1.request import RequestDecoder

HOST = b"Host: a.example\r\n"


def get(
    fields: bytes = HOST, line: bytes = b"GET / HTTP/1.1", body: bytes = b"", limits: HttpLimits | None = None
) -> Outcome:
    return requests([line + b"\r\n" + fields + b"\r\n" + body], limits)


def post(fields: bytes, body: bytes = b"", limits: HttpLimits | None = None) -> Outcome:
    return get(HOST + fields, b"POST / HTTP/1.1", body, limits)


def only(outcome: Outcome) -> Message:
    assert outcome.failure is None, outcome.detail
    assert len(outcome.messages) == 1
    assert outcome.left == 0
    return outcome.messages[0]


def head_of(message: Message) -> HttpRequest:
    assert isinstance(message.head, HttpRequest)
    return message.head


# ---- the request line


@pytest.mark.parametrize("method", [b"GET", b"M-SEARCH", b"PURGE", b"A", b"!#$%&'*+-.^_`|~09", b"X" * 32])
def test_any_token_without_lower_case_is_a_method(method: bytes) -> None:
    assert only(get(line=method + b" /a?b HTTP/1.1")).start[:3] == (method, b"/a", b"b")


@pytest.mark.parametrize("byte", [byte for byte in range(256) if TOKEN[byte] == 0 or 97 <= byte <= 122])
def test_no_other_byte_is_part_of_a_method(byte: int) -> None:
    for method in (b"G%cT", b"%cGET", b"GET%c"):
        if byte == 32 and method != b"%cGET":
            continue
        outcome = get(line=method % byte + b" / HTTP/1.1")
        assert outcome.failure
        assert outcome.failure.status == 400


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"GET / HTTP/2.0", "bad_version"),
        (b"GET / HTTP/0.9", "bad_version"),
        (b"GET / HTTP/1.2", "bad_version"),
        (b"GET / HTTP/1.32", "bad_request"),
        (b"GET / HTTP/01.1", "bad_request"),
        (b"GET / HTTP/1.", "bad_request"),
        (b"GET / HTTP/2", "bad_request"),
        (b"GET / http/1.1", "bad_request"),
        (b"GET / HTTP/1.1 ", "bad_request"),
        (b"GET /  HTTP/1.1", "bad_request"),
        (b"GET  / HTTP/1.1", "bad_target"),
        (b"GET / XTTP/1.1", "bad_request"),
        (b"GET /", "bad_request"),
        (b"GET", "bad_request"),
        (b"GET ", "bad_request"),
        (b" GET / HTTP/1.1", "bad_request"),
        (b"GET\t/ HTTP/1.1", "bad_request"),
        (b"X" * 33 + b" / HTTP/1.1", "bad_request"),
        (b"GET * HTTP/1.1", "bad_target"),
        (b"OPTIONS *?a HTTP/1.1", "bad_target"),
        (b"OPTIONS ** HTTP/1.1", "bad_target"),
        (b"GET a.example:80 HTTP/1.1", "bad_target"),
        (b"GET ?a HTTP/1.1", "bad_target"),
        (b"GET https://a.example/ HTTP/1.1", "bad_target"),
        (b"GET ftp://a.example/ HTTP/1.1", "bad_target"),
        (b"GET http:/a HTTP/1.1", "bad_target"),
        (b"GET http:///a HTTP/1.1", "bad_host"),
        (b"GET http://u@a/ HTTP/1.1", "bad_host"),
        (b"CONNECT a.example:80 HTTP/1.1", "connect_not_allowed"),
        (b"CONNECT / HTTP/1.1", "connect_not_allowed"),
        (b"PRI * HTTP/2.0", "bad_target"),
    ],
)
def test_request_lines_that_are_refused(line: bytes, reason: str) -> None:
    assert get(line=line).reason == reason


def test_asterisk_form() -> None:
    assert only(get(line=b"OPTIONS * HTTP/1.1")).start[:3] == (b"OPTIONS", b"*", None)


def test_an_empty_query_is_kept_apart_from_none() -> None:
    assert only(get(line=b"GET /? HTTP/1.1")).start[2] == b""
    assert only(get(line=b"GET /??a=/../b HTTP/1.1")).start[1:3] == (b"/", b"?a=/../b")


# ---- the host


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"http://B.example:81/x/../y?z", b"/y", b"z", b"b.example:81"),
        (b"HTTP://b", b"/", None, b"b"),
        (b"http://b?q=/", b"/", b"q=/", b"b"),
        (b"http://[::1]:8//a", b"/a", None, b"[::1]:8"),
    ],
)
def test_absolute_form_wins_over_the_host_field(target: bytes, path: bytes, query: bytes | None, host: bytes) -> None:
    message = only(get(b"X: 1\r\nHost: other\r\nY: 2\r\n", b"GET " + target + b" HTTP/1.1"))
    assert message.start[1:4] == (path, query, host)
    assert message.fields == [(b"host", host), (b"x", b"1"), (b"y", b"2")]


def test_absolute_form_still_needs_a_host_field_that_is_one() -> None:
    assert get(b"", b"GET http://b/ HTTP/1.1").reason == "bad_host"
    assert get(b"Host: u@b\r\n", b"GET http://b/ HTTP/1.1").reason == "bad_host"


def test_http_10_may_name_its_host_in_the_target_alone() -> None:
    message = only(get(b"X: 1\r\n", b"GET http://b.example/ HTTP/1.0"))
    assert message.fields == [(b"host", b"b.example"), (b"x", b"1")]


def test_http_10_may_name_no_host() -> None:
    """The proxy then sends the upstream its own address: see the conversations."""
    message = only(get(b"X: 1\r\n", b"GET / HTTP/1.0"))
    assert message.start[3] == b""
    assert message.fields == [(b"x", b"1")]


@pytest.mark.parametrize("fields", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nX: 1\r\nhost: b\r\n", b"Host:\r\n"])
def test_hosts_that_are_refused(fields: bytes) -> None:
    assert get(fields).reason == "bad_host"


# ---- fields


@pytest.mark.parametrize("byte", [byte for byte in range(256) if TOKEN[byte] == 0 and byte != 58])
def test_no_other_byte_is_part_of_a_field_name(byte: int) -> None:
    for name in (b"%cab", b"a%cb", b"ab%c"):
        assert get(HOST + name % byte + b": 1\r\n").reason == "bad_request"


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_no_control_character_is_part_of_a_value(byte: int) -> None:
    for value in (b"%cab", b"a%cb", b"ab%c"):
        assert get(HOST + b"x:" + value % byte + b"\r\n").failure


def test_values_pass_unchanged() -> None:
    odd = bytes(range(33, 127)) + bytes(range(128, 256))
    message = only(get(HOST + b"X: \t" + odd + b"\t \r\nempty:\r\nblank:  \r\nx:again\r\n"))
    assert message.fields[1:] == [(b"x", odd), (b"empty", b""), (b"blank", b""), (b"x", b"again")]


def test_a_message_without_oddities_is_forwarded_unchanged() -> None:
    fields = HOST + b"uSer-AGENT:  x \r\nCookie: a=b;c\r\nContent-Length: 0\r\n"
    assert wire_lines(head_of(only(get(fields))).headers) == fields


@pytest.mark.parametrize(
    "name",
    [b"Keep-Alive", b"Proxy-Connection", b"Trailer", b"Upgrade", b"Proxy-Authorization", b"TE", b"HTTP2-Settings"],
)
def test_fields_of_this_hop_stay_on_it(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        message = only(get(b"A: 1\r\n" + spelling + b": x\r\n" + HOST + spelling + b": y\r\nB: 2\r\n"))
        assert message.fields == [(b"a", b"1"), (b"host", b"a.example"), (b"b", b"2")]


@pytest.mark.parametrize(
    "name", [b"Content_Length", b"Transfer_Encoding", b"x_forwarded-for", b"X-Forwarded_For", b"KEEP_ALIVE"]
)
def test_fields_that_look_like_the_proxys_own_are_dropped(name: bytes) -> None:
    message = only(get(HOST + name + b": 1\r\nA_B: 2\r\n"))
    assert message.fields == [(b"host", b"a.example"), (b"a_b", b"2")]
    assert not head_of(message).has_forwarded_for


@pytest.mark.parametrize(
    ("value", "gone"),
    [
        (b"x-a", [b"x-a"]),
        (b"X-A , close,,\tx-b", [b"x-a", b"x-b"]),
        (b"x-a-b, x", []),
        (b"close, Host, Cookie, Authorization, Content-Length, Expect, X-Forwarded-For, Content-Type", []),
        (b"keep-alive,upgrade", []),
        (b",", []),
        (b"x-a: 1", []),
    ],
)
def test_fields_that_connection_names_stay_on_this_hop(value: bytes, gone: list[bytes]) -> None:
    sent = [b"x-a", b"x-b", b"cookie", b"authorization", b"x-forwarded-for", b"content-type", b"content-length"]
    fields = b"".join(name + b": 0\r\n" for name in sent)
    for block in (HOST + b"Connection: " + value + b"\r\n" + fields, fields + b"connection: " + value + b"\r\n" + HOST):
        names = {name for name, _ in only(get(block)).fields}
        assert names == {b"host", *sent} - set(gone)


def test_connection_fields_are_taken_together() -> None:
    message = only(get(HOST + b"Connection: x-a\r\nX-B: 1\r\nConnection: close, x-b\r\nX-A: 1\r\n"))
    assert message.fields == [(b"host", b"a.example")]
    assert not message.keep_alive


@pytest.mark.parametrize(
    ("minor", "value", "keeps"),
    [
        (1, None, True),
        (0, None, False),
        (1, b"close", False),
        (1, b"CLOSE", False),
        (1, b"close, keep-alive", False),
        (1, b"closed", True),
        (0, b"keep-alive", True),
        (0, b"Keep-Alive", True),
        (0, b"x, keep-alive", True),
        (0, b"keep-alive, close", False),
        (1, b"keep-alive", True),
    ],
)
def test_keep_alive(minor: int, value: bytes | None, keeps: bool) -> None:
    for space in (b"", b" ", b"  "):
        fields = HOST + (b"" if value is None else b"Connection:" + space + value + b"\r\n")
        assert only(get(fields, b"GET / HTTP/1.%d" % minor)).keep_alive is keeps


@pytest.mark.parametrize(
    ("value", "accepts"),
    [(b"trailers", True), (b"gzip;q=0.5, Trailers", True), (b"xtrailers", False), (b"gzip", False), (b"", False)],
)
def test_te(value: bytes, accepts: bool) -> None:
    assert head_of(only(get(HOST + b"TE: " + value + b"\r\n"))).accepts_trailers is accepts


def test_fields_that_the_proxy_would_add_are_noted() -> None:
    wire = HOST + b"X-Forwarded-For: 1\r\nx-forwarded-proto: https\r\nX-REQUEST-ID: 7\r\n"
    head = head_of(only(requests([b"GET / HTTP/1.1\r\n" + wire + b"\r\n"], policy=http1_policy(trusts_peer=True))))
    assert (head.has_forwarded_for, head.has_forwarded_proto, head.has_request_id) == (True, True, True)
    head = head_of(only(get(wire)))
    assert (head.has_forwarded_for, head.has_forwarded_proto, head.has_request_id) == (True, False, True)
    assert head.headers.get("x-forwarded-proto") is None
    head = head_of(only(get()))
    assert (head.has_forwarded_for, head.has_forwarded_proto, head.has_request_id) == (False, False, False)


def test_expect() -> None:
    head = head_of(post(b"Expect: 100-Continue\r\nContent-Length: 1\r\n").messages[0])
    assert head.expects_continue
    assert head.headers.get("expect") == "100-Continue"
    assert post(b"Expect: 200-ok\r\n").reason == "bad_expectation"
    assert post(b"Expect:\r\n").reason == "bad_expectation"
    # RFC 9110 section 10.1.1: a server must ignore it in HTTP/1.0.
    old = head_of(only(get(HOST + b"Expect: 100-continue\r\n", b"GET / HTTP/1.0")))
    assert not old.expects_continue
    assert "expect" not in old.headers


# ---- bodies


@pytest.mark.parametrize("value", [b"5", b"   5"])
def test_content_length(value: bytes) -> None:
    message = only(post(b"Content-Length:" + value + b"\r\n", b"hello"))
    assert (message.body, message.ended, message.start[6]) == (b"hello", True, 5)


@pytest.mark.parametrize("length", [b"9" * 18, b"1" + b"0" * 17])
def test_the_longest_content_length(length: bytes) -> None:
    message = post(b"Content-Length: " + length + b"\r\n", b"hello").messages[0]
    assert (message.body, message.ended, message.start[6]) == (b"hello", False, int(length))


def test_no_body() -> None:
    for fields in (b"", b"Content-Length: 0\r\n"):
        message = only(post(fields))
        assert (message.body, message.ended, message.start[6]) == (b"", True, 0)


def test_chunked() -> None:
    body = b'1\r\na\r\n00A;x;y=z;q="\\"\r\n0123456789\r\n5\r\n0\r\n\r\n\r\n0;e\r\n\r\n'
    body = body.replace(b'\\"', b'\\""')
    message = only(post(b"Transfer-Encoding: chunkED\r\n", body))
    assert message.body == b"a01234567890\r\n\r\n"
    assert message.start[6] == -1
    assert not message.has(b"transfer-encoding")


@pytest.mark.parametrize("size", [b"0", b"000000000000000", b"0;a=b"])
def test_spellings_of_the_last_chunk(size: bytes) -> None:
    assert only(post(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n" + size + b"\r\n\r\n")).body == b"a"


def test_a_chunk_of_the_largest_size_is_waited_for() -> None:
    message = post(b"Transfer-Encoding: chunked\r\n", b"fffffffffffffff\r\nabc").messages[0]
    assert (message.body, message.ended) == (b"abc", False)


def test_trailers() -> None:
    trailers = b"X-Sum: 1\r\ncontent-length: 5\r\nHOST: b\r\nContent_Type: a\r\nte: x\r\nAuthorization: b\r\nx-sum:2\r\n"
    message = only(post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + trailers + b"\r\n"))
    assert message.trailers == [(b"x-sum", b"1"), (b"x-sum", b"2")]


def test_trailers_of_one_message_are_not_the_next_ones() -> None:
    first = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nx: 1\r\n\r\n"
    outcome = requests([first + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"])
    assert [message.trailers for message in outcome.complete] == [[(b"x", b"1")], []]


# ---- one after the other


def test_pipelined_requests_stay_apart() -> None:
    data = (
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\nConnection: x-b\r\nX-B: 1\r\nExpect: 100-continue\r\n\r\n"
        b"GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"
        b"\r\nGET /2 HTTP/1.1\r\nHost: b\r\nX-B: 2\r\n\r\n"
        b"POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        b"DELETE /4 HTTP/1.0\r\n\r\n"
    )
    outcome = requests([data])
    assert outcome.failure is None
    assert [message.start[1] for message in outcome.complete] == [b"/1", b"/2", b"/3", b"/4"]
    assert outcome.messages[1].fields == [(b"host", b"b"), (b"x-b", b"2")]
    assert [head_of(message).expects_continue for message in outcome.messages] == [True, False, False, False]


def test_one_empty_line_is_forgiven_before_each_request() -> None:
    one = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert len(requests([one + one]).complete) == 2
    for start in (b"\r\n\r\n", b"\n", b"\r", b"\r\r\n", b" \r\n"):
        assert requests([start + one[2:]]).reason == "bad_request"


def test_a_decoder_between_messages_reports_it() -> None:
    decoder = RequestDecoder(http_limits())
    assert not decoder.has_begun()
    decoder.feed(b"\r\n")
    decoder.decode()
    assert not decoder.has_begun()
    decoder.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    assert decoder.has_begun()
    decoder.decode()
    assert decoder.has_begun()
    assert not decoder.has_buffered()
    decoder.feed(b"abG")
    decoder.decode()
    assert decoder.end
    assert decoder.has_buffered()


# ---- limits


def test_head_size() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    for size, reason in ((200, ""), (201, "headers_too_large")):
        head = start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"
        assert requests([head], http_limits(200)).reason == reason
        assert requests([head[:-4]], http_limits(196)).reason == reason


def test_request_line_size() -> None:
    assert requests([b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"]).reason == "target_too_long"
    assert requests([b"GET /" + b"a" * 9000]).reason == "target_too_long"
    assert requests([b"GET /" + b"a" * 8180 + b" HTTP/1.1\r\nHost: a\r\n\r\n"]).reason == "target_too_long"
    assert (
        requests([b"GET /" + b"a" * 8100 + b" HTTP/1.1\r\nHost: " + b"a" * 250 + b"\r\n\r\n"]).reason == "headers_too_large"
    )


def test_field_count() -> None:
    for count, reason in ((99, ""), (100, "headers_too_large")):
        assert get(HOST + b"x: 1\r\n" * count).reason == reason


def test_body_size() -> None:
    limits = http_limits(body=10)
    assert post(b"Content-Length: 10\r\n", b"a" * 10, limits).reason == ""
    assert post(b"Content-Length: 11\r\n", b"", limits).reason == "body_too_large"
    chunked = b"Transfer-Encoding: chunked\r\n"
    assert post(chunked, b"5\r\naaaaa\r\n" * 2 + b"0\r\n\r\n", limits).reason == ""
    assert post(chunked, b"5\r\naaaaa\r\n" * 2 + b"1\r\n", limits).reason == "body_too_large"
    assert post(chunked, b"fffffffffffffff\r\n", limits).reason == "body_too_large"
    two = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\naaaaaaaa\r\n0\r\n\r\n"
    assert len(requests([two + two], limits).complete) == 2


def test_extensions_are_counted_over_the_whole_body() -> None:
    chunked = b"Transfer-Encoding: chunked\r\n"
    chunk = b"1;" + b"e" * 1023 + b"\r\na\r\n"
    assert post(chunked, chunk * 16 + b"0\r\n\r\n").reason == ""
    assert post(chunked, chunk * 17).reason == "bad_body"
    assert post(chunked, b"1;" + b"e" * 16384).reason == "bad_body"


def test_trailer_limits() -> None:
    chunked = b"Transfer-Encoding: chunked\r\n"
    limits = http_limits(200, 5)
    assert post(chunked, b"0\r\n" + b"x: 1\r\n" * 5 + b"\r\n", limits).reason == ""
    assert post(chunked, b"0\r\n" + b"x: 1\r\n" * 6 + b"\r\n", limits).reason == "headers_too_large"
    assert post(chunked, b"0\r\nx: " + b"a" * 200 + b"\r\n\r\n", limits).reason == "headers_too_large"
    assert post(chunked, b"0\r\nx: " + b"a" * 200, limits).reason == "headers_too_large"
