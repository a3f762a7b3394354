"""Readers of the small messages that many others contain."""

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from pymosn.control.xds.convert import values
from pymosn.control.xds.convert.view import Report, View
from pymosn.filters.settings import HeaderMatch, IntegerRange, StringMatch


def read(reader: Callable[[View], Any], message: Message, source: dict[str, Any]) -> tuple[Any, Report]:
    report = Report()
    result = reader(View(json_format.ParseDict(source, message), "", report))
    return result, report


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"exact": "a"}, StringMatch(exact="a")),
        ({"exact": ""}, StringMatch(exact="")),
        ({"prefix": "a", "ignoreCase": True}, StringMatch(prefix="a", ignore_case=True)),
        ({"suffix": "a"}, StringMatch(suffix="a")),
        ({"contains": "a"}, StringMatch(contains="a")),
        ({"safeRegex": {"regex": "a+"}}, StringMatch(regex="a+")),
        ({"safeRegex": {"googleRe2": {"maxProgramSize": 100}, "regex": "a+"}}, StringMatch(regex="a+")),
    ],
)
def test_string_matchers(source: dict[str, Any], expected: StringMatch) -> None:
    made, report = read(values.string_match, string_pb2.StringMatcher(), source)
    assert (made, report.text()) == (expected, "")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({}, "expected one of exact"),
        ({"prefix": ""}, "prefix: must not be empty"),
        ({"safeRegex": {"regex": ""}}, "safe_regex.regex: must not be empty"),
        ({"safeRegex": {"regex": "a"}, "ignoreCase": True}, "ignore_case: not valid with safe_regex"),
        ({"custom": {"name": "x"}}, "custom: conditions of extensions"),
    ],
)
def test_invalid_string_matchers(source: dict[str, Any], fault: str) -> None:
    assert fault in read(values.string_match, string_pb2.StringMatcher(), source)[1].text()


def test_a_list_of_string_matchers() -> None:
    source = {"patterns": [{"exact": "a"}, {"prefix": "b"}]}
    made, report = read(values.list_string_match, string_pb2.ListStringMatcher(), source)
    assert made == [StringMatch(exact="a"), StringMatch(prefix="b")]
    assert not report.faults


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"name": "A", "stringMatch": {"exact": "x"}}, HeaderMatch(name="a", string_match=StringMatch(exact="x"))),
        ({"name": "host", "exactMatch": "x"}, HeaderMatch(name=":authority", string_match=StringMatch(exact="x"))),
        ({"name": "a", "exactMatch": ""}, HeaderMatch(name="a", string_match=StringMatch(regex="(?s).*"))),
        ({"name": "a", "safeRegexMatch": {"regex": "x"}}, HeaderMatch(name="a", string_match=StringMatch(regex="x"))),
        ({"name": "a", "prefixMatch": "x"}, HeaderMatch(name="a", string_match=StringMatch(prefix="x"))),
        ({"name": "a", "suffixMatch": "x"}, HeaderMatch(name="a", string_match=StringMatch(suffix="x"))),
        ({"name": "a", "containsMatch": "x"}, HeaderMatch(name="a", string_match=StringMatch(contains="x"))),
        (
            {"name": "a", "rangeMatch": {"start": -1, "end": 5}},
            HeaderMatch(name="a", range_match=IntegerRange(start=-1, end=5)),
        ),
        ({"name": "a"}, HeaderMatch(name="a", present_match=True)),
        ({"name": "a", "presentMatch": False}, HeaderMatch(name="a", present_match=False)),
        (
            {"name": "a", "presentMatch": True, "invertMatch": True, "treatMissingHeaderAsEmpty": True},
            HeaderMatch(name="a", present_match=True, invert_match=True, treat_missing_header_as_empty=True),
        ),
    ],
)
def test_header_matchers(source: dict[str, Any], expected: HeaderMatch) -> None:
    made, report = read(values.header_match, route_pb2.HeaderMatcher(), source)
    assert (made, report.text()) == (expected, "")


@pytest.mark.parametrize(
    ("source", "percent"),
    [
        ({"numerator": 50}, 50.0),
        ({"numerator": 1, "denominator": "TEN_THOUSAND"}, 0.01),
        ({"numerator": 125000, "denominator": "MILLION"}, 12.5),
        ({"numerator": 200}, 100.0),
    ],
)
def test_fractions(source: dict[str, Any], percent: float) -> None:
    assert read(values.fraction, percent_pb2.FractionalPercent(), source)[0] == percent
    runtime = {"runtimeKey": "x", "defaultValue": source}
    made, report = read(values.runtime_fraction, base_pb2.RuntimeFractionalPercent(), runtime)
    assert (made, report.text()) == (percent, "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"socketAddress": {"address": "10.0.0.1", "portValue": 80}}, "10.0.0.1:80"),
        ({"socketAddress": {"address": "::1", "portValue": 80}}, "[::1]:80"),
        ({"socketAddress": {"address": "a.example", "portValue": 80}}, "a.example:80"),
        ({"pipe": {"path": "./a/b", "mode": 420}}, "unix:./a/b"),
    ],
)
def test_addresses(source: dict[str, Any], expected: str) -> None:
    made, report = read(values.address, address_pb2.Address(), source)
    assert (made, report.text()) == (expected, "")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({}, "missing address"),
        ({"socketAddress": {"address": "a", "namedPort": "x"}}, "socket_address.named_port: ports by name"),
        ({"socketAddress": {"protocol": "UDP", "address": "a"}}, "socket_address.protocol: only TCP"),
        ({"socketAddress": {"address": "a", "portValue": 70000}}, "socket_address.port_value: must be at most 65535"),
        ({"envoyInternalAddress": {"serverListenerName": "x"}}, "envoy_internal_address: only socket addresses"),
        ({"pipe": {"path": "@a"}}, "pipe.path: abstract"),
    ],
)
def test_invalid_addresses(source: dict[str, Any], fault: str) -> None:
    assert fault in read(values.address, address_pb2.Address(), source)[1].text()


def test_networks() -> None:
    for source, expected, fault in (
        ({"addressPrefix": "10.0.0.0", "prefixLen": 8}, "10.0.0.0/8", ""),
        ({"addressPrefix": "::", "prefixLen": 0}, "::/0", ""),
        ({"addressPrefix": "10.0.0.0"}, "10.0.0.0/0", ""),
        ({"addressPrefix": "10.0.0.0", "prefixLen": 33}, "10.0.0.0/32", "prefix_len: must be at most 32, got 33"),
        ({"addressPrefix": "x"}, "0.0.0.0/0", "address_prefix: not an IP address: 'x'"),
    ):
        made, report = read(values.cidr, address_pb2.CidrRange(), source)
        assert (made, report.text()) == (expected, fault)


@pytest.mark.parametrize(
    ("source", "action"),
    [
        ({}, "APPEND_IF_EXISTS_OR_ADD"),
        ({"append": False}, "OVERWRITE_IF_EXISTS_OR_ADD"),
        ({"append": True}, "APPEND_IF_EXISTS_OR_ADD"),
        ({"appendAction": "ADD_IF_ABSENT"}, "ADD_IF_ABSENT"),
        ({"appendAction": "OVERWRITE_IF_EXISTS"}, "OVERWRITE_IF_EXISTS"),
    ],
)
def test_header_options(source: dict[str, Any], action: str) -> None:
    whole = {"header": {"key": "X-a", "value": "1"}, "keepEmptyValue": True, **source}
    made, report = read(values.header_option, base_pb2.HeaderValueOption(), whole)
    assert (made.name, made.value, made.action, made.keeps_empty, report.text()) == ("X-a", "1", action, True, "")


def test_invalid_header_options() -> None:
    both = {"header": {"key": "a"}, "append": True, "appendAction": "ADD_IF_ABSENT"}
    assert "append: not valid" in read(values.header_option, base_pb2.HeaderValueOption(), both)[1].text()
    assert "a header needs a key" in read(values.header_option, base_pb2.HeaderValueOption(), {})[1].text()


def test_a_regex_substitution() -> None:
    source = {"pattern": {"regex": "/re/(.*)"}, "substitution": "/x/\\1"}
    made, report = read(values.regex_substitution, regex_pb2.RegexMatchAndSubstitute(), source)
    assert (made, report.text()) == (("/re/(.*)", "/x/\\1"), "")
