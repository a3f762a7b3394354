"""The command line, the signals and the exit codes, beside what a real MOSN does: `tests/golden/mosn/command_line.yaml`."""

from typing import Any

import pytest
from tests.golden.mosn_table import Row, meets, rows
from tests.system.mosn_command_line import outcomes, pymosn

pytestmark = pytest.mark.once

ROWS = rows("command_line")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcomes of all rows, which run at the same time."""
    return outcomes(pymosn(), ROWS, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_row(row: Row, found: dict[str, dict[str, Any]]) -> None:
    assert meets(found[row.case], row.ours), found[row.case]
