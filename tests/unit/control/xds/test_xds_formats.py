"""Envoy's formats and access loggers -> ours."""

from typing import Any

import pytest
from tests.kit.xds_messages import view_of

from pymosn.config.schema import AccessLog
from pymosn.config.schema.http_chain import Comparison, LogCondition, LogFilter, LogHeader
from pymosn.control.xds.convert.access_logs import DEFAULT, read_access_logs
from pymosn.control.xds.convert.formats import translate, translate_value
from pymosn.control.xds.convert.ports import disabled_ports
from pymosn.control.xds.convert.view import Report
from pymosn.filters.settings import StringMatch
from pymosn.observe.access_log import compile_format

FILE = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
STDERR = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog"


def translated(text: str) -> tuple[str, Report]:
    view, report = view_of("envoy.config.listener.v3.Listener", {})
    return translate(text, view, "format"), report


def logs(*loggers: dict[str, Any]) -> tuple[list[AccessLog], Report]:
    view, report = view_of("envoy.config.listener.v3.Listener", {"access_log": list(loggers)})
    with view:
        return read_access_logs(view), report


def logger(*, filter: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "x", "typed_config": {"@type": FILE, "path": "/dev/stdout", **keys}}
    return made if filter is None else {**made, "filter": filter}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%DURATION% %BYTES_SENT%", "%duration_ms% %bytes_sent%"),
        ("%REQ(:METHOD)%", "%request_method%"),
        ("%REQ(X-A?X-B):10%", "%request_header_x-a|request_header_x-b:10%"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "%upstream_service_time_ms%"),
        ("%RESP(Server)%", "%response_header_server%"),
        ("100%%", "100%percent%"),
        ("%START_TIME%", "%start_time_utc%"),
        ("%START_TIME(%s)%", "%start_time_seconds%"),
        ("plain", "plain"),
        ("a\\%DURATION%", "a%backslash%%duration_ms%"),
    ],
)
def test_commands(text: str, expected: str) -> None:
    found, report = translated(text)
    assert found == expected
    assert not report.warnings
    assert compile_format(found).warnings == []


def test_unknown_commands_are_reported() -> None:
    found, report = translated("%NO_SUCH_COMMAND% %DYNAMIC_METADATA(a:b)%")
    assert found == "- -"
    assert len(report.warnings) == 2


@pytest.mark.parametrize(
    ("text", "sent", "answered"),
    [
        ("%REQ(:path)%", "%request_uri%", "%path_now%"),
        ("%REQ(x-a?:path):9%", "%request_header_x-a|request_uri:9%", "%request_header_x-a|path_now:9%"),
        ("a%%b", "a%percent%b", "a%percent%b"),
        ("%PROTOCOL%", "%protocol_envoy%", "%protocol_envoy%"),
        ("plain", "plain", "plain"),
    ],
)
def test_values_of_header_fields(text: str, sent: str, answered: str) -> None:
    view, report = view_of("envoy.config.listener.v3.Listener", {})
    assert translate_value(text, view, "value", of_request=True) == sent
    assert translate_value(text, view, "value", of_request=False) == answered
    assert not report.faults


@pytest.mark.parametrize(
    "text",
    ["%NO_SUCH%", "%DYNAMIC_METADATA(a:b)%", "5 % of", "%START_TIME(%Y)%", "%REQ(a!b)%", "%DOWNSTREAM_LOCAL_URI_SAN%"],
)
def test_what_is_unknown_in_a_header_field_is_a_fault(text: str) -> None:
    view, report = view_of("envoy.config.listener.v3.Listener", {})
    translate_value(text, view, "value", of_request=True)
    assert [fault.path for fault in report.faults] == ["value"]
    assert not report.warnings


def test_the_default_format_has_no_unknown_command() -> None:
    found, report = translated(DEFAULT)
    assert not report.warnings
    assert compile_format(found).warnings == []


def test_files_and_streams() -> None:
    text = {"text_format_source": {"inline_string": "%DURATION%\n"}}
    found, report = logs(logger(log_format=text), logger(format="a %PROTOCOL%\n"), logger())
    assert report.text() == ""
    assert [log.log_path for log in found] == ["stdout"] * 3
    assert [log.log_format for log in found[:2]] == ["%duration_ms%", "a %protocol_envoy%"]
    found, _ = logs({"name": "e", "typed_config": {"@type": STDERR, "log_format": text}})
    assert [log.log_path for log in found] == ["stderr"]


def test_json() -> None:
    members = {"ms": "%DURATION%", "nested": {"method": "%REQ(:METHOD)%"}, "fixed": "x"}
    [log], report = logs(logger(log_format={"json_format": members, "omit_empty_values": True}))
    assert report.text() == ""
    assert log.json_format == {"ms": "%duration_ms%", "nested": {"method": "%request_method%"}, "fixed": "x"}
    assert log.omit_empty


FILTERS: list[tuple[dict[str, Any], LogCondition]] = [
    (
        {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "x"}}}},
        LogCondition(status=Comparison(op="ge", value=400)),
    ),
    (
        {"duration_filter": {"comparison": {"op": "LE", "value": {"default_value": 5, "runtime_key": "x"}}}},
        LogCondition(duration_ms=Comparison(op="le", value=5)),
    ),
    ({"response_flag_filter": {"flags": ["NR"]}}, LogCondition(response_flags=["NR"])),
    ({"response_flag_filter": {}}, LogCondition(failed=True)),
    ({"not_health_check_filter": {}}, LogCondition()),
    (
        {"header_filter": {"header": {"name": "X-A", "string_match": {"prefix": "b"}}}},
        LogCondition(header=LogHeader(name="x-a", match=StringMatch(prefix="b"))),
    ),
    (
        {"grpc_status_filter": {"statuses": ["NOT_FOUND"], "exclude": True}},
        LogCondition(grpc_status=[5], exclude_grpc_status=True),
    ),
    ({"runtime_filter": {"runtime_key": "x", "percent_sampled": {"numerator": 25}}}, LogCondition(sample=25.0)),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS)
def test_filters(filter: dict[str, Any], expected: LogCondition) -> None:
    [log], report = logs(logger(filter=filter))
    assert report.text() == ""
    assert log.filter == LogFilter(all_of=[expected])
    for kind in ("and_filter", "or_filter"):
        [log], report = logs(logger(filter={kind: {"filters": [filter, {"response_flag_filter": {}}]}}))
        assert report.text() == ""
        both = [expected, LogCondition(failed=True)]
        assert log.filter == (LogFilter(all_of=both) if kind == "and_filter" else LogFilter(any_of=both))


def test_filters_that_are_not_supported_reject_the_listener() -> None:
    _, report = logs(logger(filter={"metadata_filter": {}}))
    assert report.faults[0].path == "access_log[0].filter.metadata_filter"
    twice = {"and_filter": {"filters": [{"or_filter": {"filters": 2 * [{"response_flag_filter": {}}]}}] * 2}}
    assert "combined only once" in logs(logger(filter=twice))[1].text()


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ({"any_match": True}, "0-65535"),
        ({"destination_port_range": {"start": 80, "end": 81}}, "80"),
        ({"not_match": {"destination_port_range": {"start": 80, "end": 90}}}, "0-79,90-65535"),
        (
            {
                "and_match": {
                    "rules": [
                        {"destination_port_range": {"start": 1, "end": 100}},
                        {"destination_port_range": {"start": 50, "end": 200}},
                    ]
                }
            },
            "50-99",
        ),
        ({"or_match": {"rules": [{"destination_port_range": {"start": p, "end": p + 1}} for p in (7, 5, 6, 9)]}}, "5-7,9"),
    ],
)
def test_ports_without_inspection(predicate: dict[str, Any], expected: str) -> None:
    filter = {"name": "x", "filter_disabled": predicate}
    view, report = view_of("envoy.config.listener.v3.Listener", {"listener_filters": [filter]})
    found = view.items("listener_filters")[0].inner("filter_disabled")
    assert found is not None
    assert disabled_ports(found) == expected
    assert not report.faults
