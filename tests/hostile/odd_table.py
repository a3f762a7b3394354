"""More members of A to E, of the kinds that other tables have few of: fields hidden in fields, addresses, closing, HTTP/1.0."""

from __future__ import annotations

from tests.hostile.cases import SMUGGLED, ReplyCase
from tests.hostile.request_table import CHUNKED, LAST, family

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1"
#: What a parser that is not strict takes for the end of a line.
LINE_ENDS = [
    b"\n",
    b"\r",
    b"\r ",
    b"\n ",
    b"\r\n ",
    b"\r\n\t",
    b"\x00",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1d",
    b"\x1e",
    b"\r\r\n",
    b"\n\r",
]
#: The same for one that knows Unicode: plain bytes of a value to us.
UNICODE_ENDS = [
    b"\x85",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
    b"\xe5\x98\x8d\xe5\x98\x8a",
    b"\xc4\x8d\xc4\x8a",
    b"\\r\\n",
    b"%0d%0a",
    b"&#13;&#10;",
]

HIDDEN = [
    *family("A5", "coding in another value behind", LINE_ENDS, fields=(b"X: a{}Transfer-Encoding: chunked", b"Content-Length: 5"),
            body=LAST + SMUGGLED),
    *family("A3", "length in another value behind", LINE_ENDS, fields=(b"X: a{}Content-Length: 40",), body=SMUGGLED),
    *family("C5", "host in another value behind", LINE_ENDS, line=GET, fields=(b"X: a{}Host: evil",)),
    *family("C1", "an empty line in another value:", [b"\n\n", b"\r\r", b"\n\r\n", b"\r\n\r\x00", b"\x00\r\n\r\n"[:2] + b"\n\n"], line=GET,
            fields=(b"X: a{}" + SMUGGLED.strip(),)),
    *family("C4", "no end of a line, so one value,", UNICODE_ENDS, line=GET, fields=(b"X: a{}Host: kept",), status=200,
            sees=(b": a{}Host: kept\r\n",)),
    *family("A5", "no end of a line, so one value with a length beside,", UNICODE_ENDS, fields=(b"X: a{}Transfer-Encoding: chunked", b"Content-Length: 5"),
            body=b"0\r\n\r\n" + NEXT, status=200, requests=2, sees=(b": 5\r\n", b"GET /next")),
    *family("C10", "in the target", LINE_ENDS, raw=b"GET /a{}Host: evil HTTP/1.1\r\nHost: a\r\n\r\n"),
    *family("C8", "in the method", LINE_ENDS[:-2], raw=b"GET{}/ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    *family("C9", "behind the version", LINE_ENDS, raw=b"GET / HTTP/1.1{}X: 1\r\nHost: a\r\n\r\n"),
]  # fmt: skip

FRAMES = [
    *family("A1", "both, the length", [b"0", b"3", b"4", b"6", b"99"], fields=(CHUNKED, b"X: 1", b"Content-Length: {}"), body=LAST + SMUGGLED,
            reason="bad_framing"),
    *family("A1", "both, the coding", [b"cHuNkEd", b"", b"x", b"chunked, chunked"],
            fields=(b"Content-Length: 5", b"Transfer-Encoding: {}"), body=LAST + SMUGGLED),
    *family("A1", "both, in HTTP/1.0, the length", [b"0", b"5"], line=b"POST / HTTP/1.0", fields=(b"Content-Length: {}", CHUNKED),
            body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A2", "three lengths, the last", [b"5", b"6", b"0"], fields=(b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: {}"),
            body=b"hello" + SMUGGLED, reason="bad_framing"),
    *family("A2", "a length and a look-alike", [b"Content_Length: 99", b"content_length: 0", b"CONTENT_LENGTH: 99"],
            fields=(b"Content-Length: 5", b"{}"), body=b"hello" + NEXT, status=200, requests=2, sees=(b": 5\r\n", b"GET /next"), lacks=(b"_",)),
    *family("A2", "a length and a coding's look-alike", [b"Transfer_Encoding: chunked", b"Transfer-Encodin: chunked", b"Transfer-Encoding2: chunked",
            b"X-Transfer-Encoding: chunked", b"Transfer--Encoding: chunked", b"TransferEncoding: chunked"],
            fields=(b"Content-Length: 5", b"{}"), body=b"0\r\n\r\n" + NEXT, status=200, requests=2, sees=(b": 5\r\n", b"GET /next")),
    *family("A4", "list", [b"chunked\t, chunked", b"identity, chunked, identity", b"chunked,\tchunked", b"gzip;q=1, chunked", b"chunked , ",
            b"trailers, chunked", b"chunked, trailers", b"\"\", chunked", b"chunked, \"\"", b"x-chunked", b"chunked-x", b"chunked!", b"!chunked",
            b"ch\xc3\xbcnked", b"chunke\x64\x20d", b"c\\hunked", b"chunked%00", b"chunked&#0;", b"0chunked", b"chunked0", b"chunked chunked"],
            fields=(b"Transfer-Encoding: {}",), body=LAST + SMUGGLED),
    *family("A7", "and kept alive", [b"keep-alive", b"Keep-Alive", b"TE", b"close"], line=b"PUT /x HTTP/1.0", fields=(CHUNKED, b"Connection: {}"),
            body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A10", "no body with", [b"POST", b"PUT", b"PATCH", b"DELETE", b"REPORT"], line=b"{} /hostile HTTP/1.1", fields=(b"Content-Length: 0",),
            body=NEXT, status=200, requests=2, sees=(b"{} /hostile", b"GET /next")),
    *family("A8", "a chunked body with", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"], line=b"{} /hostile HTTP/1.1", fields=(CHUNKED,),
            body=b"27\r\n" + SMUGGLED.ljust(39) + b"\r\n" + LAST, status=200, sees=(b"smuggled",), lacks=()),
    *family("A12", "a body of one byte too many:", [b"\n", b"\r", b" ", b"\x00", b"x"],
            raw=b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{}" + NEXT[1:], answers=(200, 400), requests=1, only_program=True),
]  # fmt: skip

CHUNKS = [
    *family("B1", "size", [b"1\x0c", b"\x0c1", b"1\x85", b"1;\x00", b"1\x1a", b"0x01", b"0X1", b"1H", b"\xef\xbc\x91", b"--1", b"1-", b"1+1", b"1/1", b"1:1",
            b"1@", b"&1", b"%31", b"[1]", b"1]", b"(1)", b"#1", b"1#", b"$1", b"one", b"zz", b"1\\n", b"1 1", b"1\t1"], fields=(CHUNKED,),
            body=b"{}\r\na\r\n" + LAST, in_body=True, reason=""),
    *family("B2", "behind the size and its extension", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x00\r\n", b"\x0b\r\n", b"\x85\n"], fields=(CHUNKED,),
            body=b"1;a=b{}a\r\n" + LAST, in_body=True),
    *family("B2", "behind the last size", [b"\n", b"\r", b"\n\r", b"\r\r\n", b" \r\n", b"\x00\r\n"], fields=(CHUNKED,), body=b"1\r\na\r\n0{}\r\n" + SMUGGLED,
            in_body=True),
    *family("B2", "behind a trailer", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x00\r\n", b"\r\n \r\n", b"\r\n\t1\r\n"], fields=(CHUNKED,),
            body=b"0\r\nx: 1{}\r\n" + SMUGGLED, in_body=True),
    *family("B3", "odd extension", [b";a\n", b";a=\"\n\"", b";a=\"\r\n\"", b";a\r;b", b";\n", b";a=\"b\\", b";a='b c'", b";=b", b";a=b=c", b";a;=", b";a\xa0", b"; ;a", b";a=b ; c"],
            fields=(CHUNKED,), body=b"1{}\r\na\r\n" + LAST, in_body=True),
    *family("B4", "of 5 bytes", [b"hell", b"hello!", b"hello\n", b"hello\r", b"hello\r\r\n", b"hello \r\n", b"hellohello\r\n", b"hel\r\nlo"], fields=(CHUNKED,),
            body=b"5\r\n{}\r\n" + LAST + SMUGGLED, in_body=True),
    *family("B7", "trailer that is none", [b"GET /smuggled HTTP/1.1", b"x", b"x y: 1", b": 1", b"x\t: 1", b"x\x00: 1", b"\x00", b"x: \x0b", b"x: a\x00b", b" x: 1", b"\tx: 1",
            b"x: 1\r\n\tx", b"x\xff: 1", b"[x]: 1"], fields=(CHUNKED,), body=b"0\r\n{}\r\n\r\n", in_body=True),
]  # fmt: skip

ADDRESSES = [
    *family("C5", "IPv6", [b"[:]", b"[:::]", b"[1:2:3]", b"[1::2::3]", b"[12345::]", b"[::1.2.3]", b"[::1.2.3.256]", b"[::01.2.3.4]", b"[.:]", b"[1.2.3.4:]",
            b"[1:2:3:4:5:6:7:8:9]", b"[1:2:3:4:5:6:7:8::]", b"[::1:2:3:4:5:6:7:8]", b"[1:2:3:4:5:6:7]", b"[::1.2.3.4:1]", b"[1:2:3:4:5:6:7:1.2.3.4]", b"[::g]",
            b"[::%eth0]", b"[::1%]", b"[:1]", b"[1:]", b"[::1", b"[::1]a", b"[::1]::", b"[::1]:65536", b"[::1]:1:1", b"a[::1]", b"[::1][::1]", b"[::ffff:1.2.3]",
            b"[ ::1]", b"[::1 ]", b"[::\t1]", b"[v7.a:b]", b"[fe80::1%25eth0]"], line=GET, fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C5", "good IPv6", [b"[::]", b"[::1]", b"[1::]", b"[1::8]", b"[1:2:3:4:5:6:7:8]", b"[1:2:3:4:5:6:7::]", b"[::2:3:4:5:6:7:8]", b"[::ffff:1.2.3.4]",
            b"[1:2:3:4:5:6:1.2.3.4]", b"[::1.2.3.4]", b"[ABCD:ef01::]:65535", b"[2001:db8::1]:80"], line=GET, fields=(b"Host: {}",), host=None, status=200,
            sees=(b": {}\r\n",)),
    *family("C5", "empty port", [b"a.example:", b"A.EXAMPLE:"], line=GET, fields=(b"Host: {}",), host=None, status=200, sees=(b"Host: a.example\r\n",)),
    *family("C5", "empty port of an address", [b"[::1]"], line=GET, fields=(b"Host: {}:",), host=None, status=200, sees=(b"Host: {}\r\n",)),
    *family("C5", "host", [b":", b"a.example::", b"a.example:-80", b"a.example:80.", b"a.example:8e1", b"a.example:0x50", b"a.example:\xd9\xa8", b"a.example:000080", b"a.example: 80", b"a\\.example",
            b"a.example\\", b"a.example/../b", b"a.example;b", b"a.example?", b"a.example#", b"a.example@", b"user@", b"user:pw@a.example:80", b"@a.example", b"a.example%2f", b"a%2eexample",
            b"a.example%00", b"a.example%0d%0a", b"http://a.example", b"//a.example", b"a.example a.example", b"a.example,", b",a.example", b"a.example\x85", b"\xe2\x80\xa8",
            b"<script>", b"${a}", b"'a'", b"\"a\"", b"a" * 262], line=GET, fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C6", "target and host disagree:", [b"b", b"b.example", b"b.example:80", b"evil:443", b"[::1]"], line=b"GET http://a.example/x HTTP/1.1",
            fields=(b"Host: {}",), host=None, status=200, sees=(b"GET /x HTTP/1.1\r\n", b"Host: a.example\r\n"), lacks=(b"evil", b"b.example", b"::1")),
    *family("C6", "host is bad though the target has one:", [b"", b"a,b", b"u@a", b"a b", b"a/b", b"a:x", b"[::1"], line=b"GET http://a.example/x HTTP/1.1",
            fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C6", "two hosts though the target has one:", [b"a.example", b"b"], line=b"GET http://a.example/x HTTP/1.1", fields=(b"Host: {}",), reason="bad_host"),
    *family("C6", "odd authority", [b"[:]", b"[1:2]", b"a::", b"a:80:80", b"u:p@a", b"a%2f", b"a,b", b"a;b", b"\xe9", b"a\\b", b"a..:x"], line=b"GET http://{}/x HTTP/1.1"),
    *family("C5", "HTTP/1.0 with host", [b"", b"a,b", b"u@a", b"a b", b"a:x", b"[:]"], line=b"GET / HTTP/1.0", fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C5", "HTTP/1.0 with two hosts", [b"a.example", b"b"], line=b"GET / HTTP/1.0", fields=(b"Host: {}",), reason="bad_host"),
]  # fmt: skip

CLOSING = [
    *family("C16", "ends the connection:", [b"close", b"Close", b"CLOSE", b"close, x", b"x, close", b"keep-alive, close", b"close, keep-alive", b"\tclose", b"close\t", b",close,"],
            line=GET, fields=(b"Connection: {}",), body=NEXT, status=200, closes=True, only_program=True, lacks=(b"/next", b"onnection:")),
    *family("C16", "does not end it:", [b"\"close\"", b"closed", b"xclose", b"close;x", b"clo se", b"keep-alive", b"", b",", b"x"], line=GET,
            fields=(b"Connection: {}",), body=NEXT, status=200, requests=2, sees=(b"GET /next",), lacks=(b"onnection:",)),
    *family("C17", "no word of ours:", [b"Proxy-Connection: close", b"Keep-Alive: timeout=0", b"Keep-Alive: max=1"], line=GET, fields=(b"{}",), body=NEXT, status=200,
            requests=2, sees=(b"GET /next",), lacks=(b"{}",)),
    *family("C9", "HTTP/1.0 kept alive by", [b"keep-alive", b"Keep-Alive", b"KEEP-ALIVE", b"x, keep-alive"], line=b"GET / HTTP/1.0", fields=(b"Connection: {}",), body=NEXT,
            status=200, requests=2, sees=(b"GET /next",)),
    *family("C9", "HTTP/1.0 ends with", [b"close", b"keep-alive, close", b"x", b"", b"keepalive", b"\"keep-alive\""], line=b"GET / HTTP/1.0", fields=(b"Connection: {}",), body=NEXT,
            status=200, closes=True, only_program=True, lacks=(b"/next",)),
    *family("D3", "two expectations, the second", [b"x", b"", b"100", b"100-continue, x"], fields=(b"Expect: 100-continue", b"Expect: {}"), status=417, reason="bad_expectation"),
    *family("D3", "asked twice with", [b"Content-Length: 0", b"X: 1"], fields=(b"Expect: 100-continue", b"Expect: 100-continue", b"{}"), body=NEXT, status=200, requests=2,
            sees=(b"GET /next",)),
    *family("D3", "in HTTP/1.0", [b"x", b"100-continue-x"], line=b"POST / HTTP/1.0", fields=(b"Expect: {}",), status=417, reason="bad_expectation"),
]  # fmt: skip

REQUESTS = HIDDEN + FRAMES + CHUNKS + ADDRESSES + CLOSING

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"
EXTRA = [
    b"\r\n",
    b"\n",
    b" ",
    b"\x00",
    b"0\r\n\r\n",
    b"x",
    b"HTTP/1.1",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    b"poison" * 2000,
]


def behind(name: str, wire: bytes, body: bytes = b"", method: bytes = b"GET") -> list[ReplyCase]:
    """Bytes behind a reply that is complete: they go nowhere, and the connection serves nobody else."""
    return [
        ReplyCase("E3", f"{extra[:20]!r} behind {name}", wire + extra, method, refused=False, body=body, lacks=(b"poison",))
        for extra in EXTRA
    ]


def gone(name: str, lines: bytes, *lacks: bytes, reusable: bool = True) -> ReplyCase:
    """Fields that do not reach the client."""
    return ReplyCase(
        "E7", f"not passed on: {name}", OK + lines + TWO, refused=False, body=b"ok", lacks=lacks, reusable=reusable
    )


REPLIES = [
    *behind("a length", OK + TWO, b"ok"), *behind("chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    *behind("204", b"HTTP/1.1 204 N\r\n\r\n"), *behind("304", b"HTTP/1.1 304 N\r\n\r\n"), *behind("a HEAD", OK + b"Content-Length: 2\r\n\r\n", b"", b"HEAD"),
    *behind("length 0", OK + b"Content-Length: 0\r\n\r\n"),
    gone("what Connection names", b"Connection: X-Mine\r\nX-Mine: evil\r\n", b"evil"), gone("Keep-Alive", b"Keep-Alive: evil\r\n", b"evil"),
    gone("Trailer", b"Trailer: evil\r\n", b"evil"), gone("Upgrade", b"Upgrade: evil\r\n", b"evil"), gone("Proxy-Connection", b"Proxy-Connection: evil\r\n", b"evil"),
    gone("a length's look-alike", b"Content_Length: 666\r\n", b"666"), gone("a coding's look-alike", b"Transfer_Encoding: evil\r\n", b"evil"),
    gone("close", b"Connection: close, X-Mine\r\nX-Mine: evil\r\n", b"evil", reusable=False),
    *(ReplyCase("E1", f"coding {lines!r} in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + lines + b"\r\n\r\n0\r\n\r\n") for lines in
      (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nConnection: keep-alive", b"Transfer-Encoding: chunked\r\nContent-Length: 5")),
    *(ReplyCase("E1", f"both, {status}", b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
      for status in (b"201 C", b"206 P", b"400 B", b"404 N", b"500 E", b"503 U")),
    *(ReplyCase("E1", f"two lengths, {status}", b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello")
      for status in (b"201 C", b"206 P", b"400 B", b"404 N", b"500 E", b"503 U", b"304 N")),
    # What means nothing is not judged (RFC 9112 section 6.3).
    ReplyCase("E2", "two lengths with 204", b"HTTP/1.1 204 N\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
              refused=False, lacks=(b"hello",)),
    *(ReplyCase("E1", f"coding hidden behind {end!r}", OK + b"X: a" + end + b"Transfer-Encoding: chunked\r\n" + TWO) for end in LINE_ENDS),
    *(ReplyCase("E7", f"field hidden behind {end!r}", OK + b"X: a" + end + b"Set-Cookie: evil\r\n" + TWO, lacks=(b"evil",)) for end in LINE_ENDS),
    *(ReplyCase("E7", f"no end of a line: {end!r}", OK + b"X: a" + end + b"Set-Cookie: x\r\n" + TWO, refused=False, body=b"ok", reusable=True) for end in UNICODE_ENDS),
    *(ReplyCase("E6", f"interim {lines!r} with {what!r}", b"HTTP/1.1 103 X\r\n" + what + b"\r\n\r\n" + OK + TWO)
      for lines, what in ((b"a bad line", b"x"), (b"a fold", b"x: 1\r\n 2"), (b"a NUL", b"x: \x00"))),
    *(ReplyCase("E6", f"interim {status} that declares {what!r}", b"HTTP/1.1 " + status + b" X\r\n" + what + b"\r\n\r\n" + OK + TWO, refused=False, body=b"ok")
      for status in (b"100", b"102", b"103")
      for what in (b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Content-Length: 1\r\nTransfer-Encoding: chunked")),
    *(ReplyCase("E6", f"{count} interim replies", b"HTTP/1.1 103 X\r\nLink: a\r\n\r\n" * count + OK + TWO, refused=False, body=b"ok", reusable=True) for count in (1, 2, 99, 100)),
    *(ReplyCase("E6", f"{count} interim replies", b"HTTP/1.1 103 X\r\nLink: a\r\n\r\n" * count + OK + TWO) for count in (101, 102, 5000)),
    *(ReplyCase("E4", f"cut off: {cut[-24:]!r}", cut, then_eof=True, refused=False, complete=False) for cut in
      (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhell", OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhell", OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n",
       OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: 1\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r", OK + b"Content-Length: 1\r\n\r\n", b"HTTP/1.1 200 OK", b"H")),
    *(ReplyCase("E4", f"until the end: {status!r}", status + b"\r\n\r\nhello", then_eof=True, refused=False, body=b"hello") for status in
      (b"HTTP/1.0 200 OK", b"HTTP/1.0 200 OK\r\nConnection: keep-alive", b"HTTP/1.1 404 N", b"HTTP/1.1 200 OK\r\nConnection: keep-alive", b"HTTP/1.1 206 P")),
]  # fmt: skip
