"""docs/promises.md: every sentence names tests, and these exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = re.split(r"\n- ", (ROOT / "docs" / "promises.md").read_text().replace("\n## ", "\n- ## "))[1:]


def functions(file: Path) -> set[str]:
    """The test functions of a file, without those that are always skipped."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            if not any("mark.skip(" in mark or "xfail" in mark for mark in marks):
                found.add(node.name)
    return found


@pytest.mark.parametrize("promise", [each for each in PROMISES if not each.startswith("## ")])
def test_a_promise_is_held_by_tests_that_exist(promise: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
    assert named
    for file, function in named:
        assert function in functions(ROOT / file), f"{file}::{function}"


def test_there_are_promises() -> None:
    assert len(PROMISES) > 50
