"""How long connections are used."""

from __future__ import annotations

import random
from typing import Final

#: The share by which ages vary, so that connections which began together do not end together.
JITTER: Final = 0.1


def vary(age: float) -> float:
    """`age` in seconds, give or take a tenth."""
    return age * (1.0 - JITTER + 2.0 * JITTER * random.random())
