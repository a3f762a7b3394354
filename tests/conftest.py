"""Checks which build the tests run on."""

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from tests.passes import IS_FIRST_PASS, IS_SECOND_PASS, SECOND_PASS_ONLY, SECOND_SHARES, SHARES

from pymosn.version import build

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"


def pytest_configure(config: pytest.Config) -> None:
    stale = list(SOURCE.rglob("*.so"))
    if stale:
        pytest.exit(f"delete the compiled modules in the source tree: {stale[0]}", returncode=4)
    wanted = os.environ.get("PYMOSN_EXPECT")
    if wanted and wanted != build():
        pytest.exit(f"expected the {wanted} build, but the {build()} build is imported", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the passes of `make test`: leaves out what the other runs, and all but a share of large tables. See passes.py."""
    if not IS_FIRST_PASS and not IS_SECOND_PASS:
        return
    left_out: list[pytest.Item] = []
    places: Counter[tuple[object, str]] = Counter()
    for item in items:
        path = item.path.relative_to(TESTS).as_posix()
        if IS_FIRST_PASS and path.startswith(SECOND_PASS_ONLY):
            left_out.append(item)
        elif IS_FIRST_PASS and item.get_closest_marker("once"):
            item.add_marker(pytest.mark.skip(reason="runs once, on the compiled build"))
        else:
            key = item.path, item.name.partition("[")[0]
            if places[key] % _share(item, path):
                left_out.append(item)
            places[key] += 1
    config.hook.pytest_deselected(items=left_out)
    known = set(left_out)
    items[:] = [item for item in items if item not in known]


def _share(item: pytest.Item, path: str) -> int:
    """Of how many tests of its function one is run."""
    if IS_SECOND_PASS:
        return SECOND_SHARES.get(path, 1)
    mark = item.get_closest_marker("sampled")
    return SHARES.get(path, 1) if mark is None else int(mark.args[0])


def pytest_collection_finish() -> None:
    """Keeps the collected tests from the garbage collector: it would look at all of them whenever a test calls it."""
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> str:
    return f"pymosn: {build()} build"
