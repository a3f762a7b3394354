"""Header blocks of heads and trailers (RFC 9113 section 8, RFC 7541)."""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from pymosn.core.chars import FIELD_VALUE, LOWER, TOKEN
from pymosn.core.headers import COLON, SPACE, TAB, Headers, line_end, wire_lines
from pymosn.core.message import CONNECT, RequestHead, ResponseHead
from pymosn.protocol.http import fields
from pymosn.protocol.http.fields import classify
from pymosn.protocol.http2.hpack_encoder import NEVER_INDEXED, HpackEncoder, write_index, write_literal
from pymosn.protocol.http2.tables import STATIC_NAMES

_AUTHORITY: Final[i64] = 1
_METHOD: Final[i64] = 2
_GET: Final[i64] = 2
_POST: Final[i64] = 3
_PATH: Final[i64] = 4
_ROOT: Final[i64] = 4
_HTTP: Final[i64] = 6
_HTTPS: Final[i64] = 7
_STATUS: Final[i64] = 8
_STATUSES: Final[dict[int, int]] = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
_SWITCHING: Final[i64] = 101
_TE: Final = b"te: trailers\r\n"

#: Secrets are not compressed: several clients share a connection to a host (RFC 7541 section 7.1.3).
_SECRET: Final = frozenset(b"authorization proxy-authorization cookie set-cookie".split())

#: Each request has another one: it would cost most of all fields to find out that it is new.
_UNIQUE: Final = b"x-request-id"

#: What a block is.
_IN_REQUEST: Final[i64] = 0
_IN_RESPONSE: Final[i64] = 1
_IN_TRAILERS: Final[i64] = 2


class HeadEncoder:
    """Encodes the heads that one connection sends. Has the connection's HPACK encoder.

    Names become lower case. Fields that HTTP/2 does not have (`host`, connection fields) are left out, and so are those that
    it does not allow, which no codec and no filter can make.
    """

    def __init__(self) -> None:
        #: The connection's scheme, `http` or `https`: that of the requests sent on it (RFC 9110 section 7.4).
        self.scheme: str = "http"
        self._hpack = HpackEncoder()
        # The beginning of the last block, up to its first new field, and what it was made from. Mostly it is all of it.
        self._last: bytes = b""
        self._last_version: i64 = -1
        self._last_lines: bytes = b""
        self._last_path: bytes = b""
        self._last_query: bytes | None = None
        self._last_method: bytes = b""
        self._last_host: bytes = b""
        self._last_status: i64 = 0
        self._last_te: bool = False
        # Where the first new field of the block that is being written begins: in its lines, and in the block.
        self._new_line: i64 = 0
        self._new_field: i64 = 0
        # The last trailers without a new field, which are often the same, as with gRPC.
        self._last_trailers: bytes = b""
        self._trailers_version: i64 = -1
        self._trailer_lines: bytes = b""

    def set_table_size(self, size: i64) -> None:
        """Applies the peer's SETTINGS_HEADER_TABLE_SIZE; the next block begins with the update."""
        self._hpack.set_table_size(size)

    def request(self, head: RequestHead) -> bytes:
        """The header block of a request. A `raw_tunnel` other than CONNECT becomes `:protocol` (RFC 8441)."""
        lines = wire_lines(head.headers)
        hpack = self._hpack
        version: i64 = hpack.version
        is_known = (
            version == self._last_version
            and head.raw_path == self._last_path
            and head.raw_query == self._last_query
            and head.raw_method == self._last_method
            and head.raw_host == self._last_host
            and head.accepts_trailers == self._last_te
            and len(head.raw_tunnel) == 0
        )
        if is_known:
            if lines == self._last_lines:
                return self._last
            if lines.startswith(self._last_lines):
                return self._write_rest(lines, _IN_REQUEST)
        out = BytesWriter()
        hpack.begin(out)
        self._write_target(out, head)
        if head.accepts_trailers and len(head.raw_tunnel) == 0 and not hpack.write_known(out, _TE):
            hpack.write_new(out, _TE, 0, b"te", b"trailers")
        is_settled = hpack.is_settled and len(head.raw_tunnel) == 0
        self._write_lines(out, lines, 0, _IN_REQUEST)
        block = out.getvalue()
        if is_settled:
            self._last_path = head.raw_path
            self._last_query = head.raw_query
            self._last_method = head.raw_method
            self._last_host = head.raw_host
            self._last_te = head.accepts_trailers
            self._last_status = 0
            self._remember(block, lines, version)
        return block

    def response(self, head: ResponseHead) -> bytes:
        """The header block of a response; a 101 that opens a tunnel becomes a 200 (RFC 8441 section 5)."""
        lines = wire_lines(head.headers)
        hpack = self._hpack
        version: i64 = hpack.version
        if version == self._last_version and head.status == self._last_status:
            if lines == self._last_lines:
                return self._last
            if lines.startswith(self._last_lines):
                return self._write_rest(lines, _IN_RESPONSE)
        out = BytesWriter()
        hpack.begin(out)
        status: i64 = 200 if head.status == _SWITCHING else head.status
        index: i64 = _STATUSES.get(int(status), 0)
        if index > 0:
            write_index(out, index)
        else:
            value = b"%d" % status
            self._write_pseudo(out, b":status:" + value, _STATUS, value)
        is_settled = hpack.is_settled
        self._write_lines(out, lines, 0, _IN_RESPONSE)
        block = out.getvalue()
        if is_settled:
            self._last_status = head.status
            self._last_method = b""
            self._remember(block, lines, version)
        return block

    def trailers(self, trailers: Headers) -> bytes:
        """The header block of trailers."""
        lines = wire_lines(trailers)
        hpack = self._hpack
        version: i64 = hpack.version
        if version == self._trailers_version and lines == self._trailer_lines:
            return self._last_trailers
        kept = lines
        if trailers.has_raw(b"content-length"):
            # It is left out, but the table may have it from a head.
            trailers = trailers.copy()
            trailers.remove_raw(b"content-length")
            kept = wire_lines(trailers)
        out = BytesWriter()
        hpack.begin(out)
        is_settled = hpack.is_settled
        self._write_lines(out, kept, 0, _IN_TRAILERS)
        block = out.getvalue()
        if is_settled and hpack.is_settled:
            self._last_trailers = block
            self._trailers_version = version
            self._trailer_lines = lines
        return block

    def _write_rest(self, lines: bytes, place: i64) -> bytes:
        """The block of `lines`, whose beginning is known."""
        out = BytesWriter()
        out.write(self._last)
        self._write_lines(out, lines, len(self._last_lines), place)
        return out.getvalue()

    def _remember(self, block: bytes, lines: bytes, version: i64) -> None:
        """Remembers a block up to its first new field."""
        self._last = block if self._new_field == len(block) else block[: self._new_field]
        self._last_lines = lines if self._new_line == len(lines) else lines[: self._new_line]
        self._last_version = version

    # ---- pseudo-header fields

    def _write_target(self, out: BytesWriter, head: RequestHead) -> None:
        """The pseudo-header fields of a request (RFC 9113 section 8.3.1)."""
        method = head.raw_method if len(head.raw_tunnel) == 0 else CONNECT
        if method == b"GET":
            write_index(out, _GET)
        elif method == b"POST":
            write_index(out, _POST)
        else:
            self._write_pseudo(out, b":method:" + method, _METHOD, method)
        if head.raw_tunnel != CONNECT:
            write_index(out, _HTTPS if self.scheme == "https" else _HTTP)
            self._write_path(out, head)
        host = head.raw_host
        if len(host) == 0:
            found = head.headers.get_raw(b"host")
            host = b"" if found is None else found
        if len(host) > 0:
            self._write_pseudo(out, b":authority:" + host, _AUTHORITY, host)
        if len(head.raw_tunnel) > 0 and head.raw_tunnel != CONNECT:
            write_literal(out, 0, 0, b":protocol", head.raw_tunnel)

    def _write_path(self, out: BytesWriter, head: RequestHead) -> None:
        path = head.raw_path
        if head.raw_query is not None:
            write_literal(out, 0, _PATH, b"", head.raw_target())
        elif path == b"/":
            write_index(out, _ROOT)
        else:
            self._write_pseudo(out, b":path:" + path, _PATH, path)

    def _write_pseudo(self, out: BytesWriter, key: bytes, index: i64, value: bytes) -> None:
        if not self._hpack.write_known(out, key):
            # The name is in the static table; its length counts for the size of the entry.
            self._hpack.write_new(out, key, index, key[: key.find(b":", 1)], value)

    # ---- the other fields

    def _write_lines(self, out: BytesWriter, lines: bytes, start: i64, place: i64) -> None:
        """Writes the fields of the lines from the offset `start`."""
        hpack = self._hpack
        hpack.is_settled = True
        self._new_line = size = i64(len(lines))
        is_settled = True
        i: i64 = start
        while i < size:
            end: i64 = line_end(lines, i)
            line = lines[i:end]
            if not hpack.write_known(out, line):
                before: i64 = len(out)
                self._write_line(out, line, place)
                if is_settled and not hpack.is_settled:
                    is_settled = False
                    self._new_line = i
                    self._new_field = before
            i = end
        if is_settled:
            self._new_field = len(out)

    def _write_line(self, out: BytesWriter, line: bytes, place: i64) -> None:
        """Writes the field of a line that is not in the table, unless HTTP/2 must not have it."""
        end: i64 = len(line) - 2
        colon: i64 = 0
        is_lower = True
        while TOKEN[line[colon]] != 0:
            if LOWER[line[colon]] != line[colon]:
                is_lower = False
            colon += 1
        if line[colon] != COLON or colon == 0 or _is_left_out(line, colon, place):
            return
        name = line[:colon] if is_lower else line[:colon].lower()
        first: i64 = colon + 1
        while first < end and (line[first] == SPACE or line[first] == TAB):
            first += 1
        while end > first and (line[end - 1] == SPACE or line[end - 1] == TAB):
            end -= 1
        i: i64 = first
        while i < end and FIELD_VALUE[line[i]] != 0:
            i += 1
        if i < end:
            return
        value = line[first:end]
        index: i64 = STATIC_NAMES.get(name, 0)
        # Without a space after its colon, which is rare, the line is from a field that was never to be indexed: see `Entry`.
        if (first == colon + 1 and end > first) or name in _SECRET:
            write_literal(out, NEVER_INDEXED, index, name, value)
        elif name == _UNIQUE:
            self._hpack.write_unique(out, name, value)
        else:
            self._hpack.write_new(out, line, index, name, value)


def _is_left_out(line: bytes, colon: i64, place: i64) -> bool:
    """Whether the field, whose name ends at `colon`, has no place in HTTP/2 (RFC 9113 section 8.2.2)."""
    kind: i64 = classify(line, 0, colon)
    if kind == fields.OTHER:
        return False
    if kind == fields.HOST:
        return place == _IN_REQUEST
    if kind == fields.CONTENT_LENGTH:
        return place == _IN_TRAILERS
    if kind == fields.CONNECTION or kind == fields.TRANSFER_ENCODING or kind == fields.TE:
        return True
    return kind >= fields.HOP_BY_HOP and kind != fields.PROXY_AUTHORIZATION
