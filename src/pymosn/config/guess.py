"""Suggestions for misspelled words."""

import difflib
from collections.abc import Iterable
from typing import Final

# Comparison is quadratic in the length.
_LONGEST_WORD: Final = 80


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant by `word`; None without a good match."""
    if len(word) > _LONGEST_WORD:
        return None
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None
