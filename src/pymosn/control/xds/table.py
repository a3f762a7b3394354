"""`GET /api/v1/xds` as a text, for `pymosn xds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_HEAD: Final = ("TYPE", "VERSION", "RESOURCES", "REJECTED", "LAST ACK", "LAST NACK")
#: What follows the tables, if it is not empty.
_LISTS: Final = ("waiting", "unusable", "shadowed", "missing_secrets", "held_clusters", "held_removals")


def as_table(view: Mapping[str, Any]) -> str:
    """The streams, the types with the ages of their last answers, and what waits or cannot be used."""
    lines = [f"mode: {view['mode']}"]
    answers: dict[str, Mapping[str, Any]] = {}
    for client in view.get("clients", ()):
        why = f": {client['error']}" if client["error"] and client["state"] != "connected" else ""
        age = "" if client["stream_age"] is None else f" for {client['stream_age']:.0f} s"
        lines.append(f"{client['name']}: {client['server']} {client['state']}{age}{why}")
        answers.update(client["types"])
    rows = [_HEAD]
    for name, kind in view.get("types", {}).items():
        if not kind["resources"] and not kind["rejected"] and name not in answers:
            continue
        answer = answers.get(name, {})
        counts = str(len(kind["resources"])), str(len(kind["rejected"]))
        rows.append((name, kind["version"] or "-", *counts, _ago(answer.get("ack_age")), _ago(answer.get("nack_age"))))
    if len(rows) > 1:
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines.append("")
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for name, kind in view.get("types", {}).items():
        lines += [f"{name} {resource} is rejected: {why}" for resource, why in kind["rejected"].items()]
    for key in _LISTS:
        found = view.get(key)
        if found:
            lines += ["", f"{key.replace('_', ' ')}:", *(f"  {line}" for line in _lines(found))]
    if view.get("last_error"):
        lines += ["", f"last error: {view['last_error']}"]
    # Names and reasons are from control planes.
    return "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)


def resource_lines(found: list[dict[str, Any]]) -> str:
    """The resources of a name as text."""
    lines = []
    for one in found:
        version = f" version {one['version']}" if "version" in one else ""
        sender = f" from {one['control_plane']}" if one.get("control_plane") else ""
        state = one.get("state", "rejected")
        lines.append(f"{one['type']} {one['resource']}:{version}{sender}, {state}")
        if "active_version" in one:
            lines.append(f"  active: version {one['active_version']}")
        for key in ("needs", "used_by", "warnings"):
            lines += [f"  {key.replace('_', ' ')}: {item}" for item in one.get(key, ())]
        if "rejected" in one:
            lines.append(f"  the newest was rejected: {one['rejected']}")
    return "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)


def _ago(age: float | None) -> str:
    return "-" if age is None else f"{age:.0f} s ago"


def _lines(found: Any) -> list[str]:
    """Items of a list, or names with a reason."""
    if isinstance(found, Mapping):
        return [f"{name}: {', '.join(why) if isinstance(why, list) else why}" for name, why in found.items()]
    return [f"{item['item']}: waits for {item['for']}" if isinstance(item, Mapping) else str(item) for item in found]
