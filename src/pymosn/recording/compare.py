"""Compares a recorded response with another one to the same request: status, fields, trailers and body."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import msgspec

from pymosn.core.redaction import redacted_text
from pymosn.core.secrets import REDACTED, is_credential
from pymosn.recording.bodies import body_without_secrets, without_codings
from pymosn.recording.record import Body, Fields, Recorded

#: Fields that differ each time, or whose difference the body shows.
DEFAULT_IGNORED: Final = frozenset(
    (
        *("date", "age", "expires", "server-timing", "x-envoy-upstream-service-time", "content-length", "transfer-encoding"),
        *("connection", "keep-alive", "x-request-id", "request-id", "x-correlation-id", "x-trace-id", "traceparent"),
        *("tracestate", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "b3"),
    )
)
#: Differences within a JSON body that are listed.
MOST_PATHS: Final = 5
#: Characters of a value in a report.
LONGEST: Final = 200


class Outcome(msgspec.Struct, kw_only=True):
    """A response, as far as it is compared. `reset`: why it was broken off; empty if it was not."""

    status: int
    headers: Fields = []
    trailers: Fields | None = None
    body: Body | None = None
    reset: str = ""


class Difference(msgspec.Struct, frozen=True):
    """One difference. `what`: status, header, trailer, body or end; `name`: of the field, or the path in a JSON body."""

    what: str
    name: str
    recorded: str
    replayed: str

    def text(self) -> str:
        """`header x-version: '1', now '2'`."""
        return f"{' '.join(filter(None, (self.what, self.name)))}: {self.recorded}, now {self.replayed}"


def outcome_of(recorded: Recorded) -> Outcome:
    """What was recorded of a response."""
    response = recorded.response
    return Outcome(
        status=response.status,
        headers=response.headers,
        trailers=response.trailers,
        body=response.body,
        reset=response.reset,
    )


def compare(recorded: Outcome, replayed: Outcome, ignored: Collection[str] = DEFAULT_IGNORED) -> list[Difference]:
    """The differences. `ignored`: names of fields, in lower case. What was redacted is compared in its redacted form."""
    found: list[Difference] = []
    if recorded.status != replayed.status:
        found.append(Difference("status", "", str(recorded.status), str(replayed.status)))
    if bool(recorded.reset) != bool(replayed.reset):
        found.append(Difference("end", "", recorded.reset or "complete", replayed.reset or "complete"))
    found += _fields("header", recorded.headers, replayed.headers, ignored)
    found += _fields("trailer", recorded.trailers or [], replayed.trailers or [], ignored)
    body = replayed.body
    if recorded.body is not None and recorded.body.decoded and body is not None and body.complete:
        data = without_codings(body.data, [field[1] for field in replayed.headers if field[0].lower() == "content-encoding"])
        body = None if data is None else Body(size=len(data), data=data, complete=True)
    if recorded.body is not None and body is not None:
        found += _bodies(recorded.body, body)
    return found


def _fields(what: str, before: Fields, after: Fields, ignored: Collection[str]) -> list[Difference]:
    old, new = _by_name(before), _by_name(after)
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        if name in ignored:
            continue
        values, others = old.get(name), new.get(name)
        if values != others:
            found.append(Difference(what, name, _shown_values(values), _shown_values(others)))
    return found


def _by_name(fields: Fields) -> dict[str, list[str]]:
    """The values of each name, without secrets: then they are the same in both."""
    found: dict[str, list[str]] = {}
    for field in fields:
        name = field[0].lower()
        value = field[2] if len(field) > 2 else field[1]
        if is_credential(name) and value:
            value = REDACTED
        elif len(field) == 2:
            value = redacted_text(value)
        found.setdefault(name, []).append(value)
    return found


def _shown_values(values: list[str] | None) -> str:
    return "absent" if values is None else _cut(", ".join(map(repr, values)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _bodies(before: Body, after: Body) -> list[Difference]:
    """Differences of bodies without secrets: of JSON objects and arrays, whatever their type is called, by their values."""
    if not before.complete or not after.complete:
        size = min(before.kept or len(before.data), after.kept or len(after.data))
        first, second = _beginning(before, size), _beginning(after, size)
        if first != second:
            return [_bytes(first, second)]
        if before.size != after.size:
            return [Difference("body", "", f"{before.size} bytes", f"{after.size} bytes")]
        return []
    if before.data == after.data:
        return []
    first, second = body_without_secrets(before.data), body_without_secrets(after.data)
    if first == second:
        return []
    if first.lstrip()[:1] in (b"{", b"[") and second.lstrip()[:1] in (b"{", b"["):
        try:
            old, new = json.loads(first), json.loads(second)
            paths: list[Difference] = []
            _values("$", old, new, paths)
            return paths
        except (ValueError, RecursionError):
            pass
    return [_bytes(first, second)]


def _beginning(body: Body, size: int) -> bytes:
    """The first `size` bytes of a body, without secrets."""
    if body.kept:
        return body.data if body.kept == size else body.data[:size]
    return body_without_secrets(body.data[:size], False)


def _bytes(before: bytes, after: bytes) -> Difference:
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    start = max(0, at - 20)
    return Difference("body", f"from byte {at}", repr(before[start : at + 60]), repr(after[start : at + 60]))


def _values(path: str, old: Any, new: Any, found: list[Difference]) -> None:
    """Adds the paths at which two JSON values differ."""
    if len(found) >= MOST_PATHS:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old or key not in new:
                _add(f"{path}.{key}", old.get(key, _ABSENT), new.get(key, _ABSENT), found)
            else:
                _values(f"{path}.{key}", old[key], new[key], found)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (first, second) in enumerate(zip(old, new, strict=True)):
            _values(f"{path}[{index}]", first, second, found)
    elif not _are_equal(old, new):
        _add(path, old, new, found)


def _are_equal(old: Any, new: Any) -> bool:
    """Whether two JSON scalars are equal: numbers by value, but not `1` and `true`."""
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


_ABSENT: Final = object()


def _add(path: str, old: object, new: object, found: list[Difference]) -> None:
    if len(found) < MOST_PATHS:
        shown = ["absent" if value is _ABSENT else _cut(json.dumps(value)) for value in (old, new)]
        found.append(Difference("body", path, shown[0], shown[1]))
