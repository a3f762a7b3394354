"""MOSN's samples with the real MOSN, with MOSN=PROGRAM: it does what tests/golden/mosn/samples.yaml says it does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from mosn_sample_diverting import dialed
from mosn_sample_refused import CONFIGS
from mosn_sample_running import DIVERTED, World, group_of
from namespaces import Unavailable, namespaces
from pymosn_process import eventually
from tests.golden.mosn_samples import is_driven
from tests.golden.mosn_table import Row, meets, rows

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]

ROWS = rows("samples")
#: MOSN says that it runs.
_RUNS = "state changed to 6"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The peers; processes are started when they are needed."""
    made = World(MOSN)
    made.begin()
    yield made
    made.close()


@pytest.fixture(scope="module")
def diverted() -> dict[str, list[Any]]:
    """What came of the samples with TPROXY, by their paths."""
    made = World(MOSN)
    try:
        with namespaces() as net:
            return dialed(made, net, [row for row in ROWS if row.case.startswith(DIVERTED)])
    except Unavailable as why:
        pytest.skip(f"no network namespaces: {why}")
    finally:
        made.close()


@pytest.mark.parametrize("row", [row for row in ROWS if is_driven(row) and not row.case.startswith(DIVERTED)], ids=repr)
def test_mosn_does_what_is_recorded(world: World, row: Row) -> None:
    world.start(group_of(row.case))
    found = world.driver.run(row.given["to"], row.given["send"])
    assert meets(found, row.mosn), found


@pytest.mark.parametrize("row", [row for row in ROWS if row.case.startswith(DIVERTED)], ids=repr)
def test_mosn_diverts_as_recorded(diverted: dict[str, list[Any]], row: Row) -> None:
    assert meets(diverted[row.case], row.mosn), diverted


@pytest.mark.parametrize("row", [row for row in ROWS if not is_driven(row)], ids=repr)
def test_mosn_starts_as_recorded(row: Row) -> None:
    made = World(MOSN)
    try:
        made.begin()
        process = made.launch("alone", CONFIGS[row.case](made.places))
        assert eventually(lambda: process.poll() is not None or _RUNS in made.output())
        assert (process.poll() is None) == row.mosn["starts"], made.output()
    finally:
        made.close()
