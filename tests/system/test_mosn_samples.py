"""MOSN's samples do what they do in MOSN (tests/golden/mosn/samples.yaml), and docs/compatibility.md says what they did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mosn_sample_configs import SAMPLES
from mosn_sample_diverting import dialed
from mosn_sample_parts import Places
from mosn_sample_refused import CONFIGS
from mosn_sample_running import DIVERTED, Tokens, World, group_of
from namespaces import Unavailable, namespaces
from tests.golden.mosn_samples import Faults, errors, is_driven, reported, state
from tests.golden.mosn_table import Row, meets, rows

from pymosn.config.compatibility import sample_states
from pymosn.config.schema.absent import EXTENSIONS
from pymosn.kit.new_certs import write_certificates

pytestmark = pytest.mark.once

ROWS = rows("samples")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The peers; processes are started when they are needed."""
    made = World()
    made.begin()
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Addresses that nobody has, for samples that are only checked."""
    folder = tmp_path_factory.mktemp("places")
    write_certificates(folder, (), "", 30, force=True)
    return Places(folder, {}, Tokens().jwks)


def is_what_the_page_says(row: Row, faults: Faults) -> bool:
    """Whether the page has the state of a sample that did what its row says."""
    return sample_states()[row.case] == state(row, faults)


@pytest.mark.parametrize("row", [row for row in ROWS if is_driven(row) and not row.case.startswith(DIVERTED)], ids=repr)
def test_a_sample_does_what_it_does_in_mosn(world: World, places: Places, tmp_path: Path, row: Row) -> None:
    world.start(group_of(row.case))
    found = world.driver.run(row.given["to"], row.given["send"])
    assert meets(found, row.ours), found
    faults = reported(SAMPLES[row.case](places), tmp_path)
    assert not errors(faults)
    assert is_what_the_page_says(row, faults)


@pytest.fixture(scope="module")
def diverted() -> dict[str, list[Any]]:
    """What came of the samples with TPROXY, by their paths; skips the tests without namespaces."""
    made = World()
    try:
        with namespaces() as net:
            return dialed(made, net, [row for row in ROWS if row.case.startswith(DIVERTED)])
    except Unavailable as why:
        pytest.skip(f"no network namespaces: {why}")
    finally:
        made.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.case.startswith(DIVERTED)], ids=repr)
def test_a_sample_with_tproxy(diverted: dict[str, list[Any]], places: Places, tmp_path: Path, row: Row) -> None:
    assert meets(diverted[row.case], row.ours), diverted
    assert is_what_the_page_says(row, reported(SAMPLES[row.case](places), tmp_path))


@pytest.mark.parametrize("row", [row for row in ROWS if not is_driven(row)], ids=repr)
def test_a_sample_that_is_rejected(places: Places, tmp_path: Path, row: Row) -> None:
    faults = reported(CONFIGS[row.case](places), tmp_path)
    report = row.ours["report"] if row.differs else row.given["report"]
    assert any(meets(message, report) for message in errors(faults)), faults
    assert is_what_the_page_says(row, faults)


def test_every_sample_has_a_row_and_a_state() -> None:
    assert {row.case for row in ROWS} == CONFIGS.keys() == sample_states().keys()


def test_the_state_is_that_of_what_ran() -> None:
    """A row that is another than what ran would be another state."""
    row = Row("samples", {"case": "x", "mosn": [1], "ours": [2], "why": "because"})
    assert state(row, []) == ["works", "differs: because"]
    warned = {"severity": "warning", "path": "metrics.sinks", "message": "has no effect in this version yet: later"}
    assert state(Row("samples", {"case": "x", "mosn": [1]}), [warned]) == ["works", "without effect: `metrics`"]
    absent = {"severity": "warning", "path": "extends[0].type", "message": EXTENSIONS["tunnel_agent"]}
    assert state(Row("samples", {"case": "x", "mosn": [1]}), [absent]) == ["works", "without effect: `extends`"]
    refused = {"severity": "error", "path": "servers", "message": "no"}
    assert state(Row("samples", {"case": "x", "mosn": {}, "note": "because"}), [refused]) == ["rejected", "because"]


def test_the_page_has_the_states() -> None:
    page = Path(__file__).parents[2] / "docs" / "compatibility.md"
    text = page.read_text(encoding="utf-8")
    for path, (word, note) in json.loads(json.dumps(sample_states())).items():
        assert f"| `{path}` | {word} | {note} |" in text
