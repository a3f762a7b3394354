"""Server names (TLS SNI), and patterns for them: a name, or `*.` and a name, which matches every name below it."""

from __future__ import annotations

import re
from typing import Final

WILDCARD: Final = "*."

_PATTERN: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def server_name_pattern(text: str) -> str:
    """A pattern in lower case, without the dot that may end it. Raises ValueError with a message for the user."""
    pattern = text.lower().removesuffix(".")
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError("not a server name: expected a name, or *. and a name; leave the key out for all names")
    return pattern


def wildcards_for(name: str) -> list[str]:
    """The wildcards that match a server name, in lower case, the most specific first: `*.b.c` and `*.c` for `a.b.c`."""
    found: list[str] = []
    rest = name.partition(".")[2]
    while rest:
        found.append(WILDCARD + rest)
        rest = rest.partition(".")[2]
    return found
