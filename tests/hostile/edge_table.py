"""More members: those that a connection's end, a route, a local reply or an early upstream decides, and odder spellings."""

from __future__ import annotations

from dataclasses import replace

from tests.hostile.cases import SMUGGLED, RequestCase
from tests.hostile.request_table import CHUNKED, LAST, family

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
SIZED = b"Content-Length: %d" % len(SMUGGLED)
EXPECT = b"Expect: 100-continue"

# Answered without the upstream while a body is unread: it is drained, or the connection ends behind the reply.
LOCAL = [
    case
    for target, status in ((b"/direct", 200), (b"/denied", 401))
    for case in (
        *family("A9", f"{target.decode()}, body and a request behind,", [b"POST", b"PUT", b"GET", b"DELETE", b"PATCH"],
                line=b"{} " + target + b" HTTP/1.1", fields=(SIZED,), body=SMUGGLED + NEXT, answers=(status, 200)),
        RequestCase("A9", f"{target.decode()}, chunked body and a request behind", b"POST " + target + b" HTTP/1.1", (CHUNKED,),
                    b"29\r\n" + SMUGGLED.ljust(41) + b"\r\n" + LAST + NEXT, answers=(status, 200)),
        RequestCase("A9", f"{target.decode()}, expecting 100, with its body", b"POST " + target + b" HTTP/1.1", (EXPECT, SIZED),
                    SMUGGLED + NEXT, answers=(status, 200)),
        RequestCase("A9", f"{target.decode()}, half a body", b"POST " + target + b" HTTP/1.1", (b"Content-Length: 1000",),
                    SMUGGLED, requests=0, answers=(status,), closes=True),
        RequestCase("A9", f"{target.decode()}, expecting 100, no body", b"POST " + target + b" HTTP/1.1", (EXPECT, SIZED),
                    requests=0, answers=(status,), closes=True),
        RequestCase("A9", f"{target.decode()}, half a chunked body", b"POST " + target + b" HTTP/1.1", (CHUNKED,),
                    b"ff\r\n" + SMUGGLED, requests=0, answers=(status,), closes=True),
        RequestCase("A9", f"{target.decode()}, bad chunk behind the reply", b"POST " + target + b" HTTP/1.1", (CHUNKED,),
                    b"1\r\na\r\n", requests=0, answers=(status,), closes=True),
    )
]  # fmt: skip
LOCAL = [replace(case, status=case.answers[0], only_program=True, may_stop=not case.closes) for case in LOCAL]

CUT_OFF = [
    *family("A11", "the client ends behind", [b"", b"h", b"hell", b"\r\n", b"GET / HTTP/1.1\r\n"], fields=(b"Content-Length: 40",),
            body=b"{}", reason="truncated_body", in_body=True),
    *family("A11", "expecting 100, the client ends behind", [b"", b"h"], fields=(EXPECT, b"Content-Length: 40",), body=b"{}",
            reason="truncated_body", in_body=True),
    *family("A11", "the client ends in the head", [b"G", b"GET", b"GET ", b"GET /", b"GET / ", b"GET / HTTP", b"GET / HTTP/1.1",
            b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: a",
            b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"], raw=b"{}", reason="truncated_head"),
    *family("B6", "the client ends behind", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r", b"5\r\nhello\r\n",
            b"5;a", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n", b"0\r\n", b"0\r\nx: 1", b"0\r\nx: 1\r\n", b"0\r\nx: 1\r\n\r"],
            fields=(CHUNKED,), body=b"{}", reason="truncated_body", in_body=True),
]  # fmt: skip
CUT_OFF = [replace(case, then_eof=True, only_program=True) for case in CUT_OFF]

GARBAGE = [b"\x00", b"GARBAGE\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\r\n\r\n", b" ",
           b"0\r\n\r\n", b"\r\n\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
           b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"]  # fmt: skip
PIPELINED = [
    *family("A12", "behind two good ones", GARBAGE, raw=NEXT + NEXT + b"{}", answers=(200, 200, 400), requests=2),
    *family("A12", "behind a body", GARBAGE, raw=b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{}",
            answers=(200, 400), requests=1),
    *family("A12", "behind a chunked body", GARBAGE, raw=b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST + b"{}",
            answers=(200, 400), requests=1),
    *family("A12", "nothing is read behind close", [NEXT, b"\x00", b"GARBAGE"],
            raw=b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{}", answers=(200,), requests=1, status=200, closes=True,
            lacks=(b"/next",)),
    *family("A12", "many good ones", [b"3", b"20", b"100"], raw=b"", status=200),
]  # fmt: skip
PIPELINED = [
    replace(case, raw=NEXT * int(case.name.split("'")[1]), requests=int(case.name.split("'")[1])) if not case.raw else case
    for case in PIPELINED
]
PIPELINED = [replace(case, only_program=True) for case in PIPELINED]

FORBIDDEN = [b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Content-Type", b"Content-Encoding",
             b"Content-Range", b"Set-Cookie", b"Cookie", b"TE", b"Trailer", b"Upgrade", b"Connection", b"Keep-Alive",
             b"Proxy-Connection", b"Proxy-Authorization", b"Proxy-Authenticate", b"WWW-Authenticate", b"Expect", b"Range",
             b"If-Match", b"If-None-Match", b"If-Modified-Since", b"If-Unmodified-Since", b"If-Range", b"Max-Forwards",
             b"Cache-Control", b"Pragma", b"Age", b"Expires", b"Date", b"Location", b"Retry-After", b"Vary",
             b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Real-IP", b"Forwarded", b"X-Mosn-A", b"X-Envoy-B", b"X-Request-Id",
             b"content_length", b"Transfer_Encoding", b"X_Forwarded_For", b"hOST"]  # fmt: skip
TRAILERS = [
    *family("B7", "forbidden though trailers are spoken of", FORBIDDEN, fields=(b"TE: trailers", CHUNKED),
            body=b"1\r\na\r\n0\r\n{}: evil\r\nX-Sum: good\r\n\r\n", status=200, lacks=(b"evil",)),
    *family("B7", "passed with", [b"trailers", b"gzip, trailers", b"Trailers"], fields=(b"TE: {}", CHUNKED),
            body=b"1\r\na\r\n0\r\nX-Sum: good\r\n\r\n", status=200, sees=(b"\r\n0\r\nX-Sum: good\r\n\r\n",), only_program=True),
    *family("B7", "dropped with", [b"X: 1", b"TE: gzip", b"TE: xtrailers", b"Trailer: X-Sum", b"TE:"], fields=(b"{}", CHUNKED),
            body=b"1\r\na\r\n0\r\nX-Sum: gone\r\n\r\n", status=200, lacks=(b"gone", b"X-Sum"), only_program=True),
]  # fmt: skip
CHUNKS = [
    *family("B1", "good size", [b"1", b"01", b"0000001", b"000000000000001"], fields=(CHUNKED,), body=b"{}\r\nZ\r\n" + LAST,
            status=200, sees=(b"\r\n1\r\nZ\r\n0\r\n\r\n",)),
    *family("B1", "good size of ten bytes", [b"a", b"A", b"0a", b"00A"], fields=(CHUNKED,), body=b"{}\r\n0123456789\r\n" + LAST,
            status=200, sees=(b"0123456789", b"\r\n0\r\n\r\n")),
    *family("B1", "good last chunk", [b"0", b"00", b"000000000000000"], fields=(CHUNKED,), body=b"1\r\nZ\r\n{}\r\n\r\n", status=200,
            sees=(b"\r\n1\r\nZ\r\n0\r\n\r\n",)),
    *family("B1", "line break before the first size", [b"\r\n", b"\n", b"\r"], fields=(CHUNKED,), body=b"{}1\r\na\r\n" + LAST,
            in_body=True, reason="bad_body"),
    RequestCase("B8", "8,000 chunks each with an extension of three bytes", fields=(CHUNKED,), body=b"1;ab\r\na\r\n" * 8000 + LAST,
                in_body=True, reason="bad_body"),
    RequestCase("B8", "5,000 chunks of one byte and a request behind", fields=(CHUNKED,), body=b"1\r\na\r\n" * 5000 + LAST + NEXT,
                status=200, requests=2, sees=(b"GET /next",)),
    RequestCase("B8", "chunks of every size to 300", fields=(CHUNKED,),
                body=b"".join(b"%x\r\n" % n + b"z" * n + b"\r\n" for n in range(1, 301)) + LAST, status=200, sees=(b"zzz",)),
    RequestCase("A8", "chunked body with GET", b"GET /hostile HTTP/1.1", (CHUNKED,), b"29\r\n" + SMUGGLED.ljust(41) + b"\r\n" + LAST + NEXT,
                status=200, requests=2, sees=(b"GET /next",), lacks=()),
    *family("A8", "length 0 with", [b"GET", b"POST", b"DELETE"], line=b"{} /hostile HTTP/1.1", fields=(b"Content-Length: 0",),
            body=NEXT, status=200, requests=2, sees=(b"GET /next",)),
]  # fmt: skip
FRAMING = [
    *family("A1", "though a Connection option names", [b"Content-Length", b"Transfer-Encoding", b"content-length, transfer-encoding"],
            fields=(b"Connection: {}", b"Content-Length: 6", CHUNKED), body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A3", "list", [b"5,", b",5", b"5,,5", b", 5", b"5 ,5", b"5\t,\t5", b"5,5,5", b"5;5", b"5\r\n ,5"],
            fields=(b"Content-Length: {}",), body=b"hello" + SMUGGLED),
    *family("A3", "digits", [b"\xef\xbc\x95", b"5\x00", b"\x005", b"5\x0b", b"\x0c5", b"5\x1f", b"\x7f5", b"5#", b"5/5", b"5\\", b"&#53;",
            b"%35", b"V", b"five", b"5L", b"5n", b"+", b"-", b".5", b"5.", b"1_000", b"1'000", b"0x", b"00", b"000", b"-00", b"0b101",
            b"0O5", b"infinity", b"null", b"true", b"[5]", b"{5}", b"5 5", b"5\t5", b"5  ", b"\t5\t"],
            fields=(b"Content-Length: {}",), body=b"hello" + SMUGGLED),
    *family("A4", "coding", [b"chunked (a)", b"chunked; q=1", b"chunked=1", b"chunked/1", b"chunked.", b"chunked:",
            b"chunked, identity", b"identity,chunked", b"chunked,identity", b"chunked, chunked, chunked", b"x, chunked", b"chunked, x",
            b"deflate, chunked", b"trailers", b"chunkeD,", b"c\xc4\xa5unked", b"\xef\xbb\xbfchunked", b"chunked\\r\\n", b"&chunked",
            b"*", b"none", b"false", b"0", b"chunked\x00", b"\x0bchunked", b"chunked\x0c", b"chunked\x7f", b"CHUN KED", b"chun\tked",
            b"chunked ; a", b"chunked,,", b",,chunked", b";chunked"],
            fields=(b"Transfer-Encoding: {}",), body=LAST + SMUGGLED),
    *family("A5", "name", [b"Transfer-Encoding\x1f", b"Transfer-Encoding\x7f", b"Transfer\x00-Encoding", b"Transfer Encoding",
            b"Transfer-\r\nEncoding", b"Transfer-Encoding\x80", b"\xefTransfer-Encoding", b"Transfer-Encoding;", b"Transfer-Encoding,",
            b"Transfer-Encoding\\", b"\"Transfer-Encoding\"", b"Transfer-Encoding:", b"[Transfer-Encoding]", b"Transfer-Encoding ",
            b"Transfer-Encoding\t"], fields=(b"{}: chunked",), body=LAST + SMUGGLED),
    *family("A5", "length before a name", [b"Content-Length ", b"Content-Length\t", b" Content-Length", b"Content-Length\x00",
            b"Content-Length\x0b", b"Content-Length\xa0", b"Content Length", b"Content-Length\r"], fields=(b"{}: 5",),
            body=b"hello" + SMUGGLED),
    *family("A6", "one field with a length between", [b"chunked", b"gzip", b"identity"],
            fields=(CHUNKED, b"Content-Length: 5", b"Transfer-Encoding: {}"), body=LAST + SMUGGLED),
    *family("A7", "HTTP/1.0", [b"GET", b"POST", b"PUT", b"HEAD"], line=b"{} / HTTP/1.0", fields=(CHUNKED,), body=LAST + SMUGGLED,
            reason="bad_framing"),
    *family("A10", "with", [b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"], line=b"{} /hostile HTTP/1.1", body=NEXT,
            status=200, requests=2, sees=(b"{} /hostile", b"GET /next")),
]  # fmt: skip

# Hosts that cannot be reached, expressions that take others for ever, and what might break a log line (its format is
# `program.LOG_FORMAT`): each is one line with its status, or it is found by every member that comes after it.
DEAD = [
    case
    for target, reason in ((b"/down", "connect_refused"), (b"/nobody", "no_hosts"))
    for case in (
        *family("G5", f"{target.decode()} and a request behind,", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"PURGE"],
                line=b"{} " + target + b" HTTP/1.1", body=NEXT, answers=(502, 200), reason=reason),
        *family("G5", f"{target.decode()}, a body and a request behind,", [b"GET", b"POST", b"PUT", b"PATCH"],
                line=b"{} " + target + b" HTTP/1.1", fields=(SIZED,), body=SMUGGLED + NEXT, answers=(502, 200), reason=reason),
        *family("G5", f"{target.decode()}, half a body of", [b"POST", b"PUT"], line=b"{} " + target + b" HTTP/1.1",
                fields=(b"Content-Length: 5000",), body=SMUGGLED, answers=(502,), requests=0, closes=True, reason=reason),
        *family("G5", f"{target.decode()}, an upgrade by", [b"GET"], line=b"{} " + target + b" HTTP/1.1",
                fields=(b"Upgrade: websocket", b"Connection: upgrade"), body=NEXT, answers=(502, 200), reason=reason),
    )
]  # fmt: skip
DEAD = [replace(case, status=502, only_program=True, may_stop=case.requests > 0) for case in DEAD]
EVIL = [
    *family("G7", "evil path", [b"a" * 3000 + b"!", b"aA" * 1500 + b"1", b"a" * 29 + b"!", b"%61" * 1000 + b"!", b"a/" * 1000 + b"b"],
            line=b"GET /evil/{} HTTP/1.1", status=200, only_program=True),
    *family("G7", "evil path that fits", [b"a" * 3000, b"a" * 29, b"aA" * 1500, b"%61" * 1000], line=b"GET /evil/{} HTTP/1.1", status=200,
            answers=(200,), requests=0, only_program=True),
]  # fmt: skip
ODD_TEXTS = [
    b"\"", b"\\", b"\\\"", b"a\" 200 - /", b"%n%s%(x)s", b"\t", b"\x80", b"\xff\xfe", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xc2\x9b2J",
    b"{\"a\":1}", b"${jndi:ldap://a}", b"<script>", b"'; --", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"a  b", b"-", b",", b"127.0.0.1:1 200 -",
]  # fmt: skip
LOGGED = [
    *family("G6", "agent", ODD_TEXTS, line=b"GET / HTTP/1.1", fields=(b"User-Agent: {}x",), status=200),
    *family("G6", "value", ODD_TEXTS, line=b"GET / HTTP/1.1", fields=(b"X: a{}b",), status=200),
    *family("G6", "path", [b"\"", b"'", b"%22", b"%20200%20-", b"%E2%80%A8", b"%C2%85", b"%25n", b"<a>", b"{a}", b"|", b"^", b"`", b"$a", b"%5C", b"%1"[:1] + b"25"],
            line=b"GET /a{}b HTTP/1.1", status=200),
    *family("G6", "refused agent", [b"\x1b[2J", b"\x00", b"\x07", b"\x08", b"\x7f", b"\r", b"\n", b"\r\n\r", b"\r127.0.0.1:1 200 -", b"\n127.0.0.1:1 200 -"],
            line=b"GET / HTTP/1.1", fields=(b"User-Agent: a{}b",)),
    *family("G6", "refused path", [b"\x1b", b"\n", b"\r", b"%0a", b"%0D%0A", b"%1b%5b2J", b"%00", b"\x9b", b"\xe2\x80\xa8"], line=b"GET /a{}b HTTP/1.1"),
    *family("G6", "refused method", [b"\x1b", b"\"", b"\n", b"\xff", b"\\"], line=b"G{}T / HTTP/1.1"),
    *family("G6", "refused host", [b"\x1b", b"\"", b"a\" 200", b"\xff", b"\\", b"%0a"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",), host=None),
]  # fmt: skip

EDGES = DEAD + EVIL + LOGGED + LOCAL + CUT_OFF + PIPELINED + TRAILERS + CHUNKS + FRAMING
