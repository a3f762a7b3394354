"""Rows F2 to F7 and F12 of the hostile catalogue: what a request in HTTP/2 must not make of a request in HTTP/1."""

from __future__ import annotations

from tests.hostile.h2_cases import BASE, EITHER, OK, OTHERS, REFUSED, H2Case, family, head
from tests.hostile.request_table import CODINGS, LENGTHS, UNSUPPORTED

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


#: Bytes that no field name has (RFC 9110 section 5.6.2, RFC 9113 section 8.2.1), without the colon, which may be first.
def _normal(host: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What the upstream gets of BASE with this host."""
    return ((b":method", b"POST"), (b":path", b"/hostile"), (b"host", host), *OTHERS)


NOT_IN_NAMES = [bytes([byte]) for byte in (*range(33), *b'"(),/:;<=>?@[\\]{}', *range(65, 91), *range(127, 256))]
#: Bytes that no value has: RFC 9113 forbids the first three, RFC 9110 the others.
NOT_IN_VALUES = [bytes([byte]) for byte in (0, 10, 13)]
CONTROLS = [bytes([byte]) for byte in (*range(1, 9), 11, 12, *range(14, 32), 127)]
IN_VALUES = [bytes([byte]) for byte in (9, 32, *b'"(),/:;<=>?@[\\]{}%', *range(128, 256, 5), 255)]
SPLITTERS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"\r\n\r\n" + SMUGGLED,
    b"\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    b"\r\nTransfer-Encoding: chunked\r\n",
    b"\r\n ",
    b"\n\t",
]
ODD_LENGTHS = [length for length in LENGTHS if length not in (b"5", b"00", b"05", b"0005")]

LENGTH = [
    # F2: what content-length says and what comes
    *family("F2", "length, no content", [b"1", b"5", b"40"], fields=((b"content-length", b"{}"),), in_body=True),
    *family("F2", "length, five bytes", [b"0", b"1", b"4", b"6", b"40", b"99999999999"], fields=((b"content-length", b"{}"),),
            data=(b"hello",), in_body=True),
    *family("F2", "length, two frames", [b"5", b"9", b"11", b"0"], fields=((b"content-length", b"{}"),),
            data=(b"hello", b"world"), in_body=True),
    *family("F2", "length, smuggled request", [b"0", b"1", b"5"], fields=((b"content-length", b"{}"),), data=(SMUGGLED,),
            in_body=True),
    *family("F2", "length, trailers", [b"4", b"6", b"0"], fields=((b"content-length", b"{}"),), data=(b"hello",),
            trailers=((b"x", b"1"),), in_body=True),
    *family("F2", "odd length", ODD_LENGTHS, fields=((b"content-length", b"{}"),), data=(b"hello",), outcome=REFUSED),
    *family("F2", "two lengths, second", [b"6", b"0", b"40", b""], fields=((b"content-length", b"5"), (b"content-length", b"{}")),
            data=(b"hello",), outcome=REFUSED),
    *family("F2", "two lengths, first", [b"6", b"0", b"40", b"+5"], fields=((b"content-length", b"{}"), (b"content-length", b"5")),
            data=(b"hello",), outcome=REFUSED),
    *family("F2", "right length", [b"5"], fields=((b"content-length", b"{}"),), data=(b"hello",), outcome=OK),
    H2Case("F2", "right length in many frames", OK, fields=((b"content-length", b"10"),), data=(b"he", b"", b"llo", b"w", b"orld")),
    H2Case("F2", "length 0 without content", OK, fields=((b"content-length", b"0"),)),
    H2Case("F2", "content without a length", OK, data=(b"hello", b"", b"world")),
    H2Case("F2", "content that looks like a request", OK, data=(SMUGGLED, b"0\r\n\r\n" + SMUGGLED)),
    H2Case("F2", "content that looks like a chunk", OK, data=(b"0\r\n\r\n", SMUGGLED)),
]  # fmt: skip

CONNECTION = [
    # F3: fields of a connection
    *family("F3", "transfer-encoding", [b"chunked", b"identity", b"", *CODINGS[:12], *UNSUPPORTED],
            fields=((b"transfer-encoding", b"{}"),), data=(b"0\r\n\r\n" + SMUGGLED,)),
    *family("F3", "transfer-encoding and a length", [b"chunked", b"identity"],
            fields=((b"transfer-encoding", b"{}"), (b"content-length", b"5")), data=(b"0\r\n\r\n",)),
    *family("F3", "connection", [b"close", b"keep-alive", b"x-y", b"content-length", b"transfer-encoding", b"host", b""],
            fields=((b"connection", b"{}"),)),
    *family("F3", "field of a connection", [b"keep-alive", b"proxy-connection", b"upgrade"], fields=((b"{}", b"x"),)),
    *family("F3", "upgrade", [b"h2c", b"websocket", b"TLS/1.0", b""], fields=((b"upgrade", b"{}"),)),
    *family("F3", "te", [b"gzip", b"chunked", b"trailers, gzip", b"trailers;q=1", b"gzip, trailers", b"trailers,", b"trailer"],
            fields=((b"te", b"{}"),)),
    H2Case("F3", "te: trailers", OK, fields=((b"te", b"trailers"),)),
    *family("F3", "in trailers", [b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"upgrade"],
            data=(b"hello",), trailers=((b"{}", b"chunked"),), in_body=True),
]  # fmt: skip

BYTES = [
    # F4: bytes that break out of a line
    *family("F4", "byte before a name", [byte for byte in NOT_IN_NAMES if byte != b":"], fields=((b"{}x", b"1"),)),
    *family("F4", "byte in a name", NOT_IN_NAMES, fields=((b"x{}y", b"1"),)),
    *family("F4", "byte behind a name", NOT_IN_NAMES, fields=((b"x{}", b"1"),)),
    H2Case("F4", "empty name", fields=((b"", b"1"),)),
    *family("F4", "name", [b"transfer-encoding ", b" transfer-encoding", b"transfer-encoding:", b"content-length:", b"Host", b"HOST",
                           b"Content-Length", b"Transfer-Encoding", b"x: y\r\nz", b"x\r\ntransfer-encoding: chunked\r\ny",
                           b"host: evil\r\nx", b"x\x00y", b":x", b"x\tz", b"\xc3\xa9"], fields=((b"{}", b"5"),), data=(b"hello",)),
    *family("F4", "splitter in a value", SPLITTERS, fields=((b"x-y", b"a{}b"),)),
    *family("F4", "splitter before a value", SPLITTERS, fields=((b"x-y", b"{}b"),)),
    *family("F4", "splitter behind a value", SPLITTERS, fields=((b"x-y", b"a{}"),)),
    *family("F4", "splitter in a known field", SPLITTERS, fields=((b"user-agent", b"a{}b"),)),
    *family("F4", "splitter in a cookie", SPLITTERS, fields=((b"cookie", b"a=1"), (b"cookie", b"b={}2"))),
    *family("F4", "splitter in host", SPLITTERS, head=head(authority=None), fields=((b"host", b"a{}b"),), outcome=REFUSED),
    *family("F4", "control in a value", CONTROLS, fields=((b"x-y", b"a{}b"),), outcome=REFUSED),
    *family("F4", "control alone", [*CONTROLS, *NOT_IN_VALUES], fields=((b"x-y", b"{}"),), outcome=REFUSED),
    *family("F4", "space around a value", [b" a", b"a ", b"\ta", b"a\t", b" ", b"\t", b" a "], fields=((b"x-y", b"{}"),)),
    *family("F4", "byte in a value", IN_VALUES, fields=((b"x-y", b"a{}b"),), outcome=OK),
    H2Case("F4", "empty value", OK, fields=((b"x-y", b""),)),
    *family("F4", "in :method", [*SPLITTERS, b" ", b"\t", b" /x HTTP/1.1\r\nx: y", b":", b"/", b"\xe9", b"\x01", b"\x7f", b"("],
            head=head(method=b"GE{}T"), outcome=REFUSED),
    *family("F4", ":method", [b"", b" GET", b"GET ", b"GET\r\n", b"G" * 300], head=head(method=b"{}"), outcome=REFUSED),
    *family("F4", "in :path", [*SPLITTERS, b" ", b"\t", b" HTTP/1.1\r\nx: y\r\n\r\n", b"\x01", b"\x7f", b" HTTP/1.0", b"#", b"#f"],
            head=head(path=b"/a{}b"), outcome=REFUSED),
    *family("F4", "backslash in the query", [b"/a?b\\c", b"/?\\..\\"], head=head(path=b"{}"), outcome=OK),
    *family("F4", "8-bit byte in a path", [b"/a\xc3\xa9", b"/?\xff", b"/\x80?a"], head=head(path=b"{}"), outcome=REFUSED),
    H2Case("F4", "empty port", OK, head=head(authority=b"A.example:"), said=_normal(b"a.example")),
    H2Case("F4", "empty port of an address", OK, head=head(authority=b"[::1]:"), said=_normal(b"[::1]")),
    *family("F4", "no host but a colon", [b":", b"a.example::", b"[::1]::"], head=head(authority=b"{}"), outcome=REFUSED),
    *family("F4", "in the query", [*SPLITTERS, b" ", b"\t", b"\x01", b"\x7f", b"#"], head=head(path=b"/a?b{}c"), outcome=REFUSED),
    *family("F4", ":path", [b"/ ", b" /", b"/\r\n", b"/\x00", b"/a\\b HTTP/1.1", b"/%00", b"/%0d%0aX: y"], head=head(path=b"{}"),
            outcome=REFUSED),
    *family("F4", "in :authority", [*SPLITTERS, b" ", b"\t", b"/", b"?", b"#", b"@", b"\\", b",", b"\x01", b"\x7f", b"<", b"\""],
            head=head(authority=b"a{}b"), outcome=REFUSED),
    *family("F4", ":authority", [b"user@a.example", b"user:secret@a.example", b"a.example:x", b"a.example:-1", b"a.example:99999999",
                                 b"a.example:80:80", b"[::1", b"a b", b"http://a.example", b"a.example/x", b"a,b", b" a.example",
                                 b"a.example ", b"a.example\r\nx: y", b":80"], head=head(authority=b"{}"), outcome=REFUSED),
    *family("F4", "in :scheme", [*SPLITTERS, b" ", b"\t", b"\x00", b"://evil/x?", b"/", b":"], head=head(scheme=b"http{}"),
            outcome=REFUSED),
    *family("F4", ":scheme", [b"", b" http", b"http ", b"1http", b"http://a.example/?"], head=head(scheme=b"{}"), outcome=REFUSED),
    *family("F4", "in trailers", [*SPLITTERS], data=(b"hello",), trailers=((b"x-y", b"a{}b"),), in_body=True),
    *family("F4", "name in trailers", [b"X", b"x y", b"x:", b"", b"x\r\ny", b"x\x00", b"\xe9"], data=(b"hello",),
            trailers=((b"{}", b"1"),), in_body=True),
]  # fmt: skip

NAMES = (b":method", b":scheme", b":authority", b":path")


def _without(name: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(pair for pair in BASE if pair[0] != name)


PSEUDO = [
    # F5: the pseudo-header fields, and the host
    *[H2Case("F5", f"no {name.decode()}", head=_without(name)) for name in (b":method", b":scheme", b":path")],
    H2Case("F5", "no authority and no host", REFUSED, head=_without(b":authority")),
    *[H2Case("F5", f"{name.decode()} twice", head=(*BASE, pair)) for name, pair in zip(NAMES, BASE, strict=True)],
    *[H2Case("F5", f"{name.decode()} twice, empty", head=(*BASE, (name, b""))) for name in NAMES],
    *[H2Case("F5", f"{name.decode()} first empty", head=((name, b""), *BASE)) for name in NAMES],
    *[H2Case("F5", f"late {pair[0].decode()}", head=_without(pair[0]), fields=(OTHERS[0], pair), in_order=True) for pair in BASE],
    *[H2Case("F5", f"late second {pair[0].decode()}", fields=(pair,), in_order=True) for pair in BASE],
    *family("F5", "unknown", [b":status", b":foo", b":", b":Method", b":METHOD", b":path ", b":authority:", b":host", b":version",
                              b":protocol\x00", b"::method", b":scheme\r\n"], head=(*BASE, (b"{}", b"200"))),
    *family("F5", "unknown first", [b":status", b":foo", b":", b":Path"], head=((b"{}", b"200"), *BASE)),
    *family("F5", "protocol without CONNECT", [b"websocket", b"", b"connect-udp"], head=(*BASE, (b":protocol", b"{}"))),
    *family("F5", "pseudo in trailers", [b":method", b":path", b":scheme", b":authority", b":status", b":foo"], data=(b"hello",),
            trailers=((b"{}", b"/smuggled"),), in_body=True),
    *family("F5", "path", [b"", b"a", b"hostile", b"?x", b"http://a.example/", b"*", b"/../x", b"..", b"\\"],
            head=head(path=b"{}"), outcome=REFUSED),
    *family("F5", "host that differs", [b"b.example", b"evil", b"a.example:81", b"a.example.", b"xa.example", b"", b"a.example, b.example",
                                        b"a.example b", b"user@a.example"], fields=((b"host", b"{}"),), outcome=REFUSED),
    *family("F5", "two hosts", [b"a.example", b"evil", b""], fields=((b"host", b"a.example"), (b"host", b"{}")), outcome=REFUSED),
    *family("F5", "two hosts without authority", [b"a.example", b"evil"], head=_without(b":authority"),
            fields=((b"host", b"a.example"), (b"host", b"{}")), outcome=REFUSED),
    H2Case("F5", "empty authority, other host", REFUSED, head=head(authority=b""), fields=((b"host", b"evil"), (b"host", b"a"))),
    H2Case("F5", "host that agrees but for an empty port", OK, fields=((b"host", b"A.example:"),)),
    H2Case("F5", "host that agrees", OK, fields=((b"host", b"a.example"),)),
    H2Case("F5", "host alone", OK, head=_without(b":authority"), fields=((b"host", b"a.example"),)),
    H2Case("F5", "pseudo-header fields in another order", OK, head=(BASE[3], BASE[2], BASE[1], BASE[0])),
    # F7: CONNECT
    H2Case("F7", "CONNECT with path and scheme", REFUSED, head=head(method=b"CONNECT")),
    H2Case("F7", "CONNECT without allowance", REFUSED, head=((b":method", b"CONNECT"), (b":authority", b"a.example:443"))),
    H2Case("F7", "CONNECT with a path", REFUSED,
           head=((b":method", b"CONNECT"), (b":authority", b"a.example:443"), (b":path", b"/"))),
    H2Case("F7", "CONNECT with a scheme", REFUSED,
           head=((b":method", b"CONNECT"), (b":authority", b"a.example:443"), (b":scheme", b"http"))),
    H2Case("F7", "CONNECT without authority", REFUSED, head=((b":method", b"CONNECT"),)),
    *family("F7", "extended CONNECT", [b"connect-udp", b"x"], head=(*head(method=b"CONNECT"), (b":protocol", b"{}")), outcome=501,
            open=True),
    *family("F7", "extended CONNECT", [b"", b"web socket", b"websocket\r\nx: y"],
            head=(*head(method=b"CONNECT"), (b":protocol", b"{}")), outcome=REFUSED, open=True),
]  # fmt: skip

COOKIES = [
    # F6: crumbs
    *[H2Case("F6", f"{count} crumbs", OK, fields=tuple((b"cookie", b"c%d=%d" % (number, number)) for number in range(count)))
      for count in (1, 2, 3, 20)],
    H2Case("F6", "crumbs among others", OK, fields=((b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"y", b"2"), (b"cookie", b"c=3"))),
    H2Case("F6", "crumbs with semicolons", OK, fields=((b"cookie", b"a=1; b=2"), (b"cookie", b"c=3"))),
]  # fmt: skip

LIMITS = [
    # F12: heads that are too large
    H2Case("F12", "value beyond max_header_size", REFUSED, fields=((b"x", b"y" * 9000),)),
    H2Case("F12", "value of 60 KiB", EITHER, fields=((b"x", b"y" * 60_000),)),
    H2Case("F12", "many fields beyond max_header_size", REFUSED, fields=tuple((b"x%d" % number, b"y" * 100) for number in range(90))),
    H2Case("F12", "too many fields", REFUSED, fields=tuple((b"x%d" % number, b"") for number in range(120))),
    H2Case("F12", "one field a thousand times", EITHER, fields=((b"x", b"y" * 60),) * 1000),
    H2Case("F12", "crumbs beyond max_header_size", REFUSED, fields=((b"cookie", b"y" * 60),) * 200),
    H2Case("F12", "long path", REFUSED, head=head(path=b"/" + b"x" * 9000)),
    H2Case("F12", "long authority", REFUSED, head=head(authority=b"x" * 9000)),
    H2Case("F12", "trailers beyond max_header_size", REFUSED, data=(b"hello",), trailers=((b"x", b"y" * 9000),), in_body=True),
    H2Case("F12", "close to the limit", OK, fields=((b"x", b"y" * 7000),)),
]  # fmt: skip

TRAILERS = [
    # what may come behind the content
    H2Case("F2", "trailers", OK, data=(b"hello",), trailers=((b"x-sum", b"1"), (b"x-more", b"2"))),
    H2Case("F2", "trailers without content", OK, trailers=((b"x-sum", b"1"),)),
    H2Case("F2", "expectation", 417, fields=((b"expect", b"200-maybe"),)),
]  # fmt: skip

TABLE: list[H2Case] = [*LENGTH, *CONNECTION, *BYTES, *PSEUDO, *COOKIES, *LIMITS, *TRAILERS]
