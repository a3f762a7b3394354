"""The differential table is complete: every row has a name of its own, and every difference a reason."""

import pytest
from tests.golden.mosn_table import Row, meets, rows, tables


@pytest.mark.parametrize("table", tables())
def test_rows_have_names_of_their_own(table: str) -> None:
    names = [row.case for row in rows(table)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", [row for table in tables() for row in rows(table)], ids=repr)
def test_a_difference_has_a_reason_and_is_one(row: Row) -> None:
    assert row.differs == bool(row.why)
    if row.differs:
        assert not meets(row.ours, row.mosn), "the same as MOSN's"


def test_matching() -> None:
    assert meets({"status": 200, "body": "found it", "other": 1}, {"status": 200, "body": "~^found"})
    assert not meets({"status": 200}, {"status": 200, "body": None})
    assert not meets({"status": 404}, {"status": 200})
    assert meets(["a", "b1"], ["a", "~b[0-9]"])
    assert not meets(["a"], ["a", "b"])
