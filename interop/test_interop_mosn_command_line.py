"""The column `mosn` of `tests/golden/mosn/command_line.yaml`, confirmed by a real MOSN: MOSN=PROGRAM."""

import os
from typing import Any

import pytest
from tests.golden.mosn_table import Row, meets, rows
from tests.system.mosn_command_line import mosn, outcomes

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]

ROWS = rows("command_line")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcomes of all rows, which run at the same time."""
    return outcomes(mosn(MOSN), ROWS, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_row(row: Row, found: dict[str, dict[str, Any]]) -> None:
    assert meets(found[row.case], row.mosn), found[row.case]
