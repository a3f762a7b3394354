"""What pymosn logs and counts, compared with MOSN: `tests/golden/mosn/variables.yaml`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from mosn_variables import Upstreams, World, found_for, meets_row, ran
from tests.golden.mosn_table import Row, rows

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """pymosn after all requests."""
    upstreams = Upstreams()
    command = [sys.executable, "-m", "pymosn", "start", "-c"]
    try:
        with ran(World(tmp_path_factory.mktemp("pymosn"), upstreams), command, worker_environment(os.environ)) as made:
            yield made
    finally:
        upstreams.close()


@pytest.mark.parametrize("row", rows("variables"), ids=repr)
def test_pymosn_does_what_the_table_says(row: Row, world: World) -> None:
    assert meets_row(world, row, row.ours), found_for(world, row)
