"""gRPC requests: what they ask for, their timeouts, and the replies of the proxy."""

import pytest

from pymosn.api.grpc import GrpcRequest, is_grpc, parse_timeout, percent_encoded, status_of, timeout_value
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.core import failure as failures
from pymosn.core.headers import headers_from


def request(path: bytes = b"/pkg.Echo/Say") -> GrpcRequest:
    made = GrpcRequest()
    made.raw_method = b"POST"
    made.raw_path = path
    return made


@pytest.mark.parametrize(
    "value", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8", b"Application/gRPC"]
)
def test_content_types_of_grpc(value: bytes) -> None:
    assert is_grpc(value)


@pytest.mark.parametrize("value", [b"", b"application/grpc-web", b"application/grpc-web+proto", b"application/json", b"a"])
def test_content_types_of_others(value: bytes) -> None:
    assert not is_grpc(value)


def test_service_and_method_are_those_of_the_path() -> None:
    assert (request().service(), request().rpc_method()) == ("pkg.Echo", "Say")
    assert request().method == "POST"


@pytest.mark.parametrize("path", [b"/", b"", b"/Say", b"*"])
def test_other_paths_name_no_service(path: bytes) -> None:
    assert (request(path).service(), request(path).rpc_method()) == ("", "")


def test_a_copy_is_a_grpc_request_too() -> None:
    original = request()
    original.headers.set("x-a", "1")
    original.adopt_timeout(b"5S")
    copy = original.copy()
    assert isinstance(copy, GrpcRequest)
    assert (copy.service(), copy.timeout, copy.has_deadline) == ("pkg.Echo", 5.0, True)
    assert copy.headers is not original.headers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"1u", 1e-6), (b"5n", 5e-9)),
        *((b"99999999H", 99999999 * 3600.0), (b"0n", 1e-9), (b"0S", 1e-9)),
    ],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"5", b"5s", b"100000000S", b"-1S", b"1.5S", b" 1S", b"1S ", b"+1S"])
def test_invalid_timeouts_are_ignored(value: bytes) -> None:
    asked = request()
    asked.adopt_timeout(value)
    assert (asked.timeout, asked.has_timeout, asked.has_deadline) == (0.0, False, False)


def test_the_time_that_is_left_replaces_the_timeout() -> None:
    asked = request()
    asked.headers.set("grpc-timeout", "5S")
    asked.limit_time(1.5)
    assert asked.headers.get_all("grpc-timeout") == ["1500001u"]
    assert timeout_value(3600.0) == b"3600001m"
    assert timeout_value(1e6) == b"1000001S"
    assert timeout_value(1e12) == b"99999999S"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (failures.NO_ROUTE, 12),
        (failures.NO_HOSTS, 14),
        (failures.CONNECT_REFUSED, 14),
        (failures.RESET_BEFORE_RESPONSE, 14),
        (failures.OVERFLOW, 14),
        (failures.DRAINING, 14),
        (failures.UPSTREAM_TIMEOUT, 4),
        (failures.STREAM_IDLE, 4),
        (failures.RATE_LIMITED, 8),
        (failures.Failure("rate_limited", 509), 8),
        (failures.BODY_TOO_LARGE, 8),
        (failures.HEADERS_TOO_LARGE, 8),
        (failures.ACCESS_DENIED, 7),
        (failures.UNAUTHORIZED, 16),
        (failures.BAD_REQUEST, 13),
        (failures.INTERNAL_ERROR, 13),
        (failures.FILTER_ERROR, 13),
        (failures.REPEATED_FIELD, 3),
        (failures.CLIENT_GONE, 1),
    ],
)
def test_failures_have_a_status(failure: failures.Failure, status: int) -> None:
    asked = request()
    head = asked.failure_reply(failure, headers_from(None), asked.failure_body(failure))
    assert (head.status, head.content_length) == (200, 0)
    assert head.headers.items()[:2] == [("content-type", "application/grpc"), ("grpc-status", str(status))]
    message = head.headers.get("grpc-message", "")
    assert message.startswith(f"{failure.status} ")
    assert message.endswith(f": {failure.reason}")
    assert asked.reply_body(head, b"text") == b""
    assert asked.failure_call_status(failure) == status


@pytest.mark.parametrize(
    ("http", "grpc"), [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (200, 2), (302, 2), (500, 2)]
)
def test_replies_of_filters_are_mapped_as_by_clients(http: int, grpc: int) -> None:
    head = request().local_reply(http, headers_from({"content-type": "text/plain"}), b"sorry\n")
    assert (head.status, head.headers.items()) == (
        200,
        [("content-type", "application/grpc"), ("grpc-status", str(grpc)), ("grpc-message", "sorry")],
    )


def test_a_filter_may_choose_the_status() -> None:
    head = request().local_reply(200, headers_from({"grpc-status": "9", "grpc-message": "not%20now"}), b"")
    assert (head.headers.get("grpc-status"), head.headers.get("grpc-message")) == ("9", "not%20now")


def test_a_filter_may_reply_with_messages() -> None:
    asked = request()
    fields = {"content-type": "application/grpc+proto", "x-a": "1", "grpc-status": "0"}
    head = asked.local_reply(200, headers_from(fields), b"\0\0\0\0\0")
    assert head.headers.items() == [("content-type", "application/grpc+proto"), ("x-a", "1")]
    assert head.trailers is not None
    assert head.trailers.items() == [("grpc-status", "0")]
    assert asked.reply_body(head, b"\0\0\0\0\0") == b"\0\0\0\0\0"


def test_messages_are_percent_encoded() -> None:
    assert percent_encoded("50 % of é\n") == b"50 %25 of %C3%A9%0A"


@pytest.mark.parametrize(("value", "status"), [("0", 0), ("16", 16), ("17", 2), ("x", 2), ("", 2)])
def test_status_of_trailers(value: str, status: int) -> None:
    assert status_of(headers_from({"grpc-status": value})) == status


def test_what_a_call_came_to() -> None:
    asked = request()
    response = HttpResponse(200)
    assert asked.call_outcome(None, None) == -1
    assert asked.call_outcome(response, None) == 2
    assert asked.call_outcome(response, failures.RESET_AFTER_RESPONSE) == 14
    response.trailers = headers_from({"grpc-status": "5"})
    assert asked.call_outcome(response, None) == 5
    assert asked.call_outcome(HttpResponse(200, b"", headers_from({"grpc-status": "0"})), None) == 0
    assert asked.call_outcome(None, failures.CLIENT_GONE) == 1
    assert (HttpRequest().call_outcome(response, None), HttpRequest().has_call_status) == (-1, False)


@pytest.mark.parametrize(
    ("grpc", "http"), [(0, 200), (1, 499), (2, 500), (4, 504), (12, 501), (14, 503), (16, 401), (99, 500)]
)
def test_outcomes_of_hosts(grpc: int, http: int) -> None:
    assert request().host_outcome(headers_from({"grpc-status": str(grpc)})) == http


def test_no_status() -> None:
    assert status_of(headers_from(None)) == -1
