"""Rows A to C of the hostile catalogue, as far as the bytes of a request decide them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.hostile.cases import GOOD_HOST, SMUGGLED, RequestCase, filled, label_of

CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"


def family(row: str, name: str, members: Iterable[bytes], **rest: object) -> list[RequestCase]:
    """One case for each of `members`, which takes the place of `{}` in every bytes argument of `rest`."""
    cases = []
    for member in members:
        own = {key: filled(value, member) for key, value in rest.items()}
        cases.append(RequestCase(row, f"{name} {label_of(member)}", **own))  # type: ignore[arg-type]
    return cases


LENGTHS = [
    *b"+5 -5 -0 +0 0x5 0X5 0o5 0b1 5_0 1,1 5,5 5,6 1Z Z1 5.0 5e0 00 05 0005 '5' \"5\" 5; NaN ".split(),
    b"",
    b" ",
    b"1 2",
    b"5 ",
    b"\t5",
    b"5\t",
    b"5, 5",
    b"5, 6",
    b"\xa05",
    b"5\xa0",
    b"\xd9\xa5",
    b"\xb2",
    b"%d" % (2**64 + 5),
    b"%d" % 2**64,
    b"%d" % 2**63,
    b"%d" % (2**63 - 1),
    b"1" * 19,
    b"9" * 400,
]
CODINGS = [
    b"xchunked", b"chunkedx", b"chunked, gzip", b"chunked, chunked", b"chunked,chunked", b",chunked", b"chunked,",
    b", chunked", b"", b" ", b"chunked;x=y", b"chunked;", b"\"chunked\"", b"'chunked'", b"chunked ", b"chunked\t",
    b"\tchunked",
    b"\xa0chunked", b"chunked\xa0", b"\x85chunked", b"chunked\x85", b"chunked\xff", b"chunk", b"chu nked", b"gzip,chunked",
    b"identity, chunked", b"chunked identity", b"cow", b"chunked\\", b"%63hunked",
]  # fmt: skip
UNSUPPORTED = [b"gzip", b"deflate", b"compress", b"x-gzip", b"identity", b"gzip, chunked", b"GZIP"]
CONTROLS = [bytes([byte]) for byte in (*range(9), *range(10, 32), 127)]
SOME_CONTROLS = [b"\x00", b"\x01", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\n", b"\r"]

FRAMING = [
    # A1
    *family("A1", "length and chunked, length", [b"0", b"5", b"6", b"40"], fields=(b"Content-Length: {}", CHUNKED),
            body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A1", "chunked and length, coding", [b"chunked", b"CHUNKED", b"Chunked"],
            fields=(b"Transfer-Encoding: {}", b"Content-Length: 40"), body=LAST + SMUGGLED, reason="bad_framing"),
    # A2
    *family("A2", "two lengths, second", [b"5", b"6", b"0", b"40", b""],
            fields=(b"Content-Length: 5", b"Content-Length: {}"), body=b"hello" + SMUGGLED, reason="bad_framing"),
    # A3
    *family("A3", "length", LENGTHS, fields=(b"Content-Length: {}",), body=b"hello" + SMUGGLED, reason="bad_framing"),
    # A4, A5
    *family("A4", "coding", CODINGS, fields=(b"Transfer-Encoding: {}",), body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A4", "coding", UNSUPPORTED, fields=(b"Transfer-Encoding: {}",), body=LAST + SMUGGLED, status=501,
            reason="unknown_transfer_coding"),
    *family("A4", "accepted spelling", [b"chunKed", b"CHUNKED", b"  chunked"], fields=(b"Transfer-Encoding: {}",), body=LAST,
            status=200, sees=(b"transfer-encoding: chunked\r\n",), lacks=(b"chunKed", b"CHUNKED", b"  chunked")),
    *family("A5", "before the colon", [b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x85", b"\xa0", b"\r\n ", b"\r\n", b"\r",
            b"\n"],
            fields=(b"Transfer-Encoding{}: chunked",), body=LAST + SMUGGLED),
    *family("A5", "before the name", [b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\r", b"\n", b"\xa0", b":"],
            fields=(b"{}Transfer-Encoding: chunked",), body=LAST + SMUGGLED),
    *family("A5", "behind the colon", CONTROLS, fields=(b"Transfer-Encoding:{}chunked",), body=LAST + SMUGGLED),
    *family("A5", "behind the value", CONTROLS, fields=(b"Transfer-Encoding: chunked{}",), body=LAST + SMUGGLED),
    *family("A5", "folded", [b"\r\n ", b"\r\n\t", b" \r\n ", b"\n "], fields=(b"Transfer-Encoding:{}chunked",),
            body=LAST + SMUGGLED),
    *family("A5", "look-alike with a length", [b"Transfer_Encoding", b"TRANSFER_encoding"],
            fields=(b"{}: chunked", b"Content-Length: 5"), body=LAST, status=200, lacks=(b"chunked",)),
    # A6
    *family("A6", "two codings, second", [b"chunked", b"identity", b"gzip", b"", b"x"],
            fields=(CHUNKED, b"Transfer-Encoding: {}"), body=LAST + SMUGGLED, reason="bad_framing"),
    # A7
    *family("A7", "coding in HTTP/1.0 beside", [b"X: 1", b"Connection: keep-alive", b"Connection: close"],
            line=b"POST / HTTP/1.0",
            fields=(CHUNKED, b"{}"), body=LAST + SMUGGLED, reason="bad_framing"),
    # A8
    *family("A8", "body with", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"], line=b"{} /hostile HTTP/1.1",
            fields=(b"Content-Length: 39",), body=SMUGGLED.ljust(39), status=200, sees=(b"\r\n\r\nGET /smuggled",),
            lacks=()),
    # A10
    RequestCase("A10", "neither length nor coding", body=b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", status=200, requests=2,
                sees=(b"POST /hostile", b"GET /next")),
]  # fmt: skip

SIZES = [
    *b"0x1 +1 -1 1_0 G 1G 1h 0x 1.0 1,1 '1' 1= 1\\ ".split(),
    b"",
    b" 1",
    b"1 ",
    b"\t1",
    b"1\t",
    b"1 ;a",
    b"\x001",
    b"1\x00",
    b"1\x0b",
    b"\xa01",
    b"1\xa0",
    b"1\xff",
    b"\r",
    b"1\r",
    b"1" * 16,
    b"0" * 16,
    b"f" * 16,
    b"1" * 17,
    b"1" + b"0" * 16,
    b"0" * 500,
    b"8" + b"0" * 15,
]
EXTENSIONS = [
    *b';  ;; ;a; ;;a ;= ;a= ;=a ;a==b ;a=b=c ;a=b,c ;a,b ;a"b" ;a=" ;a="b ;a="b"c ;a="\\" ;a=b" ;\xff ;a=\xff ;a=(b)'.split(
        b" "
    ),
    b"; a",
    b";a ",
    b";a =b",
    b";a= b",
    b"; ",
    b";\t",
    b";a b",
]
GOOD_EXTENSIONS = [b";a", b";a=b", b";a;b;c", b';a="b"', b';a="b;c\\"d"', b';a=""', b";a=" + b"b" * 8000]
CHUNKS = [
    # B1
    *family("B1", "size", [size for size in SIZES if size], body=b"{}\r\na\r\n" + LAST),
    RequestCase("B1", "size empty", body=b"\r\na\r\n" + LAST),
    *family("B1", "size of the last chunk", [b"-0", b"+0", b"0x0", b"00 ", b" 0", b"0" * 16, b"O"],
            body=b"1\r\na\r\n{}\r\n\r\n"),
    # B2
    *family("B2", "end of the size line", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r ", b"\r\x00\n"], body=b"1{}a\r\n" + LAST),
    *family("B2", "behind the data", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b" \r\n", b"\r;"], body=b"1\r\na{}" + LAST),
    RequestCase("B2", "CR CR semicolon", body=b"1\r\r;a=b\r\na\r\n" + LAST),
    *family("B2", "end of a trailer", [b"\n", b"\r", b"\r\r\n"], body=b"0\r\nx: 1{}\r\n"),
    *family("B2", "end of the body", [b"\n", b"\r\r\n", b"\rX\n"], body=b"0\r\n{}" + SMUGGLED),
    # B3
    *family("B3", "extension", [text for text in EXTENSIONS if text], body=b"1{}\r\na\r\n" + LAST),
    *family("B3", "in an extension", CONTROLS, body=b"1;a{}\r\na\r\n" + LAST),
    *family("B3", "in a quoted extension", CONTROLS, body=b'1;a="{}"\r\na\r\n' + LAST),
    *family("B3", "an extension of the last chunk", [b";", b";\x00", b";a=", b"; a"], body=b"1\r\na\r\n0{}\r\n\r\n"),
    RequestCase("B3", "64 KiB extension", body=b"1;a=" + b"b" * 65536 + b"\r\na\r\n" + LAST),
    RequestCase("B3", "64 KiB extension without end", body=b"1;a=" + b"b" * 65536),
    RequestCase("B3", "long extensions of tiny chunks", body=(b"1;a=" + b"b" * 500 + b"\r\na\r\n") * 200 + LAST),
    *family("B3", "extension read and forgotten", GOOD_EXTENSIONS, body=b"1{}\r\nZ\r\n" + LAST, status=200,
            sees=(b"\r\nZ\r\n0\r\n\r\n",), lacks=(b";",)),
    # B4, B5
    *family("B4", "spill", [b"b", b"bc", b"b\r\n", b"0", b"\r"], body=b"1\r\na{}\r\n" + LAST),
    RequestCase("B4", "data shorter than its size", body=b"3\r\na\r\n" + LAST + SMUGGLED),
    *family("B5", "before a chunk", [b"\r\n", b" ", b"\n", b"\r"], body=b"1\r\na\r\n{}" + LAST),
    *family("B5", "behind the last chunk", [b"XX", b" \r\n", b"\x00", b": x\r\n"], body=b"0\r\n{}\r\n\r\n"),
    # B7
    *family("B7", "trailer", [b"x : 1", b" x: 1", b"x", b": 1", b"x\x00: 1", b"x: \x00", b"x: 1\r\n y", b"\xa0: 1",
            b"x y: 1"],
            body=b"0\r\n{}\r\n\r\n"),
    *family("B7", "trailer dropped", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: evil",
            b"Authorization: evil",
            b"Content-Type: evil", b"TE: evil", b"Connection: evil", b"Cookie: evil", b"Content_Length: 5",
            b"X-Forwarded-For: evil",
            b"Expect: evil", b"Cache-Control: evil", b"Trailer: evil", b"Upgrade: evil", b"Range: evil"],
            body=b"1\r\na\r\n0\r\n{}\r\nX-Sum: 1\r\n\r\n", status=200, sees=(b"\r\n0\r\n",), lacks=(b"evil", b"0\r\n{}")),
    RequestCase("B7", "101 trailers", body=b"0\r\n" + b"x: 1\r\n" * 101 + b"\r\n", status=431, reason="headers_too_large"),
    RequestCase("B7", "64 KiB trailer", body=b"0\r\nx: " + b"a" * 65536, status=431, reason="headers_too_large"),
    # B8
    RequestCase("B8", "20,000 chunks of one byte", body=b"1\r\na\r\n" * 20000 + LAST, status=200, sees=(b"aaaa",)),
]  # fmt: skip
CHUNKS = [
    replace(case, fields=(CHUNKED,), in_body=case.status != 200, reason="bad_body" if case.status == 400 else case.reason)
    for case in CHUNKS
]

HOSTS = [
    b"", b"a,b", b"a, b", b"a b", b"u@a", b"u:p@a", b"a/b", b"/a", b"a?b", b"a#b", b"a\\b", b"a:x", b"a:-1", b"a:+1",
    b"a: 80",
    b"a:65536", b"a:99999999999999999999", b"a:80:80", b":80", b"http://a", b"[::1", b"::1", b"[::1]x", b"[::1]:x", b"[g]",
    b"a\x80",
    b"\xe9", b"a" * 300, b"a\tb", b"<a>", b"a\"b", b"{a}",
]  # fmt: skip
TARGETS = [
    b"/a b",
    b"/a\tb",
    b"/a\x00b",
    b"/a\x80b",
    b"/\xc3\xa9",
    b"/a#b",
    b"/a?b#c",
    b"#",
    b"/a\\b",
    b"/a\x7f",
    b"/a\x1b",
]
BAD_PATHS = [
    b"/%00", b"/%0d%0aX:1", b"/a%0a", b"/%1f", b"/%7F", b"/%", b"/%4", b"/%zz", b"/%2", b"/..", b"/../", b"/%2e%2e/",
    b"/%2e%2e",
    b"/.%2e/a", b"/a/../../b", b"/a/%2e%2e/%2E%2E/b", b"//../a", b"/./../a", b"a", b"a/b", b"..", b"*", b"*a", b"?",
    b"/?%\x00",
    b"http:", b"http:/", b"http:a", b"https://a/", b"ftp://a/", b"//a"[1:1] + b"a:80", b"a.example:443", b"http//a",
    b"javascript:1",
]  # fmt: skip
NORMAL = [
    (b"//a", b"/a"), (b"/a/../b", b"/b"), (b"/a/./b", b"/a/b"), (b"/%61", b"/a"), (b"/a%2fb", b"/a%2Fb"), (b"/a/%2e%2e/b",
    b"/b"),
    (b"/a//b//", b"/a/b/"), (b"/%c0%ae%c0%ae/", b"/%C0%AE%C0%AE/"), (b"/a/b/..", b"/a/"), (b"/%5c", b"/%5C"), (b"/a/.?b",
    b"/a/?b"),
    (b"/%252e%252e/", b"/%252e%252e/"), (b"/a?/../%2e%2e//", b"/a?/../%2e%2e//"),
]  # fmt: skip
LINES = [
    b"get / HTTP/1.1", b"Get / HTTP/1.1", b"G\x00ET / HTTP/1.1", b"G(T / HTTP/1.1", b"G:T / HTTP/1.1", b"GET\t/ HTTP/1.1",
    b" GET / HTTP/1.1", b"\tGET / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET /  HTTP/1.1", b"GET / HTTP/1.1\r",
    b"GET / HTTP/1.1\n",
    b"GET /\tHTTP/1.1", b"/ HTTP/1.1", b"GET", b"GET /", b"GET / ", b"", b"\x16\x03\x01\x00", b"\x00", b"GET / HTTP/1.32",
    b"GET / HTTP/01.1",
    b"GET / http/1.1", b"GET / HTTP/1,1", b"GET / HTTP/1.", b"GET / HTTP/11", b"GET / HTTP/2", b"GET / HTP/1.1",
    b"GET / HTTP/ 1.1",
    b"GET / HTTP/1.1/1", b"GET / HTTP/+1.1", b"GET / HTTP/1.-1", b"GET / HTTP/1.1 X", b"GET / HTTPS/1.1", b"GET / ICY/1.1",
    b"SMTP",
    b"GET / HTTP/1.\xb2", b"A" * 33 + b" / HTTP/1.1", b"A" * 65536 + b" / HTTP/1.1",
]  # fmt: skip
BAD_LINES = [b"x\x00: 1", b"\x00x: 1", b"x y: 1", b" x: 1", b"\tx: 1", b"x : 1", b"x\t: 1", b"x", b": 1", b":", b"x\xa0: 1",
        b"\xe9: 1",
             b"x\\: 1", b"x[]: 1", b"x@: 1", b"x,y: 1", b"x;y: 1", b"x(: 1", b'"x": 1', b"x/y: 1", b"x\r\n: 1",
             b"x\r\ny\r\n: 1"]  # fmt: skip

HEADS = [
    # C1, C2
    *family("C1", "all lines end with", [b"\n", b"\r", b"\n\r", b"\r\r\n"], raw=b"GET / HTTP/1.1{}Host: a{}{}"),
    RequestCase("C1", "one bare LF behind the request line", raw=b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    *family("C1", "one field ends with", [b"\n", b"\r"], fields=(b"X: 1{}Y: 2",)),
    *family("C1", "the head ends with", [b"\n", b"\r\r\n", b"\rX\n", b" \r\n"],
            raw=b"GET / HTTP/1.1\r\nHost: a\r\n{}" + SMUGGLED),
    *family("C2", "folded", [b"X: 1\r\n 2", b"X: 1\r\n\t2", b"X:\r\n 2", b"X: 1\r\n ", b"X: 1\r\n \r\n 2"], fields=(b"{}",),
            reason="bad_request"),
    RequestCase("C2", "folded request line", raw=b"GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n"),
    # C3, C4
    *family("C3", "line", BAD_LINES, fields=(b"{}",), reason="bad_request"),
    *family("C4", "in a value", CONTROLS, fields=(b"X: a{}b",), reason="bad_request"),
    *family("C4", "in a name", [*CONTROLS, b"\t", b"\x80", b"\xff", b"\xc3\xa9"], fields=(b"x{}y: 1",),
            reason="bad_request"),
    *family("C4", "passed unchanged", [b"\x80", b"\xff", b"\xc3\xa9", b"\t", b"a  b", b"\"'<>\\"], fields=(b"X: a{}b",),
            line=b"GET / HTTP/1.1", status=200, sees=(b": a{}b\r\n",)),
    # C5
    RequestCase("C5", "no host", host=None, reason="bad_host"),
    *family("C5", "host", HOSTS, fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C5", "two hosts, second", [b"a.example", b"b", b""], fields=(b"Host: {}",), reason="bad_host"),
    *family("C5", "host before the colon", [b" ", b"\t", b"\x00"], fields=(b"Host{}: a",), host=None),
    # C6, C7
    *family("C6", "other host field", [b"evil", b"a.example:81", b"A.EXAMPLE"], line=b"POST http://a.example:80/x HTTP/1.1",
            fields=(b"Host: {}",), host=None, status=200, sees=(b"Host: a.example:80\r\n", b"POST /x HTTP/1.1"),
            lacks=(b"http:", b"evil", b"A.EXAMPLE")),
    *family("C6", "bad authority", [b"", b"u@a", b"a:x", b"a,b", b":80", b"[::1"], line=b"GET http://{}/ HTTP/1.1",
            reason="bad_host"),
    *family("C6", "path", [b"/../a", b"/%00", b"/%2e%2e/"], line=b"GET http://a{} HTTP/1.1", reason="bad_target"),
    *family("C7", "asterisk with", [b"GET", b"POST", b"PRI"], line=b"{} * HTTP/1.1", reason="bad_target"),
    RequestCase("C7", "asterisk with a query", b"OPTIONS *?a HTTP/1.1", reason="bad_target"),
    *family("C7", "connect to", [b"a.example:443", b"/", b"*", b"http://a/", b"a"], line=b"CONNECT {} HTTP/1.1", status=405,
            reason="connect_not_allowed"),
    # C8, C9
    *family("C8", "line", LINES, raw=b"{}\r\nHost: a\r\n\r\n"),
    *family("C8", "unknown method", [b"PURGE", b"M-SEARCH", b"FOO_BAR", b"X"], line=b"{} / HTTP/1.1", status=200,
            sees=(b"{} / HTTP/1.1\r\n",)),
    *family("C9", "version", [b"2.0", b"3.0", b"0.9", b"1.2", b"1.9", b"9.9"], line=b"GET / HTTP/{}", status=505,
            reason="bad_version"),
    RequestCase("C9", "HTTP/2 preface", raw=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04", reason="bad_target"),
    # C10, C11
    *family("C10", "target", TARGETS, line=b"GET {} HTTP/1.1"),
    *family("C11", "path", [path for path in BAD_PATHS if path], line=b"GET {} HTTP/1.1", reason="bad_target"),
    *(RequestCase("C11", f"normal form of {path!r}", b"GET " + path + b" HTTP/1.1", status=200,
                  sees=(b"GET " + normal + b" HTTP/1.1\r\n",)) for path, normal in NORMAL),
    RequestCase("C11", "escapes in a query stay", b"GET /?%0d%0aX:1 HTTP/1.1", status=200, sees=(b"/?%0d%0aX:1 ",)),
    # C12
    RequestCase("C12", "target of 64 KiB", b"GET /" + b"a" * 65536 + b" HTTP/1.1", status=414, reason="target_too_long"),
    RequestCase("C12", "target without end", raw=b"GET /" + b"a" * 65536, status=414, reason="target_too_long"),
    *family("C12", "value", [b"a" * 65536], fields=(b"X: {}",), status=431, reason="headers_too_large"),
    *family("C12", "name", [b"a" * 65536], fields=(b"{}: 1",), status=431, reason="headers_too_large"),
    RequestCase("C12", "value without end", raw=b"GET / HTTP/1.1\r\nX: " + b"a" * 65536, status=431,
            reason="headers_too_large"),
    RequestCase("C12", "10,000 fields", fields=(b"X: 1",) * 10000, status=431, reason="headers_too_large"),
    RequestCase("C12", "101 fields", fields=(b"X: 1",) * 98, status=431, reason="headers_too_large"),
    # C13
    *family("C13", "before a request", [b"\r\n\r\n", b"\r\n" * 10000, b"\n", b"\r", b"\r\r\n", b" \r\n", b"\x00"],
            raw=b"{}GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RequestCase("C13", "one empty line", raw=b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", status=200, sees=(b"GET / ",)),
    # C14
    *family("C14", "look-alike", [b"X_Forwarded_For", b"Content_Length", b"x-forwarded_for", b"Transfer_Encoding",
            b"Keep_Alive",
            b"X_Forwarded_Proto", b"X-Request_ID"], fields=(b"{}: evil",), status=200, lacks=(b"evil",)),
    # C16
    *family("C16", "connection names", [b"X-Forwarded-For", b"Authorization", b"Host", b"Cookie", b"Content-Length",
            b"Content-Type",
            b"X-Request-ID", b"Expect"], fields=(b"Connection: {}",), status=200,
            body=b"", line=b"POST / HTTP/1.1", sees=(b"Host: a.example\r\n",)),
    RequestCase("C16", "all at once", fields=(
        b"Connection: close, X-Forwarded-For, Authorization, Host, Cookie, Content-Length, X-Mine",
        b"X-Forwarded-For: kept1",
        b"Authorization: kept2", b"Cookie: kept3", b"Content-Length: 5", b"X-Mine: gone"), body=b"hello", status=200,
        sees=(b"kept1", b"kept2", b"kept3", b": 5\r\n", GOOD_HOST, b"\r\n\r\nhello"), lacks=(b"gone", b"close")),
    # C17
    *family("C17", "field of this hop", [b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade",
            b"Proxy-Authorization",
            b"HTTP2-Settings"], fields=(b"{}: gone",), status=200, lacks=(b"gone",)),
    RequestCase("C17", "TE: trailers is kept for gRPC", fields=(b"TE: trailers",), status=200,
                sees=(b"te: trailers\r\n", b"connection: te\r\n")),
    # D3
    *family("D3", "expectation", [b"200-ok", b"", b"100-continue, x", b"100"], fields=(b"Expect: {}",), status=417,
            reason="bad_expectation"),
]  # fmt: skip

TABLE = FRAMING + CHUNKS + HEADS
