import pytest

from pymosn.core.server_names import server_name_pattern, wildcards_for


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("a.test", "a.test"), ("A.Test.", "a.test"), ("*.B.test", "*.b.test"), ("_x-1.test", "_x-1.test"), ("a", "a")],
)
def test_patterns_are_compared_in_lower_case_without_the_last_dot(text: str, pattern: str) -> None:
    assert server_name_pattern(text) == pattern


@pytest.mark.parametrize(
    "text", ["", ".", "*", "*.", "a.*.test", "*a.test", "a..test", ".a", "a b", "ä.test", "a.test:443", "a.."]
)
def test_what_no_server_name_can_match_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a server name: expected a name, or \*\. and a name"):
        server_name_pattern(text)


@pytest.mark.parametrize(
    ("name", "wildcards"), [("a.b.c", ["*.b.c", "*.c"]), ("a.b", ["*.b"]), ("a", []), ("", []), ("a.", [])]
)
def test_the_longest_wildcard_is_the_first(name: str, wildcards: list[str]) -> None:
    assert wildcards_for(name) == wildcards
