"""The table of docs/metrics.md: `python -m pymosn.observe.metrics_page --write` (`make docs`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from pymosn.observe.families import FAMILIES

PAGE: Final = Path(__file__).parents[3] / "docs" / "metrics.md"
#: Everything after it is generated.
MARK: Final = "<!-- Generated from src/pymosn/observe/families.py by `make docs`. -->\n"


def table() -> str:
    """All families: name, type, unit, labels, HELP."""
    lines = ["| family | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.shown_name}` | {family.kind} | {family.unit} | {labels} | {family.help} |")
    return "".join(f"{line}\n" for line in lines)


def page(text: str) -> str:
    """The page with the present table. `text`: the page so far."""
    before, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f"the page has no line {MARK.strip()!r}")
    return f"{before}{MARK}\n{table()}"


if __name__ == "__main__":
    made = page(PAGE.read_text())
    if "--write" in sys.argv:
        PAGE.write_text(made)
    else:
        sys.stdout.write(made)
