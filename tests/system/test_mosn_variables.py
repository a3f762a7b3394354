"""What pymosn logs and counts, compared with MOSN: `tests/golden/mosn/variables.yaml`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosn_variables import Upstreams, World, found_for, meets_row, ran
from process_fixtures import Start
from pymosn_process import READY, TwoHops, eventually
from tests.golden.mosn_table import Row, rows

from pymosn.core.stamps import IDS_PER_WORKER
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


def test_ids_are_unique_among_all_workers_also_replaced_ones(start: Start, tmp_path: Path) -> None:
    hops = TwoHops(1)
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": "here"}}
    hops.server["routers"][0]["virtual_hosts"][0]["routers"] = [route]
    log = tmp_path / "ids.log"
    access_log = {"log_path": str(log), "log_format": "%connection_id% %stream_id% %trace_id%"}
    hops.server["listeners"][0]["access_logs"] = [access_log]
    proxy = start(hops.config)
    proxy.wait_for(READY)

    def ranges() -> set[int]:
        return {int(line.split(" ")[0]) // int(IDS_PER_WORKER) for line in log.read_text().splitlines()}

    def reaches(count: int) -> bool:
        assert hops.get()[0] == 200
        return len(ranges()) >= count

    assert eventually(lambda: reaches(2)), "one worker got all connections"
    before = proxy.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    assert eventually(lambda: len(proxy.worker_pids()) == 2 and before[0] not in proxy.worker_pids())
    assert eventually(lambda: reaches(3)), "the new worker got no connection"
    lines = [line.split(" ") for line in log.read_text().splitlines()]
    assert [len(set(ids)) for ids in zip(*lines, strict=True)] == [len(lines)] * 3
