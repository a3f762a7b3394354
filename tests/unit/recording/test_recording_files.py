"""The files of recorded exchanges: written and read again, and damaged in every way."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pymosn.recording import Body, Recorded, RecordedRequest, RecordedResponse, RecordingError, read_recording
from pymosn.recording.files import RecordingWriter


def exchange(number: int = 1, **changes: Any) -> Recorded:
    story = {"time": 1000.0 + number, "duration": 0.25, "protocol": "Http1", "timings": {"sent": 0.01, "response": 0.2}}
    request = RecordedRequest(
        method="POST",
        target="/a?b=c&d=%20",
        host="shop.example",
        headers=[["content-type", "application/json"], ["x-odd", "", "/w=="]],
        size=3,
        body=Body(size=3, data=b"\xff\0a", complete=True),
    )
    response = RecordedResponse(
        status=200,
        headers=[["set-cookie", "***REDACTED***"], ["location", "/b"]],
        trailers=[["grpc-status", "0"]],
        size=5,
        body=Body(size=5, data=b"hello", complete=True),
    )
    made = Recorded(number=number, story=story, request=request, response=response, worker=2)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def written(path: Path, *exchanges: Recorded, limit: int = 1 << 20) -> RecordingWriter:
    writer = RecordingWriter(str(path), limit)
    for one in exchanges:
        assert writer.add(msgspec.json.encode(one))
    writer.finish(3)
    return writer


@pytest.mark.parametrize("name", ["day.tape", "day.har"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    later, earlier = exchange(2), exchange(1)
    writer = written(tmp_path / name, later, earlier)
    assert (writer.count, writer.left_out) == (2, 0)
    assert read_recording(tmp_path / name) == [earlier, later]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [name]


def test_a_har_file_as_others_read_it(tmp_path: Path) -> None:
    written(tmp_path / "day.har", exchange(), exchange(2, rpc=True), exchange(3, tunnel=True))
    log = json.loads((tmp_path / "day.har").read_text())["log"]
    assert (log["version"], log["creator"]["name"]) == ("1.2", "pymosn")
    assert log["comment"] == "3 exchanges were dropped, 2 cannot be in HAR"
    [entry] = log["entries"]
    assert set(entry) >= {"startedDateTime", "time", "request", "response", "cache", "timings"}
    assert entry["startedDateTime"] == "1970-01-01T00:16:41.000+00:00"
    request, response = entry["request"], entry["response"]
    assert set(request) == {
        *("method", "url", "httpVersion", "cookies", "headers", "queryString", "postData", "headersSize", "bodySize"),
    }
    assert request["url"] == "http://shop.example/a?b=c&d=%20"
    assert request["queryString"] == [{"name": "b", "value": "c"}, {"name": "d", "value": " "}]
    assert request["postData"] == {"mimeType": "application/json", "text": "/wBh", "_encoding": "base64"}
    assert (response["statusText"], response["redirectURL"]) == ("OK", "/b")
    assert response["content"] == {"size": 5, "mimeType": "", "text": "hello"}
    assert entry["timings"] == {"send": 10.0, "wait": pytest.approx(190.0), "receive": pytest.approx(50.0)}


def test_a_har_file_of_another_program(tmp_path: Path) -> None:
    entry = {
        "startedDateTime": "2026-01-02T03:04:05.678Z",
        "time": 12,
        "request": {
            "method": "GET",
            "url": "https://user:word@example.org:8443/x?y=1#part",
            "httpVersion": "h2",
            "headers": [{"name": ":path", "value": "/x"}, {"name": "Accept", "value": "*/*"}],
            "bodySize": 0,
        },
        "response": {"status": 204, "headers": [], "content": {"size": 0, "mimeType": ""}},
    }
    (tmp_path / "x.har").write_text(json.dumps({"log": {"entries": [entry]}}))
    [one] = read_recording(tmp_path / "x.har")
    assert (one.protocol, one.request.host, one.request.target) == ("Http2", "example.org:8443", "/x?y=1")
    assert one.request.headers == [["Accept", "*/*"]]
    assert (one.response.status, one.response.body, one.duration) == (204, None, 0.012)


def test_a_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "day.tape"
    written(path, exchange())
    with pytest.raises(RecordingError, match="exists"):
        RecordingWriter(str(path), 1000)
    RecordingWriter(str(path), 1000, overwrites=True).finish()
    assert read_recording(path) == []
    other = RecordingWriter(str(tmp_path / "a.tape"), 1000)
    with pytest.raises(RecordingError, match="another recording is running"):
        RecordingWriter(str(tmp_path / "a.tape"), 1000)
    other.discard()
    assert os.listdir(tmp_path) == ["day.tape"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "day.tape.part").symlink_to(tmp_path / "precious")
    with pytest.raises(RecordingError):
        RecordingWriter(str(tmp_path / "day.tape"), 1000)
    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize("name", ["day.tape", "day.har"])
def test_a_file_has_a_limit(tmp_path: Path, name: str) -> None:
    writer = RecordingWriter(str(tmp_path / name), 4000)
    count = 0
    while writer.add(msgspec.json.encode(exchange(count))):
        count += 1
    writer.finish()
    assert 0 < count == len(read_recording(tmp_path / name))
    assert (tmp_path / name).stat().st_size < 4200


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be created: No such file or directory"):
        RecordingWriter(str(tmp_path / "none" / "day.tape"), 1000)
    with pytest.raises(RecordingError, match="No such file or directory"):
        read_recording(tmp_path / "none.tape")


DAMAGES: list[tuple[Callable[[list[bytes]], list[bytes]], str]] = [
    (lambda lines: [], "line 1: not JSON"),
    (lambda lines: [b"{}\n", *lines[1:]], "line 1: not a tape"),
    (lambda lines: [b"[1]\n", *lines[1:]], "line 1: not a tape"),
    (lambda lines: [lines[0].replace(b'"pymosn_tape": 1', b'"pymosn_tape": 9'), *lines[1:]], "version 9"),
    (lambda lines: lines[:-1], "the end is missing"),
    (lambda lines: [*lines[:1], *lines[2:]], "it has 1 exchanges, not 2"),
    (lambda lines: [*lines, lines[1]], "line 5: there is more"),
    (lambda lines: [lines[0], lines[1][: len(lines[1]) // 2] + b"\n", *lines[2:]], "line 2: "),
    (lambda lines: [*lines[:2], lines[2].replace(b'"status":200', b'"status":"200"'), lines[3]], "line 3: "),
    (lambda lines: [*lines[:2], lines[2].replace(b'"/w=="', b'"*"'), lines[3]], "line 3: the field 'x-odd' is not Base64"),
    (lambda lines: [*lines[:2], lines[2].replace(b'["location","/b"]', b'["location"]'), lines[3]], "must be a name and"),
    (lambda lines: [*lines[:2], b"[" * 100_000 + b"\n", lines[3]], "line 3: "),
    (lambda lines: [*lines[:3], b'{"end"\n'], "line 4: not JSON"),
    (lambda lines: [*lines[:3], b'{"end": 5}\n'], "it has 2 exchanges, not 5"),
    (lambda lines: [*lines[:3], b'{"end": {}}\n'], "it has 2 exchanges, not None"),
]


@pytest.mark.parametrize(("damage", "text"), DAMAGES)
def test_a_damaged_tape(tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], text: str) -> None:
    path = tmp_path / "day.tape"
    written(path, exchange(1), exchange(2))
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RecordingError, match=r"day\.tape") as caught:
        read_recording(path)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not JSON"),
        (b"[]", "not HAR"),
        (b'{"log": {}}', "not HAR"),
        (b'{"log": {"entries": 5}}', "not HAR"),
        (b'{"log": {"entries": [{}]}}', "log.entries[0]: not an entry"),
        (b'{"log": {"entries": [5]}}', "log.entries[0]: not an entry"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_damaged_har_file(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "day.har").write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        read_recording(tmp_path / "day.har")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["day.tape", "day.har"])
def test_a_disk_that_gets_full(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordingWriter(str(tmp_path / name), 1 << 20)
    line = msgspec.json.encode(exchange())
    assert writer.add(line)
    assert writer.add(line)
    for room in (100, 10):
        limit_disk(writer, writer.size + room, monkeypatch)
        with pytest.raises(RecordingError, match="cannot be written: No space left on device"):
            writer.add(line)
    writer.finish()
    assert (writer.count, len(read_recording(tmp_path / name))) == (1, 1)


def limit_disk(writer: RecordingWriter, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the file cannot be longer than `size`."""

    class Disk(io.FileIO):
        def write(self, data: Any) -> int:
            room = size - self.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(bytes(data)[:room]) or 0

    writer._file.close()
    disk = Disk(writer._part, "r+")
    disk.seek(writer.size)
    monkeypatch.setattr(writer, "_file", disk)


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    writer = RecordingWriter(str(tmp_path / "day.tape"), 1000)
    (tmp_path / "day.tape").write_text("precious")
    with pytest.raises(RecordingError, match=r"exists now; the recording is .*day\.tape\.part"):
        writer.finish()
    assert (tmp_path / "day.tape").read_text() == "precious"


def test_har_keeps_targets_that_are_no_part_of_an_url(tmp_path: Path) -> None:
    for number, target in enumerate(("*", "/a?", "//b", "/#c")):
        one = exchange(note="odd")
        one.request.target = target
        written(tmp_path / f"{number}.har", one)
        assert read_recording(tmp_path / f"{number}.har") == [one]
