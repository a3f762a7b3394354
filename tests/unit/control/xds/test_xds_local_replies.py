"""The form of local replies: LocalReplyConfig -> `local_replies`, and the checks of this key."""

import json
from typing import Any

import pytest
from tests.kit.xds_messages import view_of

from pymosn.config.check.local_replies import check_local_replies
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.http_chain import Comparison, LogCondition, LogFilter
from pymosn.config.schema.local_replies import LocalReplies, ReplyFormat, ReplyMapper
from pymosn.config.typed import typed
from pymosn.control.xds.convert.local_replies import read_local_replies
from pymosn.control.xds.convert.view import Report

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
UNAVAILABLE = {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 503, "runtime_key": "k"}}}}


def convert(config: dict[str, Any]) -> tuple[LocalReplies | None, Report]:
    view, report = view_of(MANAGER, {"local_reply_config": config})
    with view:
        return read_local_replies(view), report


def faults(config: dict[str, Any]) -> list[str]:
    return [fault.text() for fault in convert(config)[1].faults]


def test_a_mapper_and_a_format() -> None:
    mapper = {
        "filter": UNAVAILABLE,
        "status_code": 429,
        "body": {"inline_string": "later"},
        "headers_to_add": [{"header": {"key": "x-code", "value": "%RESPONSE_CODE%"}, "append": False}],
        "body_format_override": {
            "text_format_source": {"inline_string": "<p>%LOCAL_REPLY_BODY% 100%%\n%REQ(X-Id)%</p>\n"},
            "content_type": "text/html",
        },
    }
    form = {"json_format": {"code": "%RESPONSE_CODE%", "text": "[%LOCAL_REPLY_BODY%]"}, "omit_empty_values": True}
    made, report = convert({"mappers": [mapper], "body_format": form})
    assert not report.faults
    assert not report.warnings
    assert made is not None
    (found,) = made.mappers
    assert found.headers_to_add[0].append_action == "OVERWRITE_IF_EXISTS_OR_ADD"
    assert found.headers_to_add[0].header.value == "%response_code%"
    assert found == ReplyMapper(
        filter=LogFilter(all_of=[LogCondition(status=Comparison(op="eq", value=503))]),
        status=429,
        body="later",
        format=ReplyFormat(text="<p>%local_reply_body% 100%percent%\n%request_header_x-id%</p>\n", content_type="text/html"),
        headers_to_add=found.headers_to_add,
    )
    assert made.format == ReplyFormat(json={"code": "%response_code%", "text": "[%local_reply_body%]"}, omit_empty=True)
    checked = Diagnostics()
    check_local_replies(made, "p", checked)
    assert checked.items == []


def test_a_text_has_the_type_of_envoy() -> None:
    made, _ = convert({"body_format": {"text_format": "%LOCAL_REPLY_BODY%"}})
    assert made is not None
    assert made.format == ReplyFormat(text="%local_reply_body%", content_type="text/plain")


def test_without_a_form_there_is_none() -> None:
    view, _ = view_of(MANAGER, {})
    assert read_local_replies(view) is None


@pytest.mark.parametrize(
    ("mapper", "fault"),
    [
        ({}, "mappers[0].filter: missing"),
        ({"filter": UNAVAILABLE, "status_code": 99}, "mappers[0].status_code: must be from 200 to 599, got 99"),
        ({"filter": UNAVAILABLE, "body": {"filename": "f"}}, "mappers[0].body.filename: only inline_string and "),
        ({"filter": {"traceable_filter": {}}}, "mappers[0].filter.traceable_filter: not supported"),
        ({"filter": UNAVAILABLE, "body_format_override": {}}, "mappers[0].body_format_override: expected text_format"),
        (
            {"filter": UNAVAILABLE, "headers_to_add": [{"header": {"key": "x", "value": "%NO_SUCH%"}}]},
            "mappers[0].headers_to_add[0].header.value: %NO_SUCH% is not available",
        ),
        (
            {"filter": UNAVAILABLE, "body_format_override": {"text_format": "x", "formatters": [{"name": "f"}]}},
            "mappers[0].body_format_override.formatters: command operators of extensions are not supported",
        ),
        (
            {"filter": UNAVAILABLE, "body_format_override": {"text_format": "x", "content_type": "a\r\nb"}},
            "mappers[0].body_format_override.content_type: must not contain CR, LF or NUL",
        ),
    ],
)
def test_what_is_rejected(mapper: dict[str, Any], fault: str) -> None:
    (found,) = faults({"mappers": [mapper]})
    assert found.startswith(f"local_reply_config.{fault}")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"format": {"text": "a", "json": {"a": "b"}}}, ("error", "format.json", "mutually exclusive")),
        ({"format": {"text": "one %"}}, ("error", "format.text", "odd number of %")),
        ({"format": {"json": {"a": "%x"}}}, ("error", "format.json", "odd number of %")),
        ({"format": {"text": "%no_such%"}}, ("warning", "format.text", "not a known variable")),
        ({"format": {"text": "a", "omit_empty": True}}, ("warning", "format.omit_empty", "no effect")),
        ({"format": {"text": "a", "content_type": "a\nb"}}, ("error", "format.content_type", "")),
        ({"mappers": [{"status": 600}]}, ("error", "mappers[0].status", "")),
        ({"mappers": [{"headers_to_add": [{"header": {"key": "a b"}}]}]}, ("error", "mappers[0].headers_to_add[0]", "")),
        ({"mappers": [{"filter": {"header": {"name": ""}}}]}, ("error", "mappers[0].filter.header.name", "")),
        ({"mappers": [{"format": {"text": "%"}}]}, ("error", "mappers[0].format.text", "odd number")),
    ],
)
def test_checks_of_the_key(config: dict[str, Any], expected: tuple[str, str, str]) -> None:
    report = Diagnostics()
    block = typed(json.loads(json.dumps(config)), LocalReplies, report)
    if not report.items:
        check_local_replies(block, "", report)
    (found,) = report.items
    assert found.severity == expected[0]
    assert found.path.lstrip(".").startswith(expected[1])
    assert expected[2] in found.message
