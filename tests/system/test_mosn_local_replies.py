"""Responses that the proxy makes itself, beside MOSN's; see tests/golden/mosn/local_replies.yaml."""

from collections.abc import Iterator
from typing import Any

import pytest
from mosn_files import EchoServer, World, effects
from process_fixtures import Start
from pymosn_process import READY
from tests.golden.mosn_table import Row, meets, rows

pytestmark = pytest.mark.once

ROWS = rows("local_replies")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What pymosn does with the requests of all rows: one start for all of them."""
    folder = tmp_path_factory.mktemp("replies")
    upstream, start = EchoServer(), Start(folder)
    world = World(ROWS, folder, upstream.port)
    try:
        start(world.config).wait_for(READY)
        yield effects(ROWS, world)
    finally:
        start.end()
        upstream.close()


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_the_response(row: Row, found: dict[str, Any]) -> None:
    assert meets(found[row.case], row.ours), found[row.case]
