"""The column `mosn` of the table `local_replies`, responses of the proxy itself: by the real program, with MOSN=PROGRAM."""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden.mosn_table import Row, meets, rows

from interop.mosn_starts import MOSN, found_by_mosn

pytestmark = [pytest.mark.once, pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN")]

ROWS = rows("local_replies")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What MOSN does."""
    return found_by_mosn(ROWS, tmp_path_factory.mktemp("local_replies"))


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_mosn(row: Row, found: dict[str, dict[str, Any]]) -> None:
    assert meets(found[row.case], row.mosn), found[row.case]
