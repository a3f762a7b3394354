"""What proxies did with the members of the tables, as docs/hostile.md shows it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: In the order of the columns' explanation.
AGREES, PASSES, REFUSES, ODD = "agrees", "passes", "refuses", "odd"
#: Seconds for a proxy that neither answers nor closes.
PATIENCE = 3.0


@dataclass
class Column:
    """What one proxy did: verdicts by row."""

    title: str
    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def cell(verdicts: Counter[str]) -> str:
    """`12` where all agree, else each verdict that was given."""
    others = [f"{verdicts[name]} {name}" for name in (PASSES, REFUSES, ODD) if verdicts[name]]
    return ", ".join([str(verdicts[AGREES]), *others])


def table(rows: Mapping[str, str], members: Mapping[str, int], columns: Sequence[Column]) -> str:
    """The table of the `rows` that any proxy has a verdict on. `members`: of each row."""
    lines = ["| row | | members | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|---|---" + "|---" * len(columns) + "|")
    for row, text in rows.items():
        if any(column.verdicts[row] for column in columns):
            cells = [cell(column.verdicts[row]) if column.verdicts[row] else "-" for column in columns]
            lines.append(f"| {row} | {text} | {members[row]} | " + " | ".join(cells) + " |")
    totals: list[Counter[str]] = [sum(column.verdicts.values(), Counter()) for column in columns]
    lines.append(f"| all | | {sum(members.values())} | " + " | ".join(cell(total) for total in totals) + " |")
    return "\n".join(lines) + "\n"
