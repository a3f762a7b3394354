"""A package that was replaced under a running process."""

from pathlib import Path

import pytest
from tests.unit.server.test_server_fleet import Stage

from pymosn.server.installed_code import code_fault
from pymosn.version import VERSION


def test_the_code_on_disk_is_that_of_this_process() -> None:
    assert code_fault() == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f'"""Version."""\n\nVERSION = "{VERSION}"\n', ""),
        ('VERSION = "99.0"\n', "pymosn on disk has version 99.0"),
        ("", "pymosn on disk has version unknown"),
        (None, "cannot be read"),
    ],
)
def test_another_version_asks_for_an_upgrade(tmp_path: Path, content: str | None, expected: str) -> None:
    path = tmp_path / "version.py"
    if content is not None:
        path.write_text(content)
    fault = code_fault(str(path))
    assert expected in fault
    assert ("run `pymosn upgrade`" in fault) == bool(expected)


def test_a_replaced_worker_with_other_code_is_reported_and_starts() -> None:
    stage = Stage().all_ready()
    stage.fleet.code_fault = lambda: "pymosn on disk has version 99.0; run `pymosn upgrade`"
    stage.spawned[0].exit(-9)
    assert "worker 1: pymosn on disk has version 99.0; run `pymosn upgrade`" in stage.log.lines
    assert len(stage.spawned) == 3
