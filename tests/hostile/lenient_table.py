"""What a listener with `"profile": "compatible"` forgives, in the form in which it passes it on, and what even that refuses."""

from __future__ import annotations

from tests.hostile.cases import SMUGGLED, RequestCase
from tests.hostile.request_table import CHUNKED, LAST, family

GET = b"GET {} HTTP/1.1"
SETTINGS = {"profile": "compatible"}

TABLE = [
    *family("C1", "all lines end with LF:", [b"X: 1\n", b"X: 1\nY: 2\n", b"\x58: \xff\n"], raw=b"GET / HTTP/1.1\nHost: a\n{}\n", status=200,
            sees=(b"GET / HTTP/1.1\r\n", b"X: ", b"Host: a\r\n")),
    *family("C1", "one line ends with LF:", [b"X: 1\nY: 2\r\n", b"X: 1\r\nY: 2\n"], raw=b"GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", status=200,
            sees=(b"X: 1\r\nY: 2\r\n",)),
    RequestCase("C13", "empty line that is an LF", raw=b"\nGET / HTTP/1.1\nHost: a\n\n", status=200, sees=(b"GET / ",)),
    RequestCase("C1", "LF and a field of this hop", raw=b"GET / HTTP/1.1\nHost: a\nKeep-Alive: x\nX: 1\nTE: x\n\n", status=200,
                sees=(b"Host: a\r\nX: 1\r\n",), lacks=(b"eep-",)),
    RequestCase("A2", "two lengths that agree", fields=(b"Content-Length: 5", b"Content-Length: 5"), body=b"hello", status=200,
                sees=(b"content-length: 5\r\n", b"\r\n\r\nhello")),
    *family("A3", "length", [b"05", b"005", b"5\t", b"\t5", b"5 ", b"5,5", b"5, 5", b"5 ,\t05"], fields=(b"Content-Length: {}",), body=b"hello",
            status=200, sees=(b"content-length: 5\r\n", b"\r\n\r\nhello")),
    *family("A4", "coding", [b"chunked ", b"chunked\t", b"\tchunked", b" CHUNKED "], fields=(b"Transfer-Encoding: {}",), body=b"1\r\na\r\n" + LAST,
            status=200, sees=(b"transfer-encoding: chunked\r\n",)),
    *(RequestCase("C11", f"path {path!r}", b"GET " + path + b" HTTP/1.1", status=200, sees=(b"GET " + normal + b" HTTP/1.1\r\n",))
      for path, normal in ((b"/..", b"/"), (b"/../a", b"/a"), (b"/a/../../b", b"/b"), (b"/100%", b"/100%25"), (b"/%zz", b"/%25zz"),
                           (b"/%%41", b"/%25A"), (b"/..;/a", b"/..;/a"), (b"/a/..%2fb", b"/a/..%2Fb"))),
    *(RequestCase("C10", f"8-bit bytes {target!r}", b"GET " + target + b" HTTP/1.1", status=200, sees=(b"GET " + sent + b" HTTP/1.1\r\n",))
      for target, sent in ((b"/\xc3\xa9", b"/%C3%A9"), (b"/a?\xc3\xa9=\xff", b"/a?%C3%A9=%FF"), (b"/\xff/../\x80", b"/%80"), (b"/?\\\xe9", b"/?\\%E9"))),
    *family("C5", "zone of an address", [b"[fe80::1%25eth0]", b"[FE80::1%25a.b]:"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",), host=None, status=200,
            sees=(b"Host: [fe80::1]\r\n",)),
    *family("C5", "8-bit bytes or zone in a host", [b"\xc3\xa9", b"[fe80::1%eth0]", b"[::1%25]", b"[::1%25a]b"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",),
            host=None, reason="bad_host"),
    *family("C6", "8-bit bytes in an authority", [b"http://\xc3\xa9/", b"http://a\xff/x"], line=GET, reason="bad_host"),
    *family("C5", "host", [b"a!b", b"a%20b", b"a+b"], line=b"GET / HTTP/1.1", fields=(b"Host: {}",), host=None, status=200, sees=(b": {}\r\n",)),
    # Never forgiven.
    RequestCase("A1", "length and chunked", fields=(b"Content-Length: 5", CHUNKED), body=LAST + SMUGGLED, reason="bad_framing"),
    *family("A2", "lengths that differ", [b"6", b"0", b"x", b""], fields=(b"Content-Length: 5", b"Content-Length: {}"), body=b"hello" + SMUGGLED,
            reason="bad_framing"),
    *family("A3", "length", [b"5,6", b"5,", b",5", b"+5", b"-5", b"0x5", b"5 5", b"", b" ", b",", b"5;5", b"\xa05", b"1" * 20, b"5,5,6"],
            fields=(b"Content-Length: {}",), body=b"hello" + SMUGGLED, reason="bad_framing"),
    *family("A4", "coding", [b"xchunked", b"chunked, chunked", b"chunked,", b"", b"\x0bchunked", b"chunked;a", b"identity"],
            fields=(b"Transfer-Encoding: {}",), body=LAST + SMUGGLED, status=400),
    RequestCase("A7", "coding in HTTP/1.0", b"POST / HTTP/1.0", (CHUNKED,), LAST + SMUGGLED, reason="bad_framing"),
    *family("B2", "LF in chunks", [b"1\na\r\n", b"1\r\na\n", b"1;a\n\r\na\r\n"], fields=(CHUNKED,), body=b"{}" + LAST, in_body=True,
            reason="bad_body"),
    *family("C1", "CR alone", [b"X: 1\rY: 2", b"X\r: 1", b"X: 1\r\r"], fields=(b"{}",)),
    *family("C2", "folded", [b"X: 1\n 2", b"X: 1\r\n\t2"], fields=(b"{}",)),
    *family("C3", "line", [b"X : 1", b" X: 1", b"X", b": 1"], fields=(b"{}",)),
    *family("C4", "in a value", [b"\x00", b"\x01", b"\x7f"], fields=(b"X: a{}b",)),
    *family("C5", "host", [b"", b"a,b", b"u@a", b"a/b", b"a:x"], fields=(b"Host: {}",), host=None, reason="bad_host"),
    *family("C10", "target", [b"/a b", b"/a#b", b"/a\\b", b"/\xc3\xa9\\", b"/\xc3#", b"/\x00", b"/?\xc3 \xa9", b"/?\xc3\x7f"], line=GET),
    *family("C11", "path", [b"/%00", b"/%0d%0a", b"/%7f"], line=GET, reason="bad_target"),
]  # fmt: skip
TABLE = [
    case
    if case.name != "coding 'identity'"
    else RequestCase(case.row, case.name, fields=case.fields, body=case.body, status=501)
    for case in TABLE
]
