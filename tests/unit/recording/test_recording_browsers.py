"""HAR as browsers export it: decoded bodies, requests without responses, sockets, and what is no exchange at all."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from pymosn.kit.replay import why_not
from pymosn.recording import Body, Outcome, Recorded, RecordingError, compare, outcome_of, read_recording
from pymosn.recording.bodies import without_codings


def chromium(url: str = "https://shop.example/api?a=1", **response: Any) -> dict[str, Any]:
    """An entry in the form of Chromium's developer tools."""
    return {
        "_initiator": {"type": "script"},
        "_priority": "High",
        "_resourceType": "fetch",
        "cache": {},
        "connection": "443",
        "request": {
            "method": "GET",
            "url": url,
            "httpVersion": "http/2.0",
            "headers": [{"name": ":authority", "value": "shop.example"}, {"name": "accept-encoding", "value": "gzip, br"}],
            "queryString": [],
            "cookies": [],
            "headersSize": -1,
            "bodySize": 0,
        },
        "response": {
            "status": 200,
            "statusText": "",
            "httpVersion": "http/2.0",
            "headers": [
                {"name": "content-encoding", "value": "gzip"},
                {"name": "content-type", "value": "application/json"},
                {"name": "set-cookie", "value": "a=1\nb=2"},
            ],
            "cookies": [],
            "content": {"size": 7, "mimeType": "application/json", "compression": -20, "text": '{"a":1}'},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": -1,
            "_transferSize": 94,
            "_error": None,
            **response,
        },
        "serverIPAddress": "192.0.2.1",
        "startedDateTime": "2026-01-02T03:04:05.678Z",
        "time": 12.345,
        "timings": {
            "blocked": 1,
            "dns": -1,
            "ssl": -1,
            "connect": -1,
            "send": 0.1,
            "wait": 10,
            "receive": 1,
            "_blocked_queueing": 0,
        },
    }


def firefox(**request: Any) -> dict[str, Any]:
    """An entry in the form of Firefox's developer tools."""
    return {
        "startedDateTime": "2026-01-02T04:04:05.678+01:00",
        "request": {
            "bodySize": 11,
            "method": "POST",
            "url": "http://shop.example/api",
            "httpVersion": "HTTP/1.1",
            "headers": [{"name": "Host", "value": "shop.example"}],
            "cookies": [],
            "queryString": [],
            "headersSize": 300,
            "postData": {"mimeType": "application/x-www-form-urlencoded", "params": [], "text": "name=M%FCsli"},
            **request,
        },
        "response": {
            "status": 200,
            "statusText": "OK",
            "httpVersion": "HTTP/1.1",
            "headers": [{"name": "Content-Type", "value": "text/plain; charset=iso-8859-1"}],
            "cookies": [],
            "content": {"mimeType": "text/plain; charset=iso-8859-1", "size": 5, "text": "Müsli"},
            "redirectURL": "",
            "headersSize": 90,
            "bodySize": 95,
        },
        "cache": {},
        "timings": {"blocked": 0, "dns": 0, "connect": 0, "ssl": 0, "send": 0, "wait": 5, "receive": 0},
        "time": 5,
        "_securityState": "insecure",
        "serverIPAddress": "192.0.2.1",
        "connection": "80",
    }


def read(tmp_path: Path, *entries: dict[str, Any]) -> list[Recorded]:
    path = tmp_path / "browser.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "pages": [], "entries": entries}}), encoding="utf-8-sig")
    return read_recording(path)


def answer(data: bytes, *codings: str) -> Outcome:
    headers = [["content-type", "application/json"], ["set-cookie", "x"]]
    headers += [["content-encoding", coding] for coding in codings]
    return Outcome(status=200, headers=headers, body=Body(size=len(data), data=data, complete=True))


def test_a_body_that_the_browser_has_decoded(tmp_path: Path) -> None:
    [one] = read(tmp_path, chromium())
    assert (one.protocol, one.time, why_not(one)) == ("Http2", 1767323045.678, "")
    before = outcome_of(one)
    assert compare(before, answer(gzip.compress(b'{"a": 1}'), "gzip")) == []
    [difference] = compare(before, answer(gzip.compress(b'{"a": 2}'), "gzip"))
    assert difference.text() == "body $.a: 1, now 2"
    assert [one.what for one in compare(before, answer(b'{"a": 2}'))] == ["header", "body"]
    assert [one.name for one in compare(before, answer(b"?", "lzw"))] == ["content-encoding"]


def test_texts_have_the_bytes_of_their_charset(tmp_path: Path) -> None:
    [one] = read(tmp_path, firefox())
    assert (one.protocol, one.request.host, why_not(one)) == ("Http1", "shop.example", "")
    assert one.request.body == Body(size=12, data=b"name=M%FCsli", complete=True)
    assert one.response.body == Body(size=5, data=b"M\xfcsli", complete=True)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (chromium("wss://shop.example/chat", status=101), "tunnel"),
        (chromium("https://shop.example/chat", status=101), "tunnel"),
        (chromium(status=0, headers=[], content={"size": 0, "mimeType": "x-unknown"}), "has no response"),
        ({**firefox(), "response": {}}, "has no response"),
        (chromium("data:text/css,a"), "not one that can be sent"),
        (chromium("blob:https://shop.example/1"), "not one that can be sent"),
        (firefox(bodySize=-1, postData={"mimeType": "multipart/form-data", "params": [{"name": "a"}]}), "was not recorded"),
        (firefox(postData=None), "was not recorded"),
        (firefox(bodySize=-1, postData=None), ""),
    ],
)
def test_what_cannot_be_sent(tmp_path: Path, entry: dict[str, Any], text: str) -> None:
    [one] = read(tmp_path, entry)
    assert text in why_not(one)
    assert bool(text) == bool(why_not(one))


@pytest.mark.parametrize(
    "entry",
    [
        firefox(bodySize=float("inf")),
        firefox(headers=[["Host", "a"]]),
        firefox(url="http://[a"),
        {**firefox(), "startedDateTime": "yesterday"},
        {**firefox(), "_pymosn": {"trailers": {"request": 5, "response": None}}},
        {**firefox(), "_pymosn": 5},
        {**firefox(), "_pymosn": {"complete": []}},
        chromium(content={"size": 1, "text": "*", "encoding": "base64"}),
    ],
)
def test_an_entry_that_is_none(tmp_path: Path, entry: dict[str, Any]) -> None:
    with pytest.raises(RecordingError, match=r"log\.entries\[0\]: "):
        read(tmp_path, entry)


def test_content_codings() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert without_codings(raw.compress(b"abc") + raw.flush(), ["deflate"]) == b"abc"
    assert without_codings(zlib.compress(b"abc"), ["deflate, identity"]) == b"abc"
    assert without_codings(gzip.compress(zlib.compress(b"abc")), ["deflate", "x-gzip"]) == b"abc"
    assert without_codings(gzip.compress(b"abc")[:-9], ["gzip"]) is None
    assert without_codings(b"abc", ["gzip"]) is None
    assert without_codings(b"abc", []) == b"abc"
    brotli = pytest.importorskip("brotli")
    zstandard = pytest.importorskip("zstandard")
    assert without_codings(zstandard.compress(brotli.compress(b"abc")), ["br, zstd"]) == b"abc"
