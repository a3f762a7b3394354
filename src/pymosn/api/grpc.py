"""gRPC requests: HTTP/2 requests whose outcome is a status in the trailers. `docs/grpc.md` has the tables.

The codec of HTTP/2 makes a `GrpcRequest` where `is_grpc` accepts the content type. Responses are plain `HttpResponse`s.
Names and numbers are those of gRPC's specification, "gRPC over HTTP2" and "Status codes and their use in gRPC".
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.http import HttpRequest, HttpResponse, phrase_of
from pymosn.core.chars import decimal
from pymosn.core.failure import (
    BAD_REWRITE,
    BODY_TOO_LARGE,
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    INVALID_JSON,
    REPEATED_FIELD,
    UNTRANSLATABLE_REQUEST,
    Failure,
)
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import UNKNOWN_LENGTH, RequestHead, ResponseHead

OK: Final[i64] = 0
CANCELLED: Final[i64] = 1
UNKNOWN: Final[i64] = 2
INVALID_ARGUMENT: Final[i64] = 3
DEADLINE_EXCEEDED: Final[i64] = 4
NOT_FOUND: Final[i64] = 5
ALREADY_EXISTS: Final[i64] = 6
PERMISSION_DENIED: Final[i64] = 7
RESOURCE_EXHAUSTED: Final[i64] = 8
FAILED_PRECONDITION: Final[i64] = 9
ABORTED: Final[i64] = 10
OUT_OF_RANGE: Final[i64] = 11
UNIMPLEMENTED: Final[i64] = 12
INTERNAL: Final[i64] = 13
UNAVAILABLE: Final[i64] = 14
DATA_LOSS: Final[i64] = 15
UNAUTHENTICATED: Final[i64] = 16

#: The names of the statuses as retry conditions, in the order of their numbers.
STATUS_NAMES: Final = (
    *("ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists"),
    *("permission-denied", "resource-exhausted", "failed-precondition", "aborted", "out-of-range", "unimplemented"),
    *("internal", "unavailable", "data-loss", "unauthenticated"),
)

CONTENT_TYPE: Final = b"application/grpc"
TIMEOUT: Final = b"grpc-timeout"
STATUS: Final = b"grpc-status"
MESSAGE: Final = b"grpc-message"

#: Characters of the message of a local reply: clients limit the size of trailers, often to 8 KiB.
LONGEST_MESSAGE: Final[i64] = 1024

#: "HTTP to gRPC Status Code Mapping": what gRPC's clients make of the HTTP status of a filter or a route.
_OF_HTTP: Final[dict[int, int]] = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}

#: The status for a failure with that HTTP status, where it differs. RATE_LIMITED is the 429, and 509 by MOSN's flow
#: control: a quota, not a lack of hosts.
_OF_FAILED: Final[dict[int, int]] = {
    408: DEADLINE_EXCEEDED,
    504: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    414: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    509: RESOURCE_EXHAUSTED,
    421: UNAVAILABLE,
    499: CANCELLED,
    500: INTERNAL,
}

#: The status for a failure, by its reason word, whose HTTP status is too general.
_OF_FAILURE: Final[dict[str, int]] = {
    CLIENT_GONE.reason: CANCELLED,
    CLIENT_WRITE_TIMEOUT.reason: CANCELLED,
    BAD_REWRITE.reason: INVALID_ARGUMENT,
    INVALID_JSON.reason: INVALID_ARGUMENT,
    REPEATED_FIELD.reason: INVALID_ARGUMENT,
    UNTRANSLATABLE_REQUEST.reason: INVALID_ARGUMENT,
    BODY_TOO_LARGE.reason: RESOURCE_EXHAUSTED,
}

#: The HTTP statuses that those of gRPC correspond to, by number (google/rpc/code.proto).
_TO_HTTP: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)

#: Seconds of the units of `grpc-timeout`.
_UNITS: Final[dict[int, float]] = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}
#: Seconds of a timeout that has already expired; 0.0 means that there is none.
_EXPIRED: Final = 1e-9
#: The highest value of `grpc-timeout`: 8 digits.
_MOST: Final[i64] = 99_999_999


def is_grpc(content_type: bytes) -> bool:
    """Whether a request with that content type is one of gRPC: `application/grpc`, perhaps with `+proto` or parameters."""
    size: i64 = len(CONTENT_TYPE)
    if len(content_type) < size:
        return False
    if content_type[:size].lower() != CONTENT_TYPE:
        return False
    if len(content_type) == size:
        return True
    after: i64 = content_type[size]
    return after == 43 or after == 59 or after == 32 or after == 9  # `+`, `;`, white space


def parse_timeout(value: bytes) -> float:
    """The seconds of a `grpc-timeout`; 0.0 for an invalid one, which is ignored. `0n` has expired, so it is not 0.0."""
    size: i64 = len(value) - 1
    if size < 1 or size > 8:
        return 0.0
    count = decimal(value[:size])
    unit = _UNITS.get(value[size], 0.0)
    if count < 0 or unit == 0.0:
        return 0.0
    return max(float(count) * unit, _EXPIRED)


def timeout_value(seconds: float) -> bytes:
    """A `grpc-timeout` of `seconds`, rounded up, in the finest unit that its 8 digits allow."""
    for unit, name in ((1e-6, b"u"), (1e-3, b"m"), (1.0, b"S")):
        count: i64 = i64(seconds / unit) + 1
        if count <= _MOST:
            return b"%d%s" % (count, name)
    return b"%dS" % _MOST


def framed(message: bytes, flags: i64 = 0) -> bytes:
    """A message as it is sent, after its flags and its length."""
    return bytes((int(flags),)) + len(message).to_bytes(4, "big") + message


def percent_encoded(text: str) -> bytes:
    """A status message as it is sent: printable ASCII except `%`, other bytes of UTF-8 as `%XX`."""
    raw = text.encode("utf-8", "replace")
    parts: list[bytes] = []
    for byte in raw:
        parts.append(b"%c" % byte if 32 <= byte <= 126 and byte != 37 else b"%%%02X" % byte)
    return b"".join(parts)


def status_of(fields: Headers) -> i64:
    """The gRPC status in the headers or trailers of a response; -1 without one, UNKNOWN for one that is not a status."""
    value = fields.get_raw(STATUS)
    if value is None:
        return -1
    status = decimal(value)
    return status if 0 <= status <= UNAUTHENTICATED else UNKNOWN


def of_http_status(status: i64) -> i64:
    """The gRPC status of a reply that has only an HTTP status."""
    return _OF_HTTP.get(int(status), UNKNOWN)


def to_http_status(status: i64) -> i64:
    """The HTTP status that a gRPC status corresponds to; that of UNKNOWN for a number that is not a status."""
    return _TO_HTTP[int(status if 0 <= status <= UNAUTHENTICATED else UNKNOWN)]


def of_failure(failure: Failure) -> i64:
    """The gRPC status for a failure, of the table or of a filter."""
    found = _OF_FAILURE.get(failure.reason, -1)
    if found < 0:
        found = _OF_FAILED.get(failure.status, -1)
    return found if found >= 0 else of_http_status(failure.status)


@mypyc_attr(allow_interpreted_subclasses=True)
class GrpcRequest(HttpRequest):
    """The head of a gRPC request: its path is `/package.Service/Method`.

    Local replies are "trailers-only": HTTP 200 with `grpc-status` and `grpc-message`, and no body.
    """

    def __init__(self, headers: Headers | None = None) -> None:
        super().__init__(headers)
        self.has_call_status = True

    def copy(self) -> RequestHead:
        head = GrpcRequest(self.headers.copy())
        self.copy_into(head)
        return head

    def adopt_timeout(self, value: bytes) -> None:
        """Makes a received `grpc-timeout` the timeout of the request. An invalid one is ignored, and forwarded."""
        self.timeout = parse_timeout(value)
        if self.timeout > 0.0:
            self.has_timeout = True
            self.has_deadline = True

    def limit_time(self, seconds: float) -> None:
        self.headers.remove_raw(TIMEOUT)
        self.headers.add_raw(TIMEOUT, timeout_value(seconds))

    # ---- what the request asks for

    def service(self) -> str:
        path = self.raw_path
        at: i64 = path.rfind(b"/")
        return "" if at < 1 else path[1:at].decode("latin-1")

    def rpc_method(self) -> str:
        path = self.raw_path
        at: i64 = path.rfind(b"/")
        return "" if at < 1 else path[at + 1 :].decode("latin-1")

    # ---- the outcome of the call

    def call_status(self, fields: Headers) -> i64:
        return status_of(fields)

    def failure_call_status(self, failure: Failure) -> i64:
        return of_failure(failure)

    def failure_trailers(self, response: ResponseHead, failure: Failure) -> Headers | None:
        """The status, as of a local reply. A message that is not complete is an error for clients, whatever the status."""
        if response.content_length >= 0 or not is_message(response.headers):
            return None
        trailers = headers_from(None)
        trailers.add_raw(STATUS, b"%d" % of_failure(failure))
        trailers.add_raw(MESSAGE, percent_encoded(_text_of(failure.status, self.failure_body(failure))))
        return trailers

    def call_outcome(self, response: ResponseHead | None, failure: Failure | None) -> i64:
        if response is not None:
            found = -1 if response.trailers is None else status_of(response.trailers)
            if found < 0:
                found = status_of(response.headers)
            if found >= 0:
                return found
        if failure is not None:
            return of_failure(failure)
        return -1 if response is None else of_http_status(response.status)

    def host_outcome(self, fields: Headers) -> i64:
        status = status_of(fields)
        return 0 if status < 0 else to_http_status(status)

    # ---- local replies

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> ResponseHead:
        if is_message(headers):
            return _whole_reply(status, headers, len(body))
        return _trailers_only(of_http_status(status), _text_of(status, body), headers)

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> ResponseHead:
        return _trailers_only(of_failure(failure), _text_of(failure.status, body or self.failure_body(failure)), headers)

    def failure_body(self, failure: Failure) -> bytes:
        """The message: with the reason word, because many failures have the same status."""
        return f"{failure.status} {phrase_of(failure.status)}: {failure.reason}".encode()

    def streamed_reply(self, status: i64, headers: Headers) -> ResponseHead:
        if is_message(headers):
            return _whole_reply(status, headers, UNKNOWN_LENGTH)
        return _trailers_only(of_http_status(status), _text_of(status, b""), headers)

    def reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        return body if head.trailers is not None else b""


def is_message(headers: Headers) -> bool:
    """Whether a filter replies with gRPC messages, rather than with text."""
    content_type = headers.get_raw(b"content-type")
    return content_type is not None and is_grpc(content_type)


def _text_of(status: i64, body: bytes) -> str:
    """The message for a reply: its text, or the HTTP status that it would have had."""
    text = body.decode("utf-8", "replace").strip()
    return text[:LONGEST_MESSAGE] if text else f"{status} {phrase_of(status)}"


def _trailers_only(status: i64, message: str, headers: Headers) -> HttpResponse:
    """A response without a body. A status and a message that a filter has set among its `headers` are kept."""
    headers.remove_raw(b"content-type")
    headers.remove_raw(b"content-length")
    headers.add_raw(b"content-type", CONTENT_TYPE)
    if headers.get_raw(STATUS) is None:
        headers.add_raw(STATUS, b"%d" % status)
        if headers.get_raw(MESSAGE) is None:
            headers.add_raw(MESSAGE, percent_encoded(message))
    head = HttpResponse(200, b"", headers)
    head.content_length = 0
    return head


def _whole_reply(status: i64, headers: Headers, length: i64) -> HttpResponse:
    """A response whose body has gRPC messages. The status, among its `headers` or by the HTTP status, becomes a trailer."""
    trailers = headers.copy()
    for name, _ in headers.items_raw():
        (headers if name in (STATUS, MESSAGE) else trailers).remove_raw(name)
    if trailers.get_raw(STATUS) is None:
        trailers.add_raw(STATUS, b"%d" % (OK if 200 <= status <= 299 else of_http_status(status)))
    head = HttpResponse(200, b"", headers)
    head.content_length = length if length > 0 else UNKNOWN_LENGTH
    head.trailers = trailers
    return head
