"""The stories of exchanges as text for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pymosn.observe.text import one_line


def exchanges_text(found: Mapping[str, Any]) -> str:
    """The answer of `/api/v1/exchanges` as text."""
    lines: list[str] = []
    for kind, title in (("failed", "failed, the newest first"), ("slow", "the slowest")):
        if kind in found:
            lines += [f"{title}:" if found[kind] else f"{title}: none"]
            for story in found[kind]:
                lines += [f"  {one_line(line)}" for line in story_lines(story)]
    if found.get("missed"):
        lines.append(f"{found['missed']} more were not kept: there were too many in a second")
    return "\n".join([*lines, ""])


def story_lines(story: Mapping[str, Any]) -> list[str]:
    """One story as lines: the request and its outcome, where it went, each attempt, and the times."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(story["time"])) + f".{int(story['time'] * 1000) % 1000:03}"
    request = " ".join(filter(None, (story["protocol"], story["method"], story["host"] + story["path"])))
    why = ": ".join(filter(None, (story["reason"], story["detail"])))
    lines = [f"{at} {story['status'] or '-'} {milliseconds(story['duration'])} {request}{f' ({why})' if why else ''}"]
    went = [
        f"listener {story['listener']}",
        f"client {story['client']}" if story["client"] else "",
        f"route {story['route']}" if story["route"] else "no route",
        f"cluster {story['cluster']}" if story["cluster"] else "",
        f"filters {', '.join(story['filters'])}" if story["filters"] else "",
        f"reply of {story['replied_by']}" if story["replied_by"] else "",
        f"trace {story['trace_id']}" if story["trace_id"] else "",
        f"worker {story['worker']}" if "worker" in story else "",
    ]
    lines.append(f"  {', '.join(filter(None, went))}")
    for attempt in story["attempts"]:
        outcome = attempt["reason"] or attempt["status"] or "no response"
        lines.append(
            f"  +{milliseconds(attempt['offset'])} {attempt['address']}: {outcome} in {milliseconds(attempt['duration'])}"
        )
    times = [f"{name} +{milliseconds(at)}" for name, at in story["timings"].items() if at is not None]
    lines.append(f"  {', '.join(times)}; {story['request_bytes']} bytes in, {story['response_bytes']} out")
    return lines


def milliseconds(seconds: float) -> str:
    """`12.3 ms`, or `2.5 s`."""
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{seconds * 1000.0:.3g} ms"
