"""The column `mosn` of `tests/golden/mosn/admin.yaml`, confirmed with a real MOSN: MOSN=PROGRAM."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.golden.mosn_admin import AdminWorld
from tests.golden.mosn_table import Row, meets, rows
from tests.system.pymosn_process import PATIENCE, free_ports

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminWorld]:
    folder = tmp_path_factory.mktemp("admin")
    world = AdminWorld(folder, *free_ports(2))
    path = folder / "conf" / "mosn.json"
    path.parent.mkdir()
    path.write_text(json.dumps(world.config()))
    environment = {**os.environ, **AdminWorld.ENVIRONMENT}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [MOSN, "start", "-c", str(path)], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            assert world.wait_until_running(), (folder / "output").read_text()
            yield world
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.parametrize("row", rows("admin"), ids=lambda row: row.case)
def test_mosn_answers_as_recorded(world: AdminWorld, row: Row) -> None:
    found = world.outcome(row)
    assert meets(found, row.mosn), found
