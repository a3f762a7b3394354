"""Holds what our decoders made of some bytes against what llhttp and h11 see in them.

Everything that we accept, both must see the same way: as many messages, the same methods, targets, fields, bodies and
trailers, once what a proxy changes on purpose is changed in theirs too. That they accept what we refuse is no difference:
our profile is strict. The other differences are in `EXPLAINED`, each with the section that says who is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.fuzz.second_opinion import Fields, Seen, View
from tests.unit.protocol.decoding import Message, Outcome

from pymosn.core.message import RequestHead
from pymosn.core.uri import normalize_path

#: Written out again on purpose: the codec's own tables would agree with themselves.
HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"transfer-encoding"),
    *(b"proxy-authorization", b"http2-settings"),
}
KEPT = {
    *(b"host", b"content-length", b"authorization", b"cookie", b"set-cookie", b"expect", b"content-type"),
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"),
}
#: What a client may not claim: dropped from requests and from all trailers.
CLAIM = re.compile(rb"x-forwarded-.*|x-mosn-.*|x-envoy-.*|x-real-ip|forwarded")
NO_CLAIM = {b"x-forwarded-for", b"x-mosn-global-timeout", b"x-mosn-try-timeout"}
MEANT = HOP_BY_HOP | KEPT | NO_CLAIM | {b"date"}
NOT_IN_TRAILERS = {
    *MEANT,
    *(b"content-encoding", b"content-range", b"range", b"max-forwards", b"cache-control", b"pragma", b"age", b"expires"),
    *(b"location", b"retry-after", b"vary", b"www-authenticate", b"proxy-authenticate"),
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
}


def is_claim(name: bytes) -> bool:
    return name not in NO_CLAIM and bool(CLAIM.fullmatch(name))


def is_look_alike(name: bytes) -> bool:
    """Whether it comes with underscores for the dashes of a name that means something to the proxy."""
    dashed = name.replace(b"_", b"-")
    return dashed != name and (dashed in MEANT or bool(CLAIM.fullmatch(dashed)))


@dataclass(frozen=True)
class Explained:
    """A difference that is meant: `peer` sees it otherwise when `error`, its own word, and `data` match."""

    peer: str
    why: str
    error: str
    data: bytes = b""

    def covers(self, peer: str, data: bytes, view: View) -> bool:
        return peer == self.peer and bool(re.search(self.error, view.error)) and bool(re.search(self.data, data, re.DOTALL))


CHUNKED = rb"(?i)transfer-encoding:[ ]*chunked\r\n.*\n0"
EXPLAINED: tuple[Explained, ...] = (
    Explained("llhttp", "knows registered methods only; the set is open (RFC 9110 section 9.1): we are right",
            "^HttpParserInvalidMethod"),
    Explained("h11", "refuses the empty line that a server should ignore (RFC 9112 section 2.2): we are right",
              "^no request line received$"),
    Explained("llhttp", "frames by trailer fields; framing may not come there (RFC 9110 section 6.5.1): we drop them",
              "Content-Length|Transfer-Encoding", CHUNKED),
    Explained("h11", "frames by trailer fields; framing may not come there (RFC 9110 section 6.5.1): we drop them",
              "Content-Length|Transfer-Encoding", CHUNKED),
    Explained("llhttp", "closes by a trailer; Connection may not come there (RFC 9110 sections 6.5.1, 7.6.1)",
              "Data after `Connection: close`", CHUNKED + rb"[^\r]*\r\n(.*\r\n)?(proxy-)?connection:"),
    Explained("llhttp", "ends the connection at an interim reply in HTTP/1.0; the final one follows (RFC 9110 section 15.2)",
              "Data after `Connection: close`", rb"^HTTP/1\.. 1"),
)  # fmt: skip


def expected_fields(theirs: Fields) -> Fields:
    """What must be passed on of the fields that the other parser saw (RFC 9110 section 7.6.1)."""
    named = {
        option.strip(b" \t").lower() for name, value in theirs if name == b"connection" for option in value.split(b",")
    } - KEPT
    dropped = HOP_BY_HOP | named
    return [(name, value) for name, value in theirs if name not in dropped and not is_look_alike(name)]


def expected_request(theirs: Seen, minor: int) -> tuple[bytes, bytes, bytes | None, Fields]:
    """Method, path, query and fields in the form that is passed on."""
    method, target = theirs.start
    fields = [field for field in expected_fields(theirs.fields) if not is_claim(field[0])]
    if minor == 0:
        fields = [field for field in fields if field[0] != b"expect"]
    path, mark, query = target.partition(b"?")
    absolute = re.fullmatch(rb"http://([^/]*)(.*)", path, re.IGNORECASE | re.DOTALL)
    if absolute:
        path = absolute[2] or (b"*" if method == b"OPTIONS" and not mark else b"/")
        fields = [(b"host", absolute[1].lower()), *(field for field in fields if field[0] != b"host")]
    if path != b"*":
        path = normalize_path(path) or b"(refused)"
    return method, path, query if mark else None, fields


def requests_differ(ours: Outcome, view: View) -> str:
    """What the two disagree about; empty when they agree."""
    complete = ours.complete
    closing = next((i for i, message in enumerate(complete) if not message.start[5]), None)
    if closing is not None:
        complete = complete[: closing + 1]  # nothing behind it is read
    for number, message in enumerate(complete):
        if number >= len(view.messages):
            return "" if view.stopped else f"request {number} is complete for us alone"
        assert isinstance(message.head, RequestHead)
        theirs = view.messages[number]
        ours_form = (*message.start[:3], message.fields)
        theirs_form = expected_request(theirs, message.minor_version)
        if ours_form != theirs_form:
            return f"request {number}: {ours_form} is {theirs_form} for them"
        found = _bodies_differ(message, theirs)
        if found:
            return f"request {number}: {found}"
    if ours.failure is None and closing is None and len(view.messages) > len(complete):
        return "they see more requests"
    return ""


def reply_differs(ours: Outcome, view: View) -> str:
    """The same for the final reply."""
    complete = ours.complete
    if ours.failure is not None:
        return ""
    finals = [seen for seen in view.messages if int(seen.start[0]) >= 200]
    if not complete:
        return "the reply is complete for them alone" if finals else ""
    if not finals:
        return "" if view.stopped else "the reply is complete for us alone"
    message, theirs = complete[0], finals[0]
    status, fields = message.start[0], expected_fields(theirs.fields)
    if status == 204:
        fields = [field for field in fields if field[0] != b"content-length"]
    if (b"%d" % status, message.fields) != (theirs.start[0], fields):
        return f"{status} {message.fields} is {theirs.start[0]!r} {fields} for them"
    return _bodies_differ(message, theirs)


def _bodies_differ(message: Message, theirs: Seen) -> str:
    if message.body != theirs.body:
        return f"body {message.body!r} is {theirs.body!r} for them"
    dashed = [(field[0].replace(b"_", b"-"), field) for field in theirs.trailers]
    trailers = [field for name, field in dashed if name not in NOT_IN_TRAILERS and not CLAIM.fullmatch(name)]
    if message.trailers != trailers:
        return f"trailers {message.trailers} are {trailers} for them"
    return ""


def unexplained(peer: str, data: bytes, view: View, difference: str) -> str:
    """The difference, unless the table explains it."""
    if not difference or any(entry.covers(peer, data, view) for entry in EXPLAINED):
        return ""
    return f"{peer}: {difference}; its error: {view.error!r}"
