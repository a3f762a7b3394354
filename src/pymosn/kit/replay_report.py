"""The report of a replay, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pymosn.kit.replay import Result
from pymosn.observe.text import one_line


def as_values(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The exchanges that differ or were not sent, as JSON-like values."""
    return [_value(result) for result in results if not result.is_same]


def _value(result: Result) -> dict[str, Any]:
    return {
        "number": result.recorded.number,
        "request": one_line(result.recorded.name()),
        "differences": [
            {"what": one.what, "name": one.name, "recorded": one.recorded, "replayed": one.replayed}
            for one in result.differences
        ],
        "error": result.error,
        "skipped": result.skipped,
    }


def print_report(results: Sequence[Result], show: int) -> None:
    """Prints the differences of the first exchanges, and a table of all."""
    console = Console(highlight=False, soft_wrap=True)
    changed = [result for result in results if result.differences or result.error]
    for result in changed[:show]:
        console.print(f"{result.recorded.number}. {one_line(result.recorded.name())}", markup=False)
        lines = [one.text() for one in result.differences] or [result.error]
        for line in lines:
            console.print(f"    {one_line(line)}", markup=False)
    if len(changed) > show:
        console.print(f"... and {len(changed) - show} more", markup=False)
    table = Table("outcome", "exchanges")
    table.add_row("same", str(sum(result.is_same for result in results)))
    table.add_row("different", str(sum(bool(result.differences) for result in results)))
    table.add_row("no response", str(sum(bool(result.error) for result in results)))
    table.add_row("not sent", str(sum(bool(result.skipped) for result in results)))
    console.print(table)
    for reason, count in Counter(result.skipped for result in results if result.skipped).most_common():
        console.print(f"{count} not sent: {one_line(reason)}", markup=False)
