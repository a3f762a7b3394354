"""The admin API beside MOSN's: the rows of `tests/golden/mosn/admin.yaml`, with one process for all of them."""

from collections.abc import Iterator

import pytest
from process_fixtures import Start
from pymosn_process import free_ports
from tests.golden.mosn_admin import AdminWorld
from tests.golden.mosn_table import Row, meets, rows

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminWorld]:
    folder = tmp_path_factory.mktemp("admin")
    world = AdminWorld(folder, *free_ports(2))
    start = Start(folder)
    start(world.config(), "--workers", "1", **AdminWorld.ENVIRONMENT)
    try:
        assert world.wait_until_running()
        yield world
    finally:
        start.end()


@pytest.mark.parametrize("row", rows("admin"), ids=lambda row: row.case)
def test_the_answer_is_the_expected_one(world: AdminWorld, row: Row) -> None:
    found = world.outcome(row)
    assert meets(found, row.ours), found
