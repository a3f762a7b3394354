"""Rows of G, and those of A and C that a limit decides: what a listener or a worker with small limits does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.hostile.cases import SMUGGLED, RequestCase
from tests.hostile.request_table import CHUNKED, LAST, family

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PURGE"]


@dataclass(frozen=True)
class Group:
    """Members for one program. `settings`: arguments of `program.running`."""

    name: str
    cases: list[RequestCase]
    settings: dict[str, Any] = field(default_factory=dict)


def prefixes(text: bytes, start: int, end: int) -> list[bytes]:
    """`text` up to each offset from `start` to before `end`."""
    return [text[:size] for size in range(start, end)]


def silent(name: str, parts: list[bytes], in_body: bool) -> list[RequestCase]:
    """A client that stops in the middle of `parts`: 408, and nothing, or a request that is cut, upstream."""
    return [
        RequestCase("G1", f"silence behind {len(part)} bytes of {name}", raw=part, status=408, reason="request_timeout", in_body=in_body,
                    only_program=True) for part in parts
    ]  # fmt: skip


# ---- G1: a head, a body that stops

POST = b"POST /hostile HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
IN_CHUNKS = b"PUT /hostile HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = b"POST /hostile HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
CHUNKS = b"5;a=b\r\nhello\r\n0\r\nx: 1\r\n\r\n"
SLOW = [
    *silent("a head", prefixes(POST, 1, len(POST)), False),
    *silent("a chunked head", prefixes(IN_CHUNKS, 40, len(IN_CHUNKS)), False),
    *silent("an empty line and a head", prefixes(b"\r\n" + NEXT, 3, 12), False),
    *silent("a body", prefixes(POST + b"GET / HTT", len(POST), len(POST) + 9), True),
    *silent("a chunked body", prefixes(IN_CHUNKS + CHUNKS, len(IN_CHUNKS), len(IN_CHUNKS + CHUNKS)), True),
    *silent("a body that waits for 100", prefixes(EXPECTING + b"hello", len(EXPECTING), len(EXPECTING) + 5), True),
    *silent("a head of 4 KiB", [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 4000], False),
    *silent("many lines", [b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 90], False),
    # Half a TLS handshake on a plain port is no head from its first byte on.
    *family("G1", "TLS hello", [b"\x16", b"\x16\x03", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x80\x2e\x01\x03\x01"],
            raw=b"{}", reason="bad_request"),
]  # fmt: skip

# ---- A9, C12: small limits, at their edge


def sized(total: int) -> bytes:
    """A request whose head has `total` bytes."""
    start = b"GET /hostile HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"x" * (total - len(start) - 4) + b"\r\n\r\n"


def targeted(total: int) -> bytes:
    """A request whose request line has `total` bytes with its line end."""
    return b"GET /" + b"x" * (total - 16) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


SMALL = [
    *(RequestCase("A9", f"body of {size} bytes", fields=(b"Content-Length: %d" % size,), body=b"x" * size + NEXT, status=200, requests=2,
                  sees=(b"GET /next",)) for size in (0, 1, 63, 64)),
    *(RequestCase("A9", f"body of {size} bytes", fields=(b"Content-Length: %d" % size,), body=(SMUGGLED * 9)[:size], status=413,
                  reason="body_too_large") for size in (65, 66, 100, 3000)),
    *(RequestCase("A9", f"body that is told to have {size} bytes", fields=(b"Content-Length: %d" % size,), status=413,
                  reason="body_too_large") for size in (65, 2**31, 2**32 + 5, 2**53 + 1, 10**18 - 1)),
    *family("A9", "body of 65 bytes that waits for 100, with", [b"POST", b"PUT", b"GET"], line=b"{} /hostile HTTP/1.1",
            fields=(b"Expect: 100-continue", b"Content-Length: 65"), status=413, reason="body_too_large"),
    *(RequestCase("A9", f"chunks of {text!r}", fields=(CHUNKED,), body=text + LAST + NEXT, status=200, requests=2, sees=(b"GET /next",))
      for text in (b"40\r\n" + b"x" * 64 + b"\r\n", b"20\r\n" + b"x" * 32 + b"\r\n20\r\n" + b"y" * 32 + b"\r\n")),
    *(RequestCase("A9", f"too many chunks of {text[:12]!r}", fields=(CHUNKED,), body=text + LAST + SMUGGLED, status=413, reason="body_too_large",
                  in_body=True)
      for text in (b"41\r\n" + b"x" * 65 + b"\r\n", b"20\r\n" + b"x" * 32 + b"\r\n21\r\n" + b"y" * 33 + b"\r\n", b"1\r\nx\r\n" * 65,
                   b"fffffffffffffff\r\n", b"41;a\r\n" + b"x" * 65 + b"\r\n")),
    *(RequestCase("C12", f"{count + 3} fields", fields=(b"X: 1",) * count, line=b"GET / HTTP/1.1", status=200) for count in (1, 6, 7)),
    *(RequestCase("C12", f"{count + 3} fields", fields=(b"X: 1",) * count, line=b"GET / HTTP/1.1", status=431, reason="headers_too_large")
      for count in (8, 9, 20)),
    *(RequestCase("C12", f"{count} trailers", fields=(CHUNKED,), body=b"0\r\n" + b"x: 1\r\n" * count + b"\r\n", status=status, in_body=status != 200,
                  reason="" if status == 200 else "headers_too_large") for count, status in ((1, 200), (10, 200), (11, 431), (30, 431))),
    *(RequestCase("C12", f"head of {size} bytes", raw=sized(size), status=200) for size in (100, 511, 512)),
    *(RequestCase("C12", f"head of {size} bytes", raw=sized(size), status=431, reason="headers_too_large") for size in (513, 514, 600, 2000)),
    *(RequestCase("C12", f"head of {size} bytes without end", raw=sized(size)[:-4], status=431, reason="headers_too_large")
      for size in (520, 2000)),
    *(RequestCase("C12", f"request line of {size} bytes", raw=targeted(size), status=200) for size in (100, 400, 499)),
    *(RequestCase("C12", f"request line of {size} bytes", raw=targeted(size), status=414, reason="target_too_long") for size in (530, 600, 3000)),
]  # fmt: skip
SMALL = [replace(case, only_program=True) for case in SMALL]

# ---- G4: requests of a connection, heads in part, the memory ladder


def alone(row: str, name: str, raw: bytes, statuses: tuple[int, ...], **rest: Any) -> RequestCase:
    """A member that has its connection for itself."""
    return RequestCase(row, name, raw=raw, answers=statuses, status=statuses[-1], alone=True, only_program=True, **rest)


FEW = [
    *(
        alone("G4", f"{count} requests where two may be", NEXT * count, (200, 200), requests=2, closes=True)
        for count in (2, 3, 4, 20)
    ),
    *(
        alone("G4", f"two requests and {junk!r}", NEXT * 2 + junk, (200, 200), requests=2, closes=True)
        for junk in (b"\x00", b"GET / HTTP/1.1\r\n", SMUGGLED, POST)
    ),
    alone("G4", "one request where two may be", NEXT, (200,), requests=1),
    alone(
        "G4",
        "a body in the last request",
        NEXT + POST + b"GET / HTT" + SMUGGLED,
        (200, 200),
        requests=2,
        closes=True,
        lacks=(),
    ),
]
PARTS = [
    *(alone("G4", f"{size} bytes of a head where 100 may wait", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * size, (503,), requests=0,
            reason="heads_full") for size in (120, 500, 4000)),
    *(alone("G4", f"{count} lines of a head where 100 bytes may wait", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * count, (503,), requests=0,
            reason="heads_full") for count in (20, 90)),
]  # fmt: skip


def every_kind(method: bytes) -> list[bytes]:
    """Requests with `method` in all the ways to frame them."""
    line = method + b" /hostile HTTP/1.1\r\nHost: a\r\n"
    return [
        line + b"\r\n",
        line + b"Connection: close\r\n\r\n",
        line + b"Content-Length: 5\r\n\r\nhello",
        line + b"Content-Length: 500\r\n\r\nhello",
        line + CHUNKED + b"\r\n\r\n5\r\nhello\r\n" + LAST,
        line + CHUNKED + b"\r\n\r\n5\r\nhel",
        line + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        line + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        line + b"\r\n" + SMUGGLED,
    ]


KINDS = [(method, kind) for method in METHODS for kind in every_kind(method)]
SHED = [
    alone("G4", f"turned away: {number} {method.decode()}", kind, (503,), requests=0, reason="overloaded")
    for number, (method, kind) in enumerate(KINDS)
]
LAST_ONE = [
    *(alone("G4", f"the reply ends the connection, {method.decode()}", method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n" + NEXT, (200,), requests=1,
            closes=True) for method in METHODS),
    *(alone("G4", f"the reply ends the connection, body of {method.decode()}", method + POST[4:] + b"123456789" + NEXT, (200,), requests=1,
            closes=True) for method in METHODS),
]  # fmt: skip

# ---- C15: proxies of ours before us


def said(name: str, lines: tuple[bytes, ...], *sees: bytes) -> RequestCase:
    """What becomes of X-Forwarded-For where one proxy is trusted: what stands left of its entry is the client's own word."""
    return RequestCase("C15", f"one proxy is trusted, {name}", b"GET / HTTP/1.1", lines, status=200, sees=sees, lacks=(b"evil", b"6.6.6.6"),
                       only_program=True)  # fmt: skip


TOLD = b"x-forwarded-for: 9.9.9.9, 127."
ALONE = b"x-forwarded-for: 127."
TRUSTED = [
    said("its word", (b"X-Forwarded-For: 9.9.9.9",), TOLD),
    said("IPv6", (b"X-Forwarded-For: 2001:db8::9",), b"x-forwarded-for: 2001:db8::9, 127."),
    *(said(f"behind {before!r}", (b"X-Forwarded-For: " + before + b"9.9.9.9",), TOLD)
      for before in (b"evil, ", b"6.6.6.6,", b"6.6.6.6, evil ,\t", b"127.0.0.1, evil,,", b"\"evil, 1.1.1.1\", ", b"evil:1, ", b"evil\xff, ")),
    said("in the second of two lines", (b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 9.9.9.9"), TOLD),
    said("in the second of two lists", (b"X-Forwarded-For: evil, 6.6.6.6", b"X-Forwarded-For: evil, 9.9.9.9"), TOLD),
    *(said(f"no address {text!r}", (b"X-Forwarded-For: 6.6.6.6, " + text,), ALONE)
      for text in (b"evil", b"evil:80", b"\"evil\"", b"evil\xff", b"[evil]", b"for=evil")),
    *(said(f"empty {text!r}", (b"X-Forwarded-For:" + text,), ALONE) for text in (b"", b" ", b",", b" , ,")),
    *(said(f"look-alike {name!r}", (name + b": 6.6.6.6",), ALONE) for name in (b"X_Forwarded_For", b"X-Forwarded_For", b"x_forwarded-for")),
    said("Connection cannot strip it", (b"Connection: X-Forwarded-For", b"X-Forwarded-For: 9.9.9.9"), TOLD),
    said("its word about the scheme", (b"X-Forwarded-Proto: https", b"X-Forwarded-For: 9.9.9.9"), TOLD, b": https\r\n"),
]  # fmt: skip

# A limit that no worker stays below, so that one step of the ladder is on from the first measure to the end.
MEMORY = {"memory_limit": 1 << 30, "stop_keep_alive": 0.001, "shed": 1.0, "stop_accept": 1.0}

GROUPS = [
    Group("slow", SLOW, {"http1": {"header_timeout": "300ms", "body_timeout": "300ms"}}),
    Group("small", SMALL, {"http1": {"max_header_size": 512, "max_header_count": 10, "max_request_body_size": 64}}),
    Group("few", FEW, {"http1": {"max_requests_per_connection": 2}}),
    Group("parts", PARTS, {"server": {"limits": {"max_head_bytes": 100}}}),
    Group("shed", SHED, {"server": {"overload": {**MEMORY, "shed": 0.002}}, "ready": "rejecting requests with 503"}),
    Group("trusted", TRUSTED, {"http1": {"trusted_hops": 1}, "inner": {"trust_forwarded": True}}),
    Group("last", LAST_ONE, {"server": {"overload": MEMORY}, "ready": "disabling keep-alive"}),
]
