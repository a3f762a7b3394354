"""Rows E1 to E7 of the hostile catalogue: what an upstream may do wrong."""

from __future__ import annotations

from collections.abc import Iterable

from tests.hostile.cases import ReplyCase
from tests.hostile.request_table import (
    BAD_LINES,
    CODINGS,
    CONTROLS,
    EXTENSIONS,
    LENGTHS,
    SIZES,
    SOME_CONTROLS,
    UNSUPPORTED,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


def family(row: str, name: str, members: Iterable[bytes], wire: bytes, **rest: object) -> list[ReplyCase]:
    """One case for each of `members`, which takes the place of `{}` in `wire`."""
    return [
        ReplyCase(row, f"{name} {ascii(member[-24:])[1:]}", wire.replace(b"{}", member), **rest)  # type: ignore[arg-type]
        for member in members
    ]


def fields(*lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


STATUS_LINES = [
    b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 0x1 OK", b"HTTP/1.1 OK", b"HTTP/1.1  200 OK",
    b"HTTP/1.1",
    b"HTTP/1.1 099 X", b"HTTP/1.1 600 X", b"HTTP/1.1 999 X", b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"http/1.1 200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 200\x00OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200\tOK", b" HTTP/1.1 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 200OK", b"HTTP/1.1200 OK", b"HTTP/1.1 2\xb20 OK", b"<!doctype html>", b"SSH-2.0-OpenSSH",
    b"\x15\x03\x01\x00\x02\x02\x16",
    b"GET / HTTP/1.1",
]  # fmt: skip

TABLE = [
    # E1
    ReplyCase("E1", "length and chunked", fields(b"Content-Length: 5", b"Transfer-Encoding: chunked") + LAST),
    ReplyCase("E1", "chunked and length", fields(b"Transfer-Encoding: chunked", b"Content-Length: 5") + LAST),
    ReplyCase("E1", "coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + LAST),
    ReplyCase("E1", "two codings", OK + CHUNKED + CHUNKED + b"\r\n" + LAST),
    *family("E1", "two lengths, second", [b"5", b"6", b"0"], OK + b"Content-Length: 5\r\nContent-Length: {}\r\n\r\nhello"),
    *family("E1", "length", LENGTHS, OK + b"Content-Length: {}\r\n\r\nhello"),
    *family("E1", "length and HEAD", LENGTHS, OK + b"Content-Length: {}\r\n\r\n", method=b"HEAD"),
    *family("E1", "coding", CODINGS + UNSUPPORTED, OK + b"Transfer-Encoding: {}\r\n\r\n" + LAST),
    *family("E1", "chunk size", [size for size in SIZES if size], OK + CHUNKED + b"\r\n{}\r\na\r\n" + LAST),
    *family("E1", "chunk extension", [text for text in EXTENSIONS if text], OK + CHUNKED + b"\r\n1{}\r\na\r\n" + LAST),
    *family("E1", "behind a chunk", [b"\n", b"", b"b\r\n", b"\r", b"\r\n\r\n"], OK + CHUNKED + b"\r\n1\r\na{}" + LAST),
    # E2
    ReplyCase("E2", "body to HEAD", fields(b"Content-Length: 5") + b"poiso", b"HEAD", refused=False, lacks=(b"poiso",)),
    ReplyCase("E2", "chunked body to HEAD", OK + CHUNKED + b"\r\n5\r\npoiso\r\n" + LAST, b"HEAD", refused=False,
            lacks=(b"poiso",)),
    *family("E2", "body with", [b"204", b"304"], b"HTTP/1.1 {} X\r\nContent-Length: 5\r\n\r\npoiso", refused=False,
            lacks=(b"poiso",)),
    *family("E2", "chunked body with", [b"204", b"304"], b"HTTP/1.1 {} X\r\n" + CHUNKED + b"\r\n5\r\npoiso\r\n" + LAST,
            refused=False),
    *family("E2", "body with", [b"100", b"102", b"103", b"199"], b"HTTP/1.1 {} X\r\nContent-Length: 5\r\n\r\npoiso"),
    *family("E2", "chunked body with", [b"100", b"103"], b"HTTP/1.1 {} X\r\n" + CHUNKED + b"\r\n5\r\npoiso\r\n" + LAST),
    ReplyCase("E2", "declared but absent with 204", b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", refused=False),
    # E3
    ReplyCase("E3", "second reply behind a length", fields(b"Content-Length: 2") + b"ok" + POISON, refused=False, body=b"ok",
              lacks=(b"poison",)),
    ReplyCase("E3", "second reply behind chunks", OK + CHUNKED + b"\r\n2\r\nok\r\n" + LAST + POISON, refused=False,
            body=b"ok",
              lacks=(b"poison",)),
    ReplyCase("E3", "one byte too many", fields(b"Content-Length: 2") + b"ok!", refused=False, body=b"ok"),
    ReplyCase("E3", "nothing too many", fields(b"Content-Length: 2") + b"ok", refused=False, body=b"ok", reusable=True),
    # E4
    *family("E4", "cut off behind", [b"", b"HT", b"HTTP/1.1 200", OK, OK + b"Content-", fields(b"Content-Length: 5"),
            fields(b"Content-Length: 5") + b"hell", OK + CHUNKED + b"\r\n", OK + CHUNKED + b"\r\n5",
            OK + CHUNKED + b"\r\n5\r\nhel",
            OK + CHUNKED + b"\r\n5\r\nhello\r\n", OK + CHUNKED + b"\r\n0\r\n", b"HTTP/1.1 103 X\r\n\r\n"],
            b"{}", then_eof=True, refused=False, complete=False),
    ReplyCase("E4", "until the end", OK + b"\r\nhello", then_eof=True, refused=False, body=b"hello"),
    # E6
    ReplyCase("E6", "flood of interim replies", b"HTTP/1.1 103 X\r\n\r\n" * 1000 + POISON),
    ReplyCase("E6", "interim and final", b"HTTP/1.1 103 X\r\n\r\n" + fields(b"Content-Length: 2") + b"ok", refused=False,
            body=b"ok",
              reusable=True),
    ReplyCase("D6", "switching unasked", b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    # E7
    *family("E7", "field", [*BAD_LINES, b"x: 1\r\n 2", b"x: 1\r\n\t2"], OK + b"{}\r\nContent-Length: 0\r\n\r\n"),
    *family("E7", "in a value", CONTROLS, OK + b"X: a{}b\r\nContent-Length: 0\r\n\r\n"),
    *family("E7", "in the reason", SOME_CONTROLS, b"HTTP/1.1 200 O{}K\r\nContent-Length: 0\r\n\r\n"),
    *family("E7", "status line", STATUS_LINES, b"{}\r\nContent-Length: 0\r\n\r\n"),
    *family("E7", "all lines end with", [b"\n", b"\r"], b"HTTP/1.1 200 OK{}Content-Length: 0{}{}\r\n"),
    ReplyCase("E7", "value of 128 KiB", fields(b"X: " + b"a" * 131072, b"Content-Length: 0")),
    ReplyCase("E7", "head without end", OK + b"X: " + b"a" * 131072),
    ReplyCase("E7", "20,000 fields", fields(*([b"X: 1"] * 20000))),
    ReplyCase("E7", "trailer with a fold", OK + CHUNKED + b"\r\n0\r\nx: 1\r\n 2\r\n\r\n"),
]  # fmt: skip
