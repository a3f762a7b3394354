"""What MOSN itself logs and counts: the column `mosn` of `tests/golden/mosn/variables.yaml`, with MOSN=PROGRAM."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.golden.mosn_table import Row, rows
from tests.system.mosn_variables import Upstreams, World, found_for, meets_row, ran

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """MOSN after all requests."""
    upstreams = Upstreams()
    try:
        with ran(World(tmp_path_factory.mktemp("mosn"), upstreams, True), [MOSN, "start", "-c"], dict(os.environ)) as made:
            yield made
    finally:
        upstreams.close()


@pytest.mark.parametrize("row", rows("variables"), ids=repr)
def test_mosn_does_what_the_table_says(row: Row, world: World) -> None:
    assert meets_row(world, row, row.mosn), found_for(world, row)
