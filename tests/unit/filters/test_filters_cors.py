"""`cors`: preflight requests, marked replies, origins."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import problems, shipped

from pymosn.testing import Request, Response, Result, run

CONFIG: dict[str, Any] = {
    "allow_origins": ["https://app.example"],
    "allow_origin_regexes": ["https://[a-z]+\\.app\\.example"],
    "allow_methods": ["GET", "PUT"],
    "allow_headers": ["X-Token"],
    "expose_headers": ["X-Count"],
    "max_age": "1h",
    "allow_credentials": True,
}


def preflight(origin: str, config: dict[str, Any] = CONFIG) -> Result:
    fields = {"origin": origin, "access-control-request-method": "PUT", "access-control-request-headers": "x-token"}
    return run(shipped("cors", config), Request("OPTIONS", "/", fields))


def test_a_preflight_request_is_answered_here() -> None:
    result = preflight("https://app.example")
    assert (result.status, result.upstream) == (204, [])
    found = {name: value for name, value in result.headers.items() if name.startswith("access-control") or name == "vary"}
    assert found == {
        "access-control-allow-origin": "https://app.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "X-Token",
        "access-control-max-age": "3600",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://one.app.example", True),
        ("https://one.app.example.evil.example", False),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("null", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    assert preflight(origin).status == (204 if allowed else 403)
    result = run(shipped("cors", CONFIG), Request("GET", "/", {"origin": origin}))
    assert result.status == 200
    assert result.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert result.headers.get("access-control-expose-headers") == ("X-Count" if allowed else None)
    assert result.headers["vary"] == "Origin"


def test_the_upstreams_fields_are_ignored() -> None:
    response = Response(200, b"", {"access-control-allow-origin": "*", "vary": "Accept"})
    result = run(shipped("cors", CONFIG), Request("GET", "/", {"origin": "https://evil.example"}), upstream=response)
    assert "access-control-allow-origin" not in result.headers
    assert result.headers["vary"] == "Accept, Origin"


def test_every_origin() -> None:
    config = {"allow_origins": ["*"]}
    result = run(shipped("cors", config), Request("GET", "/", {"origin": "https://any.example"}))
    assert (result.headers["access-control-allow-origin"], result.headers.get("vary")) == ("*", None)
    assert preflight("null", config).headers["access-control-allow-origin"] == "*"


def test_other_options_requests_go_on() -> None:
    result = run(shipped("cors", CONFIG), Request("OPTIONS", "/", {"origin": "https://app.example"}))
    assert len(result.upstream) == 1


def test_faults() -> None:
    assert problems("cors", {}) == [".allow_origins: must not be empty; use * to allow every origin"]
    found = problems(
        "cors", {"allow_origins": ["*", "https://*.a"], "allow_credentials": True, "allow_origin_regexes": ["("]}
    )
    assert [fault.partition(":")[0] for fault in found] == [
        ".allow_origins[1]",
        ".allow_origin_regexes[0]",
        ".allow_credentials",
    ]
