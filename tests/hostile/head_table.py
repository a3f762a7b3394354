"""More members of C and D: hosts, targets in normal form, what a client may not claim, fields of this hop, expectations."""

from __future__ import annotations

from dataclasses import replace

from tests.hostile.cases import SMUGGLED, RequestCase
from tests.hostile.request_table import family

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
EXPECT = b"Expect: 100-continue"
GET = b"GET {} HTTP/1.1"

HOSTS = [
    *family("C5", "host", [b"a%00b", b"a%zz", b"a%40b", b"%61", b"a;b", b"a=b", b"a&b", b"a!b", b"a$b", b"a'b", b"(a)", b"a*", b"*", b"a+b",
            b"a|b", b"a^b", b"a`b", b"a\"", b"<", b"a.example:80 ,b", b"a.example,a.example", b"a:80,b:80", b"a b:80", b"a:8 0", b"a: :",
            b"a:0x50", b"a:80x", b"a:\xb9", b"a:80/", b"a:80?x", b"a:80#x", b"a@b:80", b"@a", b"a@", b"//a", b"http:a", b"a\x00", b"\x00",
            b"a\x0bb", b"a\x7f", b"[::1]]", b"[[::1]]", b"[]", b"[::1%25lo]", b"[v1.a]", b"[1.2.3.4]", b"::1]", b"[::1]:80:80",
            b"[::1]::", b"[::1]80", b"[::1] :80", b"a..example,", b"\xef\xbc\x8f", b"xn--\xe9"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",),
            host=None),
    *family("C5", "two hosts, the first", [b"", b"a.example", b"b", b"a.example:80", b"[::1]"], line=b"GET / HTTP/1.1",
            fields=(b"Host: {}", b"Host: a.example"), host=None, reason="bad_host"),
    *family("C5", "three hosts, in", [b"Host", b"HOST", b"hOsT"], line=b"GET / HTTP/1.1", fields=(b"{}: a", b"X: 1", b"{}: a"),
            reason="bad_host"),
    *family("C5", "no host beside", [b"X-Forwarded-Host: a", b"X-Host: a", b"Forwarded: host=a", b":authority: a"[1:]],
            line=b"GET / HTTP/1.1", fields=(b"{}",), host=None, reason="bad_host"),
    *family("C5", "good host", [b"a", b"A.Example", b"a.example:8080", b"a_b.example", b"127.0.0.1", b"127.0.0.1:80", b"[::1]", b"[::1]:80",
            b"xn--bcher-kva.example", b"a.example.", b"a:0", b"a:65535", b"a-b", b"1"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",),
            host=None, status=200, sees=(b"{}\r\n",)),
    *family("C6", "absolute target", [b"http://b.example/x", b"HTTP://b.example/x", b"hTTp://b.example/./x", b"http://b.example//x",
            b"http://b.example/a/../x", b"http://B.example/x"], line=b"GET {} HTTP/1.1", status=200,
            sees=(b"GET /x HTTP/1.1\r\n", b"Host: b.example\r\n"), lacks=(b"a.example", b"//")),
    *family("C6", "absolute target and query", [b"http://b.example?x", b"http://b.example/?x", b"http://b.example/.?x"],
            line=b"GET {} HTTP/1.1", status=200, sees=(b"GET /?x HTTP/1.1\r\n", b"Host: b.example\r\n")),
    *family("C6", "empty port", [b"http://b.example:/x", b"http://B.example:/x"], line=b"GET {} HTTP/1.1", status=200,
            sees=(b"GET /x HTTP/1.1\r\n", b"Host: b.example\r\n"), lacks=(b"a.example", b"example:")),
    *family("C6", "empty port and no path", [b"http://b.example:", b"http://b.example:?x"], line=b"GET {} HTTP/1.1", status=200,
            sees=(b"Host: b.example\r\n",), lacks=(b"a.example", b"example:")),
    *family("C6", "whole server", [b"http://b.example", b"HTTP://b.example"], line=b"OPTIONS {} HTTP/1.1", status=200,
            sees=(b"OPTIONS * HTTP/1.1\r\n", b"Host: b.example\r\n")),
    *family("C6", "root of a server", [b"http://b.example/", b"http://b.example/."], line=b"OPTIONS {} HTTP/1.1", status=200,
            sees=(b"OPTIONS / HTTP/1.1\r\n", b"Host: b.example\r\n")),
    *family("C6", "HTTP/1.0 without a host to", [b"http://b.example/x"], line=b"GET {} HTTP/1.0", host=None, status=200, closes=True,
            sees=(b"GET /x HTTP/1.1\r\n", b"Host: b.example\r\n")),
    *family("C6", "no host field beside", [b"http://a.example/", b"http://a.example"], line=b"GET {} HTTP/1.1", host=None,
            reason="bad_host"),
    *family("C6", "other scheme", [b"https://a/", b"HTTPS://a/", b"ws://a/", b"file:///a", b"http+unix://a/", b"httpx://a/",
            b"http:///a", b"http://", b"http://?a", b"http://:80/", b"http://:/", b"http://a:80:80/", b"http://a@b/", b"http://[::1/",
            b"http://a,b/", b"http://a%00/", b"http:/a/", b"http:\\\\a/"], line=GET),
    RequestCase("C7", "whole server asked about", b"OPTIONS * HTTP/1.1", status=200, sees=(b"OPTIONS * HTTP/1.1\r\n",)),
    *family("C7", "asterisk with", [b"HEAD", b"PUT", b"DELETE", b"TRACE", b"PATCH"], line=b"{} * HTTP/1.1", reason="bad_target"),
    *family("C7", "odd asterisk", [b"**", b"*/", b"*a", b"*?", b"*?a=b", b"%2a"], line=b"OPTIONS {} HTTP/1.1"),
    *family("C7", "authority with GET", [b"a:80", b"a", b"a.example:443", b"[::1]:80", b"127.0.0.1:80", b"@a", b"a@b:80"], line=GET),
]  # fmt: skip

NORMAL = {
    b"/a/b/../c": b"/a/c", b"/a/b/../../c": b"/c", b"/a/./././b": b"/a/b", b"///a": b"/a", b"/a///b": b"/a/b", b"/a/.": b"/a/", b"/.": b"/",
    b"/a/%2e": b"/a/", b"/a/%2E%2e/b": b"/b", b"/%41%5a%61%7a%30%39": b"/AZaz09", b"/%2d%2e%5f%7e": b"/-._~", b"/a%2Fb": b"/a%2Fb",
    b"/%e2%82%ac": b"/%E2%82%AC", b"/%20": b"/%20", b"/%25": b"/%25", b"/%252f": b"/%252f", b"/%25%32%66": b"/%252f", b"/a;b=c": b"/a;b=c",
    b"/a;/b": b"/a;/b", b"/...": b"/...", b"/..a": b"/..a", b"/a../b": b"/a../b", b"/%2e%2ea": b"/..a", b"/a%3b": b"/a%3B",
    b"/%c0%af": b"/%C0%AF", b"/%80": b"/%80", b"/a?b/../c": b"/a?b/../c", b"/a?%2e%2e": b"/a?%2e%2e", b"/a?": b"/a?", b"/a??": b"/a??",
    b"/a/..//b": b"/b", b"/a//../b": b"/b", b"/./": b"/", b"//": b"/", b"/%3f": b"/%3F", b"/%23": b"/%23", b"/a=b&c": b"/a=b&c",
    b"/!$&'()*+,:@": b"/!$&'()*+,:@",
}  # fmt: skip
BYPASS = [b"/denied", b"//denied", b"/./denied", b"/x/../denied", b"/%64enied", b"/d%65nied", b"/x/%2e%2e/denied", b"/x/.%2e/denied",
          b"/%2e/denied", b"/denied/", b"/denied/x", b"/denied?x", b"/denied/../denied", b"///x//..///denied", b"http://a/denied",
          b"http://a//denied", b"http://a/x/../denied", b"/%64%65%6e%69%65%64", b"/denied;x", b"/denied%2fx", b"/denied%20"]  # fmt: skip
TARGETS = [
    *(RequestCase("C11", f"normal form of {path!r}", b"GET " + path + b" HTTP/1.1", status=200, sees=(b"GET " + normal + b" HTTP/1.1\r\n",))
      for path, normal in NORMAL.items()),
    *(RequestCase("C11", f"no way around a route by {path!r}", b"GET " + path + b" HTTP/1.1", status=401, answers=(401,), requests=0,
                  keeps=True, only_program=True) for path in BYPASS),
    *family("C11", "path that can be read in two ways", [b"/..;/a", b"/a/..;b/c", b"/.;/a", b"/a/..%2fb", b"/a/..%2Fb", b"/%2f../a",
            b"/a%2f..", b"/a/..%5cb", b"/..%5c", b"/a%5c..", b"/%2e%2e%2fa", b"/%2e%2e%5ca", b"/%2e%2e;/a", b"/a/%2e;x/b", b"/x%2f.%2fdenied",
            b"/x%2f%2e%2e%2fdenied"], line=GET, reason="bad_target"),
    *family("C11", "bad escape", [b"/%", b"/%%", b"/%1", b"/%g1", b"/%1g", b"/a%", b"/%u0041", b"/%x41", b"/%-1", b"/% 1", b"/%+1", b"/a%2",
            b"/%\xb2\xb2", b"/%00", b"/a%00", b"/%00/..", b"/%01", b"/%09", b"/%0a", b"/%0d", b"/%0D%0A%0D%0A", b"/%1b", b"/%1F", b"/%7f",
            b"/%0d%0aHost:%20evil"], line=GET),
    *family("C11", "above the root", [b"/..", b"/../", b"/../..", b"/a/../..", b"/a/../../", b"/./..", b"//..", b"/%2e%2e", b"/%2E%2E/a",
            b"/.%2e", b"/%2e.", b"/a/b/../../../c", b"http://a/.."], line=GET, reason="bad_target"),
    *family("C10", "backslash in the query", [b"/?\\", b"/a?b\\c", b"/a?\\..\\x", b"/?a=\\?\\&b"], line=GET, status=200, sees=(b"GET {} HTTP/1.1\r\n",)),
    *family("C10", "target", [b"/a\\?b\\c", b"/\\?", b"/a\x0bb", b"/a\x0cb", b"/a\x01", b"/\x1f", b"/a\x9fb", b"/\xa0", b"/\xff", b"/a\\..\\b", b"\\", b"/\\", b"/a#", b"/#",
            b"/?#", b"/a#?b", b"#a", b"/%23#", b"/\xe2\x82\xac", b"/a\x00", b"\x00/a", b"/a?\x00", b"/a?b\x80", b"/a?b c"], line=GET),
    *family("C9", "version", [b"HTTP/1.10", b"HTTP/1.01", b"HTTP/11.1", b"HTTP/1.1a", b"HTTP/1", b"HTTP/", b"HTTP", b"HTTP/.1", b"HTTP/1..1",
            b"HTTP/ 1.1", b"HTTP /1.1", b"HTTP/1.1;", b"HTTP/1.1,", b"HTTP\\1.1", b"HTTP/1.\x00", b"HTTP/1.1\x00", b"HTTP/1.1\t", b"HTTP/1.1 ",
            b"Http/1.1", b"HTTP/one", b"HTTP/-1.1", b"HTTP/0.0", b"HTTP/1.2", b"HTTP/2.1", b"HTTP/9.0", b"XHTTP/1.1", b"/1.1", b"1.1",
            b"SPDY/3.1", b"RTSP/1.0", b"HTTP/1.\xb1"], raw=b"GET / {}\r\nHost: a\r\n\r\n", answers=(400,), requests=0),
]  # fmt: skip
TARGETS = [
    replace(
        case, status=505 if case.name.split("'")[1] in ("HTTP/0.0", "HTTP/1.2", "HTTP/2.1", "HTTP/9.0") else 400, answers=()
    )
    if case.row == "C9"
    else case
    for case in TARGETS
]

CLAIMS = [b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Forwarded-Prefix", b"X-Forwarded-Server", b"X-Forwarded-By",
          b"X-Forwarded-Client-Cert", b"X-Real-IP", b"Forwarded", b"X-Mosn-Anything", b"x-mosn-original-path", b"X-Mosn-Host",
          b"X-Envoy-Internal", b"X-Envoy-External-Address", b"X-Envoy-Original-Path", b"X-Envoy-Force-Trace",
          b"X-Envoy-Expected-Rq-Timeout-Ms", b"X-Envoy-Downstream-Service-Cluster", b"x-mosn-global-timeout",
          b"x-mosn-try-timeout"]  # fmt: skip
FIELDS = [
    *family("C15", "claim", CLAIMS, line=b"GET / HTTP/1.1", fields=(b"{}: evil",), status=200, lacks=(b"evil",), only_program=True),
    *family("C15", "claim twice", CLAIMS[:10], line=b"GET / HTTP/1.1", fields=(b"{}: evil", b"{}: evil2"), status=200, lacks=(b"evil",)),
    *family("C15", "X-Forwarded-For is appended to", [b"9.9.9.9", b"unknown", b"9.9.9.9, 8.8.8.8", b"\"[::1]\"", b"_hidden", b"evil\xff"],
            line=b"GET / HTTP/1.1", fields=(b"X-Forwarded-For: {}",), status=200, sees=(b"x-forwarded-for: {}, 127.",), only_program=True),
    RequestCase("C15", "two X-Forwarded-For", b"GET / HTTP/1.1", (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2"), status=200,
                sees=(b"x-forwarded-for: 1.1.1.1, 2.2.2.2, 127.",), only_program=True),
    RequestCase("C15", "our own word about the scheme", b"GET / HTTP/1.1", (b"X-Forwarded-Proto: https",), status=200,
                sees=(b"x-forwarded-proto: http\r\n",), lacks=(b"x-forwarded-proto: https\r\n",), only_program=True),
    *family("C14", "look-alike", [b"X_Real_IP", b"X_Real-IP", b"x_forwarded_host", b"X_Forwarded-Proto", b"X-Forwarded_For", b"X_MOSN_A",
            b"x-envoy_internal", b"X_Envoy-Internal", b"Content_Type", b"Content_length", b"CONTENT_LENGTH", b"TRANSFER_ENCODING",
            b"Proxy_Connection", b"Proxy_Authorization", b"HTTP2_Settings", b"X_Request_Id", b"Set_Cookie"],
            line=b"GET / HTTP/1.1", fields=(b"{}: evil",), status=200, lacks=(b"evil",)),
    *family("C14", "no look-alike", [b"X_Mine", b"_", b"a_b_c", b"X_Forwarded", b"_Host", b"Content__Length"], line=b"GET / HTTP/1.1",
            fields=(b"{}: kept",), status=200, sees=(b"kept",)),
    *family("C16", "Connection cannot strip ours:", [b"x-forwarded-for", b"X-Forwarded-Proto", b"x-request-id", b"close, X-Forwarded-For",
            b"keep-alive, x-forwarded-for, x-forwarded-proto, x-request-id", b"X-Forwarded-For,X-Forwarded-For"], line=b"GET / HTTP/1.1",
            fields=(b"Connection: {}",), status=200, sees=(b"x-forwarded-for: 127.", b"x-forwarded-proto: http\r\n", b"x-request-id: "),
            only_program=True),
    *family("C16", "Connection names", [b"Host", b"host, x", b"Cookie", b"Authorization", b"Content-Type", b"close, Cookie, Authorization, Host"],
            line=b"GET / HTTP/1.1", fields=(b"Connection: {}", b"Cookie: kept1", b"Authorization: kept2", b"Content-Type: kept3"), status=200,
            sees=(b"kept1", b"kept2", b"kept3", b"Host: a.example"), lacks=(b"onnection",)),
    *family("C16", "Connection names it, so it goes:", [b"X-Mine", b"x-mine", b"X-Mine, X-Other", b"\tX-Mine\t", b",, X-Mine ,", b"close,X-MINE"],
            line=b"GET / HTTP/1.1", fields=(b"Connection: {}", b"X-Mine: gone"), status=200, lacks=(b"gone", b"X-Mine")),
    RequestCase("C16", "length named by Connection stays", b"POST / HTTP/1.1", (b"Connection: Content-Length", b"Content-Length: 5"), b"hello" + NEXT,
                status=200, requests=2, sees=(b": 5\r\n", b"GET /next")),
    *family("C17", "of this hop", [b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: gzip", b"Trailer: X", b"Upgrade: foo/1",
            b"Proxy-Authorization: Basic x", b"HTTP2-Settings: AAMAAABk"], line=b"GET / HTTP/1.1", fields=(b"{}",), status=200,
            lacks=(b"{}",)),
    *family("C3", "line", [b"X 1", b": ", b":x", b"X\r\n", b"=: 1", b"{: 1", b"}: 1", b"\x7f: 1", b"\x00", b"\x00: 1", b"X\x1f: 1", b"X \t: 1",
            b"X:\x00", b"<script>: 1", b"X?: 1", b"a=b: 1", b"\xef\xbb\xbfX: 1", b"HTTP/1.1 200 OK: 1", b"GET / HTTP/1.1"], fields=(b"{}",)),
    *family("C4", "every token character in a name", [b"!#$%&'*+-.^_`|~0", b"9", b"a", b"Z", b"~", b"!"], line=b"GET / HTTP/1.1",
            fields=(b"{}: kept",), status=200, sees=(b": kept\r\n",)),
    *family("C4", "value", [b"", b" ", b"\t", b"a:b", b"a\tb", b"a  b", b":", b"\xff\xfe", b"a;b,c", b"\"", b"\\", b"{}"], line=b"GET / HTTP/1.1",
            fields=(b"X-Y: 1{}2",), status=200, sees=(b": 1{}2\r\n",)),
    *family("C8", "method", [b"G", b"get", b"GeT", b"GET,", b"GET;", b"GET\xa0", b"GET\x00", b"\"GET\"", b"<GET>", b"GET/", b"G@T", b"{GET}", b"G\\T",
            b"\xffGET", b"GET\x0b", b"GET\x0c", b"=", b"A" * 33, b"A" * 5000], line=b"{} / HTTP/1.1", answers=(400,), requests=0),
]  # fmt: skip
FIELDS = [
    replace(case, status=200, answers=(), requests=1)
    if case.row == "C8" and case.name == "method 'G'"
    else replace(case, answers=())
    if case.row == "C8"
    else case
    for case in FIELDS
]

EXPECTATIONS = [
    *family("D2", "expecting 100 with its body and a request behind,", [b"POST", b"PUT", b"GET", b"PATCH"], line=b"{} /hostile HTTP/1.1",
            fields=(EXPECT, b"Content-Length: %d" % len(SMUGGLED)), body=SMUGGLED + NEXT, status=200, requests=2, sees=(b"GET /next",),
            lacks=()),
    RequestCase("D2", "expecting 100, length 0, and a request behind", fields=(EXPECT, b"Content-Length: 0"), body=NEXT, status=200,
                requests=2, sees=(b"GET /next",)),
    RequestCase("D2", "expecting 100, chunked, and a request behind", fields=(EXPECT, b"Transfer-Encoding: chunked"),
                body=b"29\r\n" + SMUGGLED.ljust(41) + b"\r\n0\r\n\r\n" + NEXT, status=200, requests=2, sees=(b"GET /next",), lacks=()),
    *family("D3", "expectation", [b"100-continu", b"100-continue;x", b"\"100-continue\"", b"continue", b"x", b"101-switch",
            b"100-continue 100-continue", b"100-continue,100-continue", b"0", b"100_continue"], fields=(b"Expect: {}",), status=417,
            reason="bad_expectation"),
    *family("D3", "good expectation", [b"100-continue", b"100-Continue", b"100-CONTINUE", b" 100-continue "], fields=(b"Expect: {}",
            b"Content-Length: 5"), body=b"hello", status=200, sees=(b": {}\r\n",)),
    RequestCase("D3", "in HTTP/1.0", b"POST /hostile HTTP/1.0", (EXPECT, b"Content-Length: 5"), b"hello", status=200, closes=True,
                sees=(b"hello",), lacks=(b"xpect",)),
    RequestCase("D3", "in HTTP/1.0, kept alive", b"POST /hostile HTTP/1.0", (EXPECT, b"Content-Length: 5", b"Connection: keep-alive"),
                b"hello" + NEXT, status=200, requests=2, sees=(b"hello", b"/next"), lacks=(b"xpect",)),
    *family("D1", "early", [b"401", b"413", b"417", b"200", b"503"], line=b"POST /early/{} HTTP/1.1", fields=(EXPECT, b"Content-Length: 40"),
            status=200, answers=(200,), requests=0, in_body=True, closes=True, only_program=True),
    *family("E5", "early and half the body there,", [b"401", b"413", b"200"], line=b"POST /early/{} HTTP/1.1",
            fields=(b"Content-Length: 400000",), body=b"x" * 1000, status=200, answers=(200,), requests=0, in_body=True, closes=True,
            only_program=True),
    *family("E5", "early and half the chunks there,", [b"401", b"413", b"200"], line=b"POST /early/{} HTTP/1.1",
            fields=(b"Transfer-Encoding: chunked",), body=b"5\r\nhello\r\n", status=200, answers=(200,), requests=0, in_body=True, closes=True,
            only_program=True),
    *family("D5", "not switched:", [b"h2c", b"h2c, websocket", b"HTTP/2.0", b"TLS/1.0", b"h2"], line=b"GET / HTTP/1.1",
            fields=(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: {}", b"HTTP2-Settings: AAMAAABkAAQAAP__"), status=200,
            lacks=(b"ettings",)),
    *family("D5", "websocket without its", [b"X: 1", b"Connection: close", b"Connection: keep-alive", b"Connection: x-upgrade"],
            line=b"GET / HTTP/1.1", fields=(b"Upgrade: websocket", b"{}", b"Sec-WebSocket-Version: 13"), status=200, closes=False,
            lacks=(b"Upgrade", b"pgrade: ")),
    RequestCase("D5", "websocket in HTTP/1.0", b"GET / HTTP/1.0", (b"Connection: upgrade", b"Upgrade: websocket"), status=200, closes=True,
                lacks=(b"pgrade",)),
]  # fmt: skip
EXPECTATIONS = [
    replace(
        case, answers=(int(case.line.split(b"/")[2].split(b" ")[0]),), status=int(case.line.split(b"/")[2].split(b" ")[0])
    )
    if b"/early/" in case.line
    else replace(case, closes=any(b"close" in line for line in case.fields))
    if "without its" in case.name
    else case
    for case in EXPECTATIONS
]

HEADS = HOSTS + TARGETS + FIELDS + EXPECTATIONS
