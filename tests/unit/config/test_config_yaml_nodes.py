"""YAML gives the same nodes as JSON, with its own positions."""

import json
from typing import Any

import pytest

from pymosn.config.nodes import ParseError, plain
from pymosn.config.yaml_nodes import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0x10", 16),
        ("010", 8),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("null", None),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("12:30:45", "12:30:45"),
        ("2020-01-02", "2020-01-02"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("15s", "15s"),
        ("0x", "0x"),
        ("*.example.com", None),
    ],
)
def test_plain_words(text: str, value: Any) -> None:
    if text.startswith("*"):
        with pytest.raises(ParseError, match="alias"):
            parse_yaml(text)
    else:
        assert plain(parse_yaml(text)[0]) == value


def test_json_is_yaml() -> None:
    document = {"a": [1, 2.5, True, None, "x"], "b": {"c": {}}}
    assert plain(parse_yaml(json.dumps(document))[0]) == document


def test_keys_are_always_text() -> None:
    assert plain(parse_yaml("on: 1\n5: 2\n~: 3")[0]) == {"on": 1, "5": 2, "~": 3}


def test_positions_count_from_one() -> None:
    root, _ = parse_yaml("a:\n  - b: x\n    c: 5\n")
    entry = root.entries[0].node.items[0].entries[1]
    assert (entry.line, entry.column, entry.node.line, entry.node.column) == (3, 5, 3, 8)


def test_anchors_and_merge_keys() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: *b"
    assert plain(parse_yaml(text)[0]) == {"base": {"x": 1, "y": 2}, "one": {"y": 3, "x": 1}, "two": {"x": 1, "y": 2}}


def test_nested_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ParseError, match="aliases"):
        parse_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("a: [1", "expected"),
        ("a: b: c", "mapping values"),
        ("!!python/object/apply:os.system ['true']", "not supported"),
        ("a: !!binary aGk=", "not supported"),
        ("? [1]\n: 2", "plain string"),
        ("a: &x [*x]", "nested"),
        ("[" * 2000, "nested"),
        ("--- 1\n--- 2", "single document"),
        ("a: \x01", "not allowed"),
        ('"\\U99999999"', "YAML"),
        ("a: " + "9" * 400, "too large"),
        ("<<: 5", "mapping"),
    ],
)
def test_faults(text: str, word: str) -> None:
    with pytest.raises(ParseError, match=word):
        parse_yaml(text)


def test_a_duplicate_key_is_reported() -> None:
    _, repeated = parse_yaml("a: 1\nb: 2\na: 3")
    assert [(key.key, key.line, key.first_line) for key in repeated] == [("a", 3, 1)]


def test_surrogates_are_characters_or_replaced() -> None:
    root, _ = parse_yaml('"\\ud83d\\ude00": "a\\ud800"')
    ((entry),) = root.entries
    assert (entry.key, entry.node.value) == ("\U0001f600", "a\ufffd")
