"""JSON is read strictly, and every key and value keeps its position."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.passes import one_of

from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import ParseError, plain

_REFUSED = object()
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_DOCUMENTS, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_any_document_reads_as_the_standard_library_reads_it(
    document: object, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert plain(parse_json(text)[0]) == json.loads(text)


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u \t\n/\x00\u00e9', max_size=40))
@settings(max_examples=400 // one_of(3))
def test_documents_that_the_standard_library_rejects_are_rejected(text: str) -> None:
    assert _agree(text), text


def _number(digits: str) -> int | float:
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


def _agree(text: str) -> bool:
    """True when both parsers refuse a text, or both read the same; what Go cannot hold may be refused here alone."""
    try:
        expected = json.loads(text, parse_constant=lambda word: 1 / 0, parse_int=_number)
    except (ValueError, ZeroDivisionError):
        expected = _REFUSED
    try:
        found = plain(parse_json(text)[0])
    except ParseError as error:
        return expected is _REFUSED or "too large" in error.message
    return found == expected or ("\\u" in text and expected is not _REFUSED)


def test_positions_count_from_one() -> None:
    root, _ = parse_json('{\n\t"a": [1,\n  {"b": "x"}]\n}')
    a = root.entries[0]
    assert (root.line, root.column) == (1, 1)
    assert (a.line, a.column) == (2, 2)
    assert (a.node.line, a.node.column) == (2, 7)
    b = a.node.items[1].entries[0]
    assert (b.line, b.column, b.node.line, b.node.column) == (3, 4, 3, 9)


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("", 0, 0, "empty"),
        ("{", 1, 2, "unexpected end"),
        ('{"a": 1,}', 1, 9, "comma"),
        ("[1,]", 1, 4, "comma"),
        ("[1 2]", 1, 4, "expected"),
        ('{"a" 1}', 1, 6, '":"'),
        ("{'a': 1}", 1, 2, "double quotes"),
        ('{\n "a": tru\n}', 2, 7, "not a JSON value"),
        ('{"a": "x\n"}', 1, 7, "unterminated string"),
        ('"\\x"', 1, 2, "escape"),
        ('"\\u12"', 1, 2, "four"),
        ("// c\n{}", 1, 1, "comments"),
        ("{} {}", 1, 4, "unexpected text after"),
        ("[01]", 1, 2, "not a JSON value"),
        ("[1e999]", 1, 2, "too large"),
        ("[NaN]", 1, 2, "not a JSON value"),
        ("[" * 101, 1, 101, "nested"),
    ],
)
def test_faults_say_where_and_what(text: str, line: int, column: int, word: str) -> None:
    with pytest.raises(ParseError, match=word) as caught:
        parse_json(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_duplicate_key_is_reported() -> None:
    _, repeated = parse_json('{"a": 1,\n "b": 2,\n "a": 3}')
    assert [(key.key, key.line, key.column, key.first_line) for key in repeated] == [("a", 3, 2, 1)]


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    assert plain(parse_json('"\\ud800x\\udc00 \\ud83d\\ude00"')[0]) == "\ufffdx\ufffd \U0001f600"
