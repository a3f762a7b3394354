"""Inputs: messages by the grammar, with oddities mixed in, and mutations of good ones."""

from __future__ import annotations

from hypothesis import strategies as st

from pymosn.core.uri import normalize_path

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH"]
TARGETS = [
    b"/", b"/a/b?c=d", b"*", b"http://b.example/x?y", b"http://b:81", b"//a", b"/a/../b", b"/%41%2f", b"/?", b"/%", b"/..",
    b"/a?b?c",
    b"/;a=b,c:d@e!$&'()+~", b"/{|}^`\"<>", b"https://a/", b"http://[::1]/", b"/%C3%A9/./", b"a",
]  # fmt: skip
HOSTS = [b"a", b"a.example:80", b"[::1]:8080", b"A.Example", b"", b"a,b", b"u@a"]
ODD = [
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\t",
    b"\x00",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xa0",
    b":",
    b";",
    b",",
    b'"',
    b"0",
    b"1",
    b"\r\n ",
    b"%",
]
PLAIN = [b"X-A", b"x-b", b"Accept", b"Cookie", b"TE", b"Trailer", b"Upgrade", b"Keep-Alive", b"X_Y", b"!#$%&'*+-.^_`|~1",
         b"Connection", b"Content_Length", b"Date"]  # fmt: skip
NAMES = PLAIN * 6 + [b"Expect", b"Content-Length", b"Transfer-Encoding", b"Host"]
VALUES = [b"1", b"", b"a b", b"\tx ", b"\xe9", b"close", b"keep-alive", b"x-a", b"keep-alive, x-b", b"trailers",
        b"100-continue", b"5",
          b"0", b"chunked", b"gzip", b"websocket", b"upgrade", b"a,b", b"12", b"host, te"]  # fmt: skip
EXTENSIONS = [b""] * 12 + [b";a", b";a=b", b';a="b;c"', b';a="\\""', b"; a", b";", b";a=", b" ", b";a;b=c"]
FIELD = st.builds(
    lambda name, space, value, end: name + b":" + space + value + end,
    st.sampled_from(NAMES),
    st.sampled_from([b" ", b" ", b"", b"  ", b"\t"]),
    st.sampled_from(VALUES),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b" \r\n"]),
)


def chunked(extensions: list[bytes] = EXTENSIONS) -> st.SearchStrategy[bytes]:
    """A chunked body, most often a good one."""
    size = st.sampled_from([b"%x", b"%X", b"0%x"])
    chunk = st.builds(
        lambda data, size, extension: size % len(data) + extension + b"\r\n" + data + b"\r\n",
        st.binary(min_size=1, max_size=20),
        size,
        st.sampled_from(extensions),
    )
    return st.builds(
        lambda chunks, extension, trailers: b"".join(chunks) + b"0" + extension + b"\r\n" + b"".join(trailers) + b"\r\n",
        st.lists(chunk, max_size=4),
        st.sampled_from(extensions),
        st.lists(FIELD, max_size=2),
    )


def sized() -> st.SearchStrategy[tuple[bytes, bytes]]:
    """The framing field of a body, and the body."""
    plain = st.binary(max_size=30).map(lambda body: (b"Content-Length: %d\r\n" % len(body), body))
    chunks = chunked().map(lambda body: (b"Transfer-Encoding: chunked\r\n", body))
    return st.one_of(st.just((b"", b"")), plain, chunks)


def _request(
    method: bytes, target: bytes, minor: bytes, host: bytes, fields: list[bytes], framed: tuple[bytes, bytes]
) -> bytes:
    framing, body = framed
    middle = len(fields) // 2
    lines = b"".join(fields[:middle]) + b"Host: " + host + b"\r\n" + framing + b"".join(fields[middle:])
    return method + b" " + target + b" HTTP/1." + minor + b"\r\n" + lines + b"\r\n" + body


REQUEST = st.builds(
    _request,
    st.sampled_from(METHODS),
    st.sampled_from(TARGETS[:2] * 5 + [target for target in TARGETS for _ in range(2 if normalize_path(target) else 1)]),
    st.sampled_from([b"1", b"1", b"1", b"0"]),
    st.sampled_from(HOSTS[:4] * 5 + HOSTS),
    st.lists(FIELD, max_size=4),
    sized(),
)
PIPELINE = st.lists(REQUEST, min_size=1, max_size=3).map(b"".join)


def _reply(minor: bytes, status: bytes, reason: bytes, fields: list[bytes], framed: tuple[bytes, bytes]) -> bytes:
    framing, body = framed
    return b"HTTP/1." + minor + b" " + status + reason + b"\r\n" + framing + b"".join(fields) + b"\r\n" + body


REPLY = st.builds(
    _reply,
    st.sampled_from([b"1", b"1", b"1", b"0"]),
    st.sampled_from([b"200"] * 8 + [b"204", b"304", b"404", b"103", b"100", b"599", b"600", b"20"]),
    st.sampled_from([b" OK", b" OK", b" ", b"", b" \xe9 x", b"X"]),
    st.lists(FIELD, max_size=4),
    sized(),
)
REPLIES = st.lists(REPLY, min_size=1, max_size=3).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn, seeds: st.SearchStrategy[bytes]) -> bytes:
    """A seed with a few bytes changed, put in, taken out, doubled or swapped."""
    data = draw(seeds)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        size = draw(st.integers(0, 4))
        how = draw(st.integers(0, 3))
        odd = draw(st.sampled_from(ODD) | st.binary(min_size=1, max_size=2))
        if how == 0:
            data = data[:at] + odd + data[at:]
        elif how == 1:
            data = data[:at] + odd + data[at + len(odd) :]
        elif how == 2:
            data = data[:at] + data[at + size :]
        else:
            data = data[:at] + data[at : at + size * 8] + data[at:]
    return data
