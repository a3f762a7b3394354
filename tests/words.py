"""Counts the words of a private dialect that once filled this project's prose; see "Style" in CONTRIBUTING.md.

`python -m tests.words [PATH ...]` prints each use with its file and line, and the counts; `tests/unit/test_words.py` holds
the counts against `PATTERNS`. In Python files comments, docstrings and string literals are read, in Markdown everything.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = [ROOT / "src" / "pymosn"]
PAGES = [ROOT / "docs", ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]


class Pattern(NamedTuple):
    name: str
    #: A regular expression; a space in it is any white space.
    words: str
    instead: str
    #: How many uses may remain in `src/` and in the pages: a tenth of what there was. For those that are good English.
    source: int
    pages: int


LOOKS = r"look(?!-alike)s?|look(?:ed|ing) at|look-ups?|wish(?:es)?|wants|owed|be it|had from"
PATTERNS = [
    Pattern("anew", r"anew", "again, re-create, restart, re-encode, reopen", 2, 1),
    Pattern("behind", r"behind|beside|in front of", "after, before, next to, alongside, in addition to", 10, 4),
    Pattern("stands", r"stands?", "is, is located, is part of, appears", 9, 2),
    Pattern("in force", r"in(?:to)? force", "active, live; apply, activate", 5, 1),
    Pattern(
        "nobody", r"nobody|somebody|everybody|whom|who comes", "no receiver, the caller, all hosts, new connections", 9, 2
    ),
    Pattern("says", r"says|said|told|tells|hears|heard", "specifies, contains, reports, is notified, receives", 27, 9),
    Pattern("is no X", r"(?:what|which|that|who) (?:is|are) (?:no(?! longer| more)|none)", "not an X, invalid", 3, 0),
    Pattern(
        "goes on",
        r"(?:goes|go|going|went) (?:on|by)|as (?:it|they) came",
        "continues, is forwarded unchanged, is based on",
        4,
        3,
    ),
    Pattern("place", r"places?", "index, path, position, slot; a place only in a file", 15, 2),
    Pattern("look", LOOKS, "check, inspect, lookup; request, require; pending; obtained from", 9, 3),
]


class Use(NamedTuple):
    file: str
    line: int
    pattern: Pattern
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.pattern.name}: {self.text!r}; say: {self.pattern.instead}"


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """The comments and strings of a Python file with their first lines; comments on adjoining lines are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    comments: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and comments:
            yield last - len(comments) + 1, "\n".join(comments)
            comments = []
        last = token.start[0]
        comments.append(token.string.lstrip("#: "))
    if comments:
        yield last - len(comments) + 1, "\n".join(comments)


def uses(text: str, file: str, first: int = 1) -> Iterator[Use]:
    """The uses of all patterns in one text that begins on line `first` of `file`."""
    for pattern in PATTERNS:
        for match in re.finditer(rf"\b(?:{pattern.words})\b".replace(" ", r"\s+"), text, re.IGNORECASE):
            begin, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
            around = text[begin : end if end >= 0 else None][:160]
            yield Use(file, first + text.count("\n", 0, match.start()), pattern, " ".join(around.split()))


def uses_in_file(path: Path) -> list[Use]:
    text = path.read_text()
    file = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    texts = python_texts(text) if path.suffix == ".py" else iter([(1, text)])
    return sorted((use for line, part in texts for use in uses(part, file, line)), key=lambda use: use.line)


def uses_in(paths: list[Path]) -> list[Use]:
    files = [
        file for path in paths for file in ([path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.md")]))
    ]
    return [use for file in files for use in uses_in_file(file)]


def counts(found: list[Use]) -> dict[str, int]:
    return {pattern.name: sum(use.pattern is pattern for use in found) for pattern in PATTERNS}


def main(arguments: list[str]) -> None:
    parts = [[Path(argument).resolve() for argument in arguments]] if arguments else [SOURCE, PAGES]
    for paths in parts:
        found = uses_in(paths)
        print(*found, sep="\n")
        print(
            "\n", " ".join(str(path) for path in paths), ", ".join(f"{name} {n}" for name, n in counts(found).items()), "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
