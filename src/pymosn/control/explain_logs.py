"""The part of `explain` about access logs: which ones have the request, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymosn.api.routing import Route
from pymosn.config.schema import AccessLog
from pymosn.observe.access_log import EVERY, SWITCHES, is_logged


def log_states(logs: Iterable[AccessLog], route: Route | None) -> list[dict[str, Any]]:
    """Whether the requests of a route are in each access log, apart from its conditions."""
    settings = None if route is None else route.filter_configs
    switches: Any = {} if settings is None else settings.get(SWITCHES, {})
    return [
        {
            "path": log.log_path or "default",
            "name": log.name,
            "logged": is_logged(route, log.name, log.disabled),
            "because": _because(log, switches),
        }
        for log in logs
    ]


def _because(log: AccessLog, switches: dict[str, bool]) -> str:
    decisive = log.name if log.name and log.name in switches else EVERY
    if decisive in switches:
        return f"the route or its virtual host has access_logs.{decisive}: {str(switches[decisive]).lower()}"
    if log.disabled:
        return "it is disabled, and no route switches it on"
    return "if its filter selects it" if log.filter is not None else ""


def log_lines(answer: dict[str, Any]) -> list[str]:
    """The same in words, a line for each log."""
    lines = []
    for log in answer.get("access_logs", ()):
        name = f" ({log['name']})" if log["name"] else ""
        because = f": {log['because']}" if log["because"] else ""
        lines.append(f"{log['path']}{name} {'yes' if log['logged'] else 'no'}{because}")
    return lines
