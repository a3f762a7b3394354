"""The differential table: each file in `mosn/` has rows with what MOSN does and what pymosn does.

A row is an object with `case` (its name, unique in the file), what its runner needs (a request, a configuration, a command),
`mosn` (what a real MOSN did, recorded as a fact), and, where pymosn differs, `ours` and `why`. Texts that begin with `~` are
regular expressions.

`tests/system/test_mosn_NAME.py` runs the rows of `mosn/NAME.yaml` with pymosn. With MOSN=PROGRAM the same runner is used by
`interop/test_interop_mosn_NAME.py` to confirm the column `mosn`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "mosn"


class Row:
    """One row: `given` has all keys but those of the outcomes."""

    def __init__(self, table: str, content: dict[str, Any]) -> None:
        self.table = table
        self.case: str = content["case"]
        self.mosn: Any = content["mosn"]
        self.differs = "ours" in content
        self.ours: Any = content.get("ours", self.mosn)
        self.why: str = content.get("why", "")
        self.given: dict[str, Any] = {
            key: value for key, value in content.items() if key not in ("case", "mosn", "ours", "why")
        }

    def __repr__(self) -> str:
        return f"{self.table}: {self.case}"


def rows(table: str) -> list[Row]:
    """The rows of one file, by its name without the ending."""
    return [Row(table, content) for content in yaml.safe_load((FOLDER / f"{table}.yaml").read_text())]


def tables() -> list[str]:
    """The names of all files."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def meets(found: Any, expected: Any) -> bool:
    """Whether a value is the expected one; objects may have more keys, and texts with `~` are searched for."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(key in found and meets(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(meets, found, expected))
    if isinstance(expected, str) and expected.startswith("~"):
        return isinstance(found, str) and re.search(expected[1:], found) is not None
    return bool(found == expected)
