"""The digest lines of SOFATracer, compared with MOSN: `tests/golden/mosn/digests.yaml`."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from mosn_digests import Hosts, World, run
from tests.golden.mosn_table import Row, meets, rows

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What pymosn writes for all requests."""
    hosts = Hosts()
    world = World(tmp_path_factory.mktemp("pymosn"), hosts)
    try:
        run(world, [sys.executable, "-m", "pymosn", "start", "-c"], worker_environment(os.environ))
    finally:
        hosts.close()
    return world.outcomes


@pytest.mark.parametrize("row", rows("digests"), ids=repr)
def test_pymosn_writes_what_the_table_has(row: Row, found: dict[str, dict[str, Any]]) -> None:
    assert meets(found[row.given["request"]], row.ours), found[row.given["request"]]


def test_every_request_has_a_row(found: dict[str, dict[str, Any]]) -> None:
    assert {row.given["request"] for row in rows("digests")} == found.keys()
