"""HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/), for what of HTTP was recorded. Own members begin with `_`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from pymosn.recording.record import Body, Fields, Recorded, RecordedRequest, RecordedResponse

_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", re.I)
_VERSIONS: Final = {"Http1": "HTTP/1.1", "Http2": "HTTP/2.0"}


class HarError(ValueError):
    """An entry is not one of HAR 1.2; the text is the reason."""


def entry_of(recorded: Recorded) -> dict[str, Any]:
    """An exchange as an entry of `log.entries`."""
    request, response, story = recorded.request, recorded.response, recorded.story
    timings = story.get("timings") or {}
    received, done = timings.get("response"), recorded.duration
    sent = timings.get("sent")
    version = _VERSIONS.get(recorded.protocol, recorded.protocol)
    made: dict[str, Any] = {
        "startedDateTime": datetime.fromtimestamp(recorded.time, UTC).isoformat(timespec="milliseconds"),
        "time": done * 1000.0,
        "request": {
            "method": request.method,
            "url": f"{request.scheme}://{request.host}{request.target}",
            "httpVersion": version,
            "cookies": [],
            "headers": _har_fields(request.headers),
            "queryString": _query(request.target),
            "headersSize": -1,
            "bodySize": request.size,
        },
        "response": {
            "status": response.status,
            "statusText": _phrase(response.status),
            "httpVersion": version,
            "cookies": [],
            "headers": _har_fields(response.headers),
            "content": {"size": response.size, "mimeType": _first(response.headers, "content-type")},
            "redirectURL": _first(response.headers, "location"),
            "headersSize": -1,
            "bodySize": response.size,
        },
        "cache": {},
        "timings": {
            "send": (sent or 0.0) * 1000.0,
            "wait": max(0.0, (received if received is not None else done) - (sent or 0.0)) * 1000.0,
            "receive": max(0.0, done - received) * 1000.0 if received is not None else 0.0,
        },
        "_pymosn": {
            "story": story,
            "number": recorded.number,
            "worker": recorded.worker,
            "host": request.host,
            "target": request.target,
            "accepts_trailers": request.accepts_trailers,
            "note": recorded.note,
            "reset": response.reset,
            "trailers": {"request": request.trailers, "response": response.trailers},
            "complete": {
                "request": request.body is not None and request.body.complete,
                "response": response.body is not None and response.body.complete,
            },
            "kept": {
                "request": 0 if request.body is None else request.body.kept,
                "response": 0 if response.body is None else response.body.kept,
            },
        },
    }
    if request.body is not None and request.body.size:
        made["request"]["postData"] = {
            "mimeType": _first(request.headers, "content-type"),
            **_text(request.body, "_encoding"),
        }
    if response.body is not None:
        made["response"]["content"] |= _text(response.body, "encoding")
    return made


def _har_fields(fields: Fields) -> list[dict[str, str]]:
    """Fields; the Base64 of a value that is not UTF-8 is an own member."""
    return [{"name": field[0], "value": field[1]} | ({"_base64": field[2]} if len(field) > 2 else {}) for field in fields]


def _query(target: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True)]


def _first(fields: Fields, name: str) -> str:
    return next((field[1] for field in fields if field[0].lower() == name), "")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _text(body: Body, encoding: str) -> dict[str, str]:
    try:
        return {"text": body.data.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body.data).decode(), encoding: "base64"}


def recorded_of(number: int, entry: object) -> Recorded:
    """An entry of `log.entries`, of any program. Raises HarError."""
    try:
        return _recorded(number, entry)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise HarError(f"not an entry of HAR 1.2: {type(error).__name__}: {error}") from None


def _recorded(number: int, entry: Any) -> Recorded:
    own = entry.get("_pymosn") or {}
    request, response = entry["request"], entry.get("response") or {}
    url = urlsplit(str(request["url"]))
    target = str(own.get("target") or (url.path or "/") + (f"?{url.query}" if url.query else ""))
    is_http2 = str(request.get("httpVersion", "")).lower() in ("h2", "http/2", "http/2.0")
    started = datetime.fromisoformat(str(entry["startedDateTime"]).replace("Z", "+00:00")).timestamp()
    story = own.get("story") or {
        "time": started,
        "duration": float(entry.get("time") or 0.0) / 1000.0,
        "protocol": "Http2" if is_http2 else "Http1",
    }
    trailers = msgspec.convert(own.get("trailers") or {"request": None, "response": None}, dict[str, Fields | None])
    post, content = request.get("postData") or {}, response.get("content") or {}
    request_size = max(0, int(request.get("bodySize") or 0), 1 if post.get("params") else 0)
    response_size = max(0, int(content.get("size") or 0))
    sent = _body(post, own, request_size, "request", "_encoding")
    if sent is None and request_size == 0:
        sent = Body(size=0, data=b"", complete=True)
    got = _body(content, own, response_size, "response", "encoding")
    headers = _fields(response.get("headers") or ())
    if got is not None and not own:
        # A browser has the content without its codings, and as text: its size is that of the body before.
        got.decoded, got.size = _first(headers, "content-encoding") != "", len(got.data)
    status = max(0, int(response.get("status") or 0))
    return Recorded(
        number=int(own.get("number") or number),
        worker=int(own.get("worker") or 0),
        story=dict(story),
        tunnel=status == 101 or url.scheme in ("ws", "wss"),
        note=str(own.get("note") or ""),
        request=RecordedRequest(
            method=str(request["method"]),
            target=target,
            host=str(own.get("host", url.netloc.rpartition("@")[2])),
            scheme=url.scheme or "http",
            accepts_trailers=bool(own.get("accepts_trailers", "trailers" in _first(_fields(request["headers"]), "te"))),
            headers=_fields(request["headers"]),
            trailers=trailers["request"],
            size=request_size,
            body=sent,
        ),
        response=RecordedResponse(
            status=status,
            reset=str(own.get("reset") or ""),
            headers=headers,
            trailers=trailers["response"],
            size=response_size,
            body=got,
        ),
    )


def _fields(found: Any) -> Fields:
    """Fields without those that a browser notes for the request line of HTTP/2."""
    fields = []
    for field in found:
        name, value = str(field["name"]), str(field["value"])
        if not name.startswith(":"):
            fields.append([name, value, str(field["_base64"])] if "_base64" in field else [name, value])
    return fields


def _body(found: Mapping[str, Any], own: Mapping[str, Any], size: int, part: str, encoding: str) -> Body | None:
    """A body. `own`: what only files of pymosn have; `part`: the key of the body in that."""
    text = found.get("text")
    complete = not own or bool(own["complete"][part])
    kept = int((own.get("kept") or {}).get(part) or 0)
    if text is None:
        return None
    if found.get(encoding) == "base64":
        data = base64.b64decode(text, validate=True)
    else:
        data = _encoded(str(text), "" if own else str(found.get("mimeType")))
    return Body(size=size if kept else max(size, len(data)), data=data, complete=complete, kept=kept)


def _encoded(text: str, kind: str) -> bytes:
    """A text in the character encoding that its type names, or UTF-8."""
    charset = _CHARSET.search(kind)
    try:
        return text.encode("utf-8" if charset is None else charset.group(1))
    except (LookupError, UnicodeEncodeError):
        return text.encode()
