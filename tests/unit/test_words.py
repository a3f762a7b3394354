"""The prose of `src/` and of the pages stays plain English; `python -m tests.words` lists all uses."""

from pathlib import Path

import pytest
from tests.words import PAGES, PATTERNS, SOURCE, counts, uses, uses_in, uses_in_file

BAD = '''"""Made anew
in  force."""
# A check that is
# behind another.
anew = say(f"place {anew}", b"anew")  # noqa
'''


@pytest.mark.parametrize(("paths", "limit"), [(SOURCE, "source"), (PAGES, "pages")], ids=["src", "pages"])
def test_few_uses_remain(paths: list[Path], limit: str) -> None:
    found = uses_in(paths)
    many = [pattern for pattern in PATTERNS if counts(found)[pattern.name] > getattr(pattern, limit)]
    listed = [str(use) for use in found if use.pattern in many]
    assert not many, "\n".join([f"{pattern.name}: at most {getattr(pattern, limit)} uses" for pattern in many] + listed)


def test_planted_uses_are_found(tmp_path: Path) -> None:
    file = tmp_path / "planted.py"
    file.write_text(BAD)
    found = uses_in_file(file)
    assert [(use.pattern.name, use.line) for use in found] == [("anew", 1), ("in force", 2), ("behind", 4), ("place", 5)]
    assert str(found[2]) == f"{file}:4: behind: 'behind another.'; say: {PATTERNS[1].instead}"
    page = tmp_path / "page.md"
    page.write_text("A page.\n\nThe header says\nwhat is no word, but a link that is no longer there is fine.\n")
    assert [(use.pattern.name, use.line) for use in uses_in([tmp_path]) if use.file == str(page)] == [
        ("says", 3),
        ("is no X", 4),
    ]


def test_no_word_is_read_as_another() -> None:
    text = "placed, understands, replaced, wanted, aside, foretold, lookout, enforced, going, became"
    assert not list(uses(text, "text"))
