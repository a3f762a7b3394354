"""What differs between two proxies' treatment of a request, without what differs from request to request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from interop.xds_world import Answer

Fields = Iterable[tuple[str, str]]

#: Headers whose values are different each time -> what is compared instead.
_VALUES = {
    "x-request-id": (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "(uuid)"),
    "x-envoy-upstream-service-time": (re.compile(r"\d+"), "(milliseconds)"),
    "set-cookie": (re.compile(r'(session=")[0-9a-f]{16}(".*)'), r"\1(hash)\2"),
    "date": (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "(date)"),
}
#: Headers that frame a body, and the one that names the request.
_NOT_COMPARED = {"x-case", "content-length", "transfer-encoding"}


def _comparable(fields: Fields) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in fields:
        if name in _NOT_COMPARED:
            continue
        pattern, shown = _VALUES.get(name, (None, ""))
        if pattern is not None and pattern.fullmatch(value):
            value = pattern.sub(shown, value)
        if name == "x-forwarded-for":  # a list, in one field or several
            found.setdefault(name, []).extend(item.strip() for item in value.split(","))
            continue
        found.setdefault(name, []).append(value)
    return found


def _fields(where: str, expected: Fields, actual: Fields) -> Iterable[str]:
    theirs, ours = _comparable(expected), _comparable(actual)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            yield f"{where} {name}: {_shown(theirs.get(name))} -> {_shown(ours.get(name))}"


def _shown(values: list[str] | None) -> str:
    return "(absent)" if values is None else " | ".join(values)


def differences(envoy: Answer, pymosn: Answer) -> list[str]:
    """Each as `PLACE NAME: ENVOY'S -> PYMOSN'S`; places are `status`, `response`, `hosts` and `upstream`."""
    found = []
    if envoy.status != pymosn.status:
        found.append(f"status: {envoy.status} -> {pymosn.status}")
    found += _fields("response", envoy.headers, pymosn.headers)
    if not envoy.seen and not pymosn.seen and envoy.body != pymosn.body and _has_form(envoy) and _has_form(pymosn):
        found.append(f"response body: {envoy.body!r} -> {pymosn.body!r}")
    theirs, ours = ([seen.host for seen in answer.seen] for answer in (envoy, pymosn))
    if theirs != ours:
        return [*found, f"hosts: {theirs} -> {ours}"]
    for expected, actual in zip(envoy.seen, pymosn.seen, strict=True):
        for name in ("method", "target", "body"):
            if getattr(expected, name) != getattr(actual, name):
                found.append(f"upstream {name}: {getattr(expected, name)} -> {getattr(actual, name)}")
        found += _fields("upstream", expected.headers, actual.headers)
    return list(dict.fromkeys(found))


def _has_form(answer: Answer) -> bool:
    """Whether a local reply has the form that its listener gives it; others differ in their texts."""
    return any(name == "content-type" and not value.startswith("text/plain") for name, value in answer.headers)
