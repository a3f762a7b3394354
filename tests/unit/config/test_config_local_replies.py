"""What is checked in the form of local replies."""

import json
from typing import Any

import pytest

from pymosn.config.check.local_replies import LONGEST_TEXT
from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.load import load_text

PROXY = "servers[0].listeners[0].filter_chains[0].filters[0].config"


def faults(**keys: Any) -> list[tuple[str, str, str]]:
    """The severity, path below the proxy, and message of each fault."""
    config = json.loads(DEFAULT_CONFIG)
    config["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"].update(keys)
    found = load_text(json.dumps(config), "f").faults
    return [(fault.severity, fault.path.removeprefix(f"{PROXY}."), fault.message) for fault in found]


def faults_of(**replies: Any) -> list[tuple[str, str, str]]:
    return faults(local_replies=replies)


@pytest.mark.parametrize(
    "replies",
    [
        {"format": {"html": "<p>%response_code%</p>\n%local_reply_body% 100\\%"}},
        {"formats": [{"text": "a"}, {"json": {"a": "%reason%"}}, {"html": "b"}, {"text": "c", "content_type": "text/csv"}]},
        {"mappers": [{"filter": {"reasons": ["no_route"], "statuses": [404]}, "formats": [{"text": "a"}]}]},
        {"format": {"text": "a", "content_type": 'multipart/mixed; boundary="a b"; x=y'}},
    ],
)
def test_valid_forms(replies: dict[str, Any]) -> None:
    assert faults_of(**replies) == []


@pytest.mark.parametrize(
    "text", ["text", "text/", "/html", "text/html;", "text/html\r\nx-evil: 1", "te xt/html", "text/html; a"]
)
def test_a_content_type_is_a_media_type(text: str) -> None:
    assert faults_of(format={"text": "a", "content_type": text}) == [
        ("error", "local_replies.format.content_type", "not a media type, such as text/plain")
    ]


@pytest.mark.parametrize(
    ("replies", "path", "words"),
    [
        ({"format": {"text": "a", "html": "b"}}, "format.html", "exclusive"),
        ({"format": {"json": {"a": "b"}, "html": "b"}}, "format.html", "exclusive"),
        ({"format": {"text": "a"}, "formats": [{"text": "a"}]}, "formats", "exclusive"),
        ({"formats": [{"text": "a"}, {"text": "b"}]}, "formats[1]", "no Accept prefers it"),
        (
            {"formats": [{"text": "a", "content_type": "a/b"}, {"html": "b", "content_type": "A/B; c=d"}]},
            "formats[1]",
            "type",
        ),
        (
            {"formats": [{"json": {"a": "b"}}, {"text": "b", "content_type": "application/JSON"}]},
            "formats[1]",
            "type",
        ),
        ({"formats": [{"html": "a"}, {"text": "b", "content_type": "text/html"}]}, "formats[1]", "type"),
        ({"format": {"html": "100 %"}}, "format.html", "odd number of %"),
        ({"format": {"html": "%%"}}, "format.html", "names no variable"),
        ({"format": {"html": "a" * (LONGEST_TEXT + 1)}}, "format.html", "longer than"),
        ({"format": {"text": "a" * (LONGEST_TEXT + 1)}}, "format.text", "longer than"),
        ({"mappers": [{"body": "a" * (LONGEST_TEXT + 1)}]}, "mappers[0].body", "longer than"),
        ({"mappers": [{"filter": {"statuses": [99]}}]}, "mappers[0].filter.statuses[0]", "200 or more"),
        (
            {"mappers": [{"headers_to_add": [{"header": {"key": "a", "value": "b\r\nc: d"}}]}]},
            "mappers[0].headers_to_add[0]",
            "control",
        ),
        (
            {"mappers": [{"headers_to_add": [{"header": {"key": "a: b", "value": "c"}}]}]},
            "mappers[0].headers_to_add[0]",
            "name",
        ),
        (
            {"mappers": [{"headers_to_add": [{"header": {"key": "Transfer-Encoding", "value": "c"}}]}]},
            "mappers[0].headers_to_add[0]",
            "transfer-encoding",
        ),
    ],
)
def test_errors(replies: dict[str, Any], path: str, words: str) -> None:
    ((severity, found, message),) = faults_of(**replies)
    assert severity == "error"
    assert found.startswith(f"local_replies.{path}")
    assert words in message


def test_an_unknown_reason_word() -> None:
    ((severity, path, _),) = faults_of(mappers=[{"filter": {"reasons": ["no_rout"]}}])
    assert (severity, path) == ("warning", "local_replies.mappers[0].filter.reasons[0]")


def test_the_body_of_failures() -> None:
    assert faults(local_reply_body="none") == []
    assert [path for _, path, _ in faults(local_reply_body="empty")] == ["local_reply_body"]
