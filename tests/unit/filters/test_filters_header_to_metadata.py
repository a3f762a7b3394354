"""`header_to_metadata`: labels from headers, which join those that are there."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import problems, shipped

from pymosn.api import Exchange, StreamFilter
from pymosn.testing import Request, run

RULES: dict[str, Any] = {
    "request_rules": [
        {
            "header": "X-Zone",
            "on_header_present": {"key": "zone"},
            "on_header_missing": {"key": "zone", "value": "default"},
            "remove": True,
        },
        {"header": "x-beta", "on_header_present": {"key": "version", "value": "2"}},
    ]
}


@pytest.mark.parametrize(
    ("headers", "labels"),
    [
        ({}, {"zone": "default"}),
        ({"x-zone": "a"}, {"zone": "a"}),
        ({"x-zone": "a", "X-Beta": "yes"}, {"zone": "a", "version": "2"}),
    ],
)
def test_labels(headers: dict[str, str], labels: dict[str, str]) -> None:
    result = run(shipped("header_to_metadata", RULES), Request("GET", "/", headers))
    choices = result.exchange.overrides
    assert choices is not None
    assert dict(choices.subset or ()) == labels
    if result.upstream:
        assert "x-zone" not in result.upstream[0].headers
        assert ("x-beta" in result.upstream[0].headers) is ("X-Beta" in headers)


class Chooses(StreamFilter):
    def on_request(self, exchange: Exchange) -> None:
        exchange.choose(subset={"app": "shop", "zone": "other"})


def test_labels_of_filters_before_stay() -> None:
    result = run([Chooses({}), shipped("header_to_metadata", RULES)], Request())
    assert result.exchange.overrides is not None
    assert dict(result.exchange.overrides.subset or ()) == {"app": "shop", "zone": "default"}


def test_faults() -> None:
    rules = [
        {"header": ""},
        {"header": "a", "on_header_present": {"value": "x"}, "on_header_missing": {"key": "k"}},
    ]
    assert problems("header_to_metadata", {"request_rules": rules}) == [
        ".request_rules[0].header: the name of a header is missing",
        ".request_rules[0]: a rule needs on_header_present or on_header_missing",
        ".request_rules[1].on_header_present.key: the label's name is missing",
        ".request_rules[1].on_header_missing.value: the label's value is missing",
    ]
