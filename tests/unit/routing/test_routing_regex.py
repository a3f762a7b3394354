"""Regular expressions of RE2, and replacements by them."""

import pytest

from pymosn.routing.regex import PatternError, Regex, RegexSet, Replacement


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "(?<!a)b", r"(a)\1", "a{2000}", "[z-a]", "*"])
def test_expressions_that_go_rejects_are_rejected(pattern: str) -> None:
    with pytest.raises(PatternError):
        Regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b+", b"abbc", True),
        ("^b", b"ab", False),
        (r"\pL", "é".encode(), True),
        ("[[:digit:]]", b"x1", True),
        ("", b"", True),
    ],
)
def test_search(pattern: str, text: bytes, found: bool) -> None:
    assert Regex(pattern).found_in(text) is found


@pytest.mark.timeout(5)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_an_evil_pattern_takes_linear_time(pattern: str) -> None:
    assert not Regex(pattern).found_in(b"a" * 50_000 + b"!")


def test_a_set_returns_the_expression_that_matches() -> None:
    assert sorted(RegexSet(["a", "b", "^c"]).find(b"ba")) == [0, 1]
    assert RegexSet(["a", "b"]).find(b"x") == []


@pytest.mark.parametrize(
    ("pattern", "template", "text", "result"),
    [
        ("^/a/([^/]+)/(.*)$", "/b/${2}/$1", b"/a/x/y", b"/b/y/x"),
        ("(?P<who>[a-z]+)", "<$who>", b"/ab/c", b"/<ab>/<c>"),
        ("(?P<who>[a-z]+)", "${who}s", b"/ab", b"/abs"),
        ("o", r"\0\0", b"foo", b"foooo"),
        ("a", "$$1", b"a", b"$1"),
        ("a", r"\\", b"a", b"\\"),
        ("x*", "-", b"abxc", b"-a-b-c-"),
        ("(a)|(b)", "[$1$2]", b"ab", b"[a][b]"),
        ("q", "r", b"abc", b"abc"),
    ],
)
def test_replacement(pattern: str, template: str, text: bytes, result: bytes) -> None:
    assert Replacement(pattern, template).apply(text) == result


@pytest.mark.parametrize("template", ["$1x", "$2", "${name}", r"\3"])
def test_a_group_that_is_not_there(template: str) -> None:
    with pytest.raises(PatternError, match="no group"):
        Replacement("(a)", template)
