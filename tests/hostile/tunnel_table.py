"""Rows D4 to D8: upgrades that are agreed to, refused, none at all or unasked; and CONNECT to another proxy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.hostile.cases import SMUGGLED

#: How a tunnel ends: which side says a last word behind the other's FIN, or who resets.
CLIENT_ENDS, SERVER_ENDS, CLIENT_RESETS, SERVER_RESETS = "client ends", "server ends", "client resets", "server resets"
ENDS = (CLIENT_ENDS, SERVER_ENDS, CLIENT_RESETS, SERVER_RESETS)


@dataclass(frozen=True)
class TunnelCase:
    """What a client asks and an upstream answers, and all that may come of it.

    `heads`: exactly what reaches the upstream as requests, in order, without the fields of forwarding. `agreed`: the exact
    head with which the tunnel opens; then `early` (sent with the request) and `up` reach the upstream and `down` (sent with
    the reply) the client, not a byte more or less. Without it `statuses` are all replies, and `closes` says whether
    the proxy ends the client's connection.
    """

    row: str
    name: str
    ask: bytes
    reply: bytes
    heads: tuple[bytes, ...]
    agreed: bytes = b""
    early: bytes = b""
    up: bytes = b""
    down: bytes = b""
    ends: str = CLIENT_ENDS
    statuses: tuple[int, ...] = ()
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.row} {self.name}"


KEY = b"Sec-Key: k\r\n"
ASK = b"GET /hostile HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + KEY + b"\r\n"
ASKED = b"GET /hostile HTTP/1.1\r\nHost: a\r\n" + KEY + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
PLAIN = b"GET /hostile HTTP/1.1\r\nHost: a\r\n" + KEY + b"\r\n"
AGREE = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-Accept: a\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching\r\nSec-Accept: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
CONNECT = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example\r\nX-Own: 1\r\n\r\n"
CONNECTED = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nX-Own: 1\r\n\r\n"
FRAME = b"\x81\x85\x00\x00\x00\x00hello"
#: What must cross a tunnel as it is.
PAYLOADS = [
    FRAME, SMUGGLED, NEXT, b"\x00", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\xff" * 9,
    b"\x81\x7f" + (70000).to_bytes(8, "big") + b"z" * 70000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(range(256)),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"x" * 300000,
]  # fmt: skip


def ok(status: bytes, fields: bytes = b"Content-Length: 2\r\n", body: bytes = b"no") -> bytes:
    """A reply of the upstream's."""
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + body


def opened(payload: bytes, ends: str, where: str) -> TunnelCase:
    """A tunnel through which `payload` goes both ways: early (with request and reply) or late (behind both)."""
    label = f"{ascii(payload[:16])[1:]} ({len(payload)} bytes) {where}, {ends}"
    if where == "early":
        return TunnelCase("D7", label, ASK, AGREE, (ASKED,), AGREED, early=payload, down=payload[::-1], ends=ends)
    return TunnelCase("D7", label, ASK, AGREE, (ASKED,), AGREED, up=payload, down=payload, ends=ends)


def spelled(lines: Iterable[bytes], row: str, name: str, **rest: object) -> list[TunnelCase]:
    """One case for each way to write the fields that ask."""
    asked = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    return [
        TunnelCase(row, f"{name} {ascii(line)[1:]}", ASK.replace(asked, line + b"\r\n" if line else b""), **rest)  # type: ignore[arg-type]
        for line in lines
    ]


GOOD_SPELLINGS = [
    b"upgrade: WebSocket\r\nconnection: upgrade", b"UPGRADE: WEBSOCKET\r\nCONNECTION: UPGRADE",
    b"Upgrade:websocket\r\nConnection:Upgrade", b"Upgrade: \twebsocket\t \r\nConnection: \tUpgrade\t ",
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket", b"Connection: Upgrade, keep-alive\r\nUpgrade: websocket",
    b"Connection: ,Upgrade,\r\nUpgrade: websocket", b"Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: x", b"Connection: Upgrade, Sec-Other\r\nSec-Other: 1\r\nUpgrade: websocket",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nProxy-Connection: close", b"Content-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket",
]  # fmt: skip
NO_UPGRADES = [
    b"Upgrade: websocket", b"Connection: Upgrade", b"Upgrade: websocket\r\nConnection: keep-alive",
    b"Upgrade: websocket\r\nConnection: Upgrades", b"Upgrade: websocket\r\nConnection: xUpgrade",
    b"Upgrade: websocket\r\nConnection: \"Upgrade\"", b"Upgrade: websocket\r\nConnection: Upgrade;q=1",
    b"Upgrade: websocket\r\nConnection: Up grade", b"Upgrade: websocket\r\nProxy-Connection: Upgrade",
    b"Upgrade: websocket, h2c\r\nConnection: Upgrade", b"Upgrade: h2c, websocket\r\nConnection: Upgrade",
    b"Upgrade: websocket,\r\nConnection: Upgrade", b"Upgrade: ,websocket\r\nConnection: Upgrade",
    b"Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade", b"Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade",
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Upgrade: H2C\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
    b"Upgrade: h2\r\nConnection: Upgrade", b"Upgrade: HTTP/2.0\r\nConnection: Upgrade", b"Upgrade: http/1.1\r\nConnection: Upgrade",
    b"Upgrade: TLS/1.2\r\nConnection: Upgrade", b"Upgrade: foo\r\nConnection: Upgrade", b"Upgrade: connect\r\nConnection: Upgrade",
    b"Upgrade: websocket/13\r\nConnection: Upgrade", b"Upgrade: websocket/\r\nConnection: Upgrade", b"Upgrade: websockets\r\nConnection: Upgrade",
    b"Upgrade: web socket\r\nConnection: Upgrade", b"Upgrade: \"websocket\"\r\nConnection: Upgrade", b"Upgrade:\r\nConnection: Upgrade",
    b"Upgrade: websocket;x\r\nConnection: Upgrade", b"Upgrade: websocket\xa0\r\nConnection: Upgrade", b"Upgrade: websocket\r\nConnection:",
]  # fmt: skip
#: Requests that cannot be upgrades, and what of them is forwarded.
NO_UPGRADE_REQUESTS = [
    *((ASK.replace(b"GET", method), PLAIN.replace(b"GET", method)) for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")),
    (ASK.replace(KEY, KEY + b"Content-Length: 5\r\n") + b"hello", PLAIN.replace(KEY, KEY + b"Content-Length: 5\r\n") + b"hello"),
    (ASK.replace(KEY, KEY + b"Transfer-Encoding: chunked\r\n") + b"1\r\nh\r\n0\r\n\r\n",
     PLAIN.replace(KEY, KEY + b"transfer-encoding: chunked\r\n") + b"1\r\nh\r\n0\r\n\r\n"),
    (ASK.replace(KEY, KEY + b"Expect: 100-continue\r\n"), PLAIN.replace(KEY, KEY + b"Expect: 100-continue\r\n")),
]  # fmt: skip
#: Agreements that are none, to whatever was asked.
BAD_AGREEMENTS = [
    AGREE.replace(b"Upgrade: websocket\r\n", b""), AGREE.replace(b"Connection: Upgrade\r\n", b""), b"HTTP/1.1 101 X\r\n\r\n",
    AGREE.replace(b": websocket", b": h2c"), AGREE.replace(b": websocket", b": websocket, h2c"), AGREE.replace(b": websocket", b":"),
    AGREE.replace(b": websocket", b": websocket/1"), AGREE.replace(b": websocket", b": websocket\r\nUpgrade: websocket"),
    AGREE.replace(b"Connection: Upgrade", b"Connection: close"), AGREE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    AGREE.replace(b"Sec-Accept: a", b"Sec-Accept: a\x00"), AGREE.replace(b"Sec-Accept: a", b"Sec-Accept : a"),
    AGREE.replace(b"\r\n", b"\n"), b"HTTP/1.1 103 X\r\n\r\n" + AGREE.replace(b": websocket", b": x"),
]  # fmt: skip
#: Agreements that declare a body: they end at their empty line (RFC 9112 section 6.3).
FRAMED_AGREEMENTS = [b"Content-Length: 4", b"Transfer-Encoding: chunked", b"Content-Length: 4\r\nTransfer-Encoding: chunked"]
REFUSALS = [
    ok(b"200 OK"), ok(b"200 OK", b"Transfer-Encoding: chunked\r\n", b"2\r\nno\r\n0\r\n\r\n"), ok(b"204 No", b"", b""),
    ok(b"304 Not", b"", b""), ok(b"400 Bad"), ok(b"401 No"), ok(b"403 No"), ok(b"404 No"), ok(b"426 Up"), ok(b"500 No"), ok(b"503 No"),
    ok(b"302 Found", b"Location: /x\r\nContent-Length: 0\r\n", b""),
    ok(b"200 OK", b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n"), b"HTTP/1.1 100 C\r\n\r\n" + ok(b"200 OK"),
]  # fmt: skip


def status_of(reply: bytes) -> int:
    """The final status in the upstream's bytes."""
    return int(reply.rpartition(b"HTTP/1.1 ")[2][:3])


def refused(reply: bytes) -> list[TunnelCase]:
    """What waits behind a refused upgrade is a request, or nothing that anybody gets."""
    status = status_of(reply)
    label = f"{reply[:48]!r}"
    return [
        TunnelCase("D4", f"{label}, a request behind", ASK + NEXT, reply, (ASKED, NEXT), statuses=(status, 200)),
        TunnelCase("D4", f"{label}, a frame behind", ASK + FRAME, reply, (ASKED,), statuses=(status, 400), closes=True),
        TunnelCase("D4", f"{label}, nothing behind", ASK, reply, (ASKED,), statuses=(status,)),
    ]


CONNECT_REPLIES = [
    b"", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"transfer-encoding: CHUNKED\r\n", b"Connection: close\r\n",
]  # fmt: skip


def connected(status: bytes, fields: bytes, payload: bytes, ends: str) -> TunnelCase:
    """A CONNECT that is agreed to, whatever the reply says of a body."""
    return TunnelCase("D8", f"{status!r} {fields!r} {payload[:8]!r}, {ends}", CONNECT, b"HTTP/1.1 " + status + b"\r\nVia: p\r\n" + fields + b"\r\n",
                      (CONNECTED,), b"HTTP/1.1 " + status + b"\r\nVia: p\r\n\r\n", early=payload, up=payload, down=payload, ends=ends)  # fmt: skip


BAD_CONNECTS = [
    b"CONNECT db.example HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:b HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT u@a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80?x HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80,b:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT [::1] HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT [::1:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT ::1:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT a:80\x00 HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT  a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"connect a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip

TABLE = [
    *(case for reply in REFUSALS for case in refused(reply)),
    *spelled(NO_UPGRADES, "D5", "not asked by", reply=ok(b"200 OK"), heads=(PLAIN,), statuses=(200,)),
    *spelled(NO_UPGRADES, "D6", "agreed to, though it was not asked by", reply=AGREE + FRAME, heads=(PLAIN,), statuses=(502,)),
    *(TunnelCase("D5", f"not an upgrade: {ask[:7]!r} {ask[80:120]!r}", ask, ok(b"200 OK"), (head,), statuses=(200,)) for ask, head in NO_UPGRADE_REQUESTS),
    *(TunnelCase("D6", f"agreed to {ask[:7]!r} {ask[80:120]!r}", ask, AGREE + FRAME, (head,), statuses=(502,)) for ask, head in NO_UPGRADE_REQUESTS),
    *(TunnelCase("D6", f"no agreement {reply[:80]!r}", ASK, reply + FRAME, (ASKED,), statuses=(502,)) for reply in BAD_AGREEMENTS),
    *(TunnelCase("D6", f"no agreement, a request behind, {reply[:80]!r}", ASK + NEXT, reply + FRAME, (ASKED, NEXT), statuses=(502, 200))
      for reply in BAD_AGREEMENTS),
    *(TunnelCase("D7", f"agreement with {lines!r}", ASK, AGREE.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n\r\n"), (ASKED,), AGREED, up=FRAME, down=FRAME)
      for lines in FRAMED_AGREEMENTS),
    *(opened(payload, ends, where) for payload in PAYLOADS for where in ("early", "late") for ends in ENDS),
    *spelled(GOOD_SPELLINGS, "D7", "asked by", reply=AGREE, heads=(), agreed=AGREED, up=FRAME, down=FRAME),
    *(connected(status, fields, payload, ends) for status in (b"200 Established", b"201 C", b"204 N", b"299 X") for fields in CONNECT_REPLIES
      for payload, ends in ((NEXT, CLIENT_ENDS), (b"0\r\n\r\n", SERVER_ENDS), (b"\x00", CLIENT_RESETS), (b"hello", SERVER_RESETS))),
    *(TunnelCase("D8", f"refused: {reply[:48]!r}, bytes behind", CONNECT + NEXT, reply, (CONNECTED,), statuses=(status_of(reply),), closes=True)
      for reply in (ok(b"403 No"), ok(b"407 No"), ok(b"502 No"), ok(b"302 No"), ok(b"404 No"))),
    *(TunnelCase("D8", f"nonsense {reply[:32]!r}", CONNECT + NEXT, reply, (CONNECTED,), statuses=(502,), closes=True)
      for reply in (b"SSH-2.0\r\n", b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: connect\r\n\r\n", b"HTTP/1.1 20 X\r\n\r\n", AGREE)),
    *(TunnelCase("D8", f"no CONNECT: {ask[:80]!r}", ask + SMUGGLED, ok(b"200 OK"), (), statuses=(400,), closes=True) for ask in BAD_CONNECTS),
]  # fmt: skip
