"""The digest lines that MOSN itself writes: the column `mosn` of the table `digests`, with MOSN=PROGRAM."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.golden.mosn_table import Row, meets, rows
from tests.system.mosn_digests import Hosts, World, run

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What MOSN writes for all requests."""
    hosts = Hosts()
    world = World(tmp_path_factory.mktemp("mosn"), hosts)
    try:
        run(world, [MOSN, "start", "-c"], dict(os.environ))
    finally:
        hosts.close()
    return world.outcomes


@pytest.mark.parametrize("row", rows("digests"), ids=repr)
def test_mosn_writes_what_the_table_has(row: Row, found: dict[str, dict[str, Any]]) -> None:
    assert meets(found[row.given["request"]], row.mosn), found[row.given["request"]]
