"""`payload_limit`: announced lengths, streamed bodies, MOSN's spelling of the key."""

from __future__ import annotations

import pytest
from shipped_kit import of_route, problems, shipped

from pymosn.testing import Request, run


@pytest.mark.parametrize("key", ["max_entity_size ", "max_entity_size", "Max_Entity_Size"])
def test_an_announced_length_is_refused_before_the_body(key: str) -> None:
    filters = shipped("payload_limit", {key: 4, "http_status": 499})
    result = run(filters, Request("POST", "/", body=b"hello"))
    assert (result.status, result.reason, result.upstream) == (499, "body_too_large", [])
    assert run(filters, Request("POST", "/", body=b"hell")).status == 200


def test_without_a_status_it_is_413() -> None:
    assert run(shipped("payload_limit", {"max_entity_size": 4}), Request("POST", "/", body=b"hello")).status == 413


def test_a_body_of_unknown_length_fails_where_it_grows_too_long() -> None:
    filters = shipped("payload_limit", {"max_entity_size": 4})
    chunked = Request("POST", "/", body=[b"hel", b"lo", b"and on"])
    result = run(filters, unknown(chunked))
    assert (result.status, result.reason, result.upstream) == (413, "body_too_large", [])
    assert run(filters, unknown(Request("POST", "/", body=[b"he", b"ll"]))).upstream[0].body == b"hell"


def unknown(request: Request) -> Request:
    """Sent in chunks: see `Request.is_sized`."""
    request.is_sized = False
    return request


def test_zero_is_no_limit_and_routes_have_their_own() -> None:
    long = Request("POST", "/", body=b"x" * 10000)
    assert run(shipped("payload_limit", {}), long).status == 200
    own = of_route("payload_limit", {"max_entity_size ": 20000})
    assert run(shipped("payload_limit", {"max_entity_size": 1}), long, route_config=own).status == 200
    own = of_route("payload_limit", {"max_entity_size ": 9999})
    assert run(shipped("payload_limit", {}), long, route_config=own).status == 413


def test_negative_limits() -> None:
    assert problems("payload_limit", {"max_entity_size": -1}) == [".max_entity_size: must be 0 or more"]
