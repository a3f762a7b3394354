"""Files that MOSN starts: what the real program makes of odd values; see tests/golden/mosn/files.yaml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mosn_files import EchoServer, World, effects, is_alone
from process_fixtures import Start
from pymosn_process import READY
from tests.golden.mosn_table import Row, meets, rows

from pymosn.config.load import load_text

pytestmark = pytest.mark.once

ROWS = rows("files")
ODD = [row for row in ROWS if "warning" in row.given]
UPSTREAM = 8080


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What pymosn does with the requests of all rows that it starts with: one start for all of them."""
    folder = tmp_path_factory.mktemp("files")
    upstream, start = EchoServer(), Start(folder)
    together = [row for row in ROWS if row.ours["starts"] and not is_alone(row)]
    world = World(together, folder, upstream.port)
    try:
        start(world.config).wait_for(READY)
        yield effects(together, world)
    finally:
        start.end()
        upstream.close()


def loaded(row: Row, folder: Path, strict: bool = False) -> Any:
    return load_text(World([row], folder, UPSTREAM).text, "mosn.json", strict=strict)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_the_file_is_loaded_or_refused(row: Row, tmp_path: Path) -> None:
    result = loaded(row, tmp_path)
    assert (result.config is not None) is row.ours["starts"], [fault.text() for fault in result.faults]


@pytest.mark.parametrize("row", ODD, ids=repr)
def test_a_warning_names_the_place_and_the_effect(row: Row, tmp_path: Path) -> None:
    texts = [f"{fault.path}: {fault.message}" for fault in loaded(row, tmp_path).warnings]
    assert any(re.search(row.given["warning"], text) for text in texts), texts


@pytest.mark.parametrize("row", ODD, ids=repr)
def test_strict_refuses_what_is_odd(row: Row, tmp_path: Path) -> None:
    texts = [f"{fault.path}: {fault.message}" for fault in loaded(row, tmp_path, strict=True).errors]
    assert any(re.search(row.given["warning"], text) for text in texts), texts


@pytest.mark.parametrize("row", [row for row in ROWS if row.ours["starts"] and not is_alone(row)], ids=repr)
def test_the_effect(row: Row, found: dict[str, Any]) -> None:
    assert meets(found[row.case], row.ours), found[row.case]
