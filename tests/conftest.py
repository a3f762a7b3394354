"""Checks which build the tests run on."""

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from tests.passes import IS_FIRST_PASS, SECOND_PASS_ONLY, SHARES

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
    """Skips tests marked `once`, and all but a share of those marked `sampled`, if the same `make test` runs them later.

    Those of SECOND_PASS_ONLY are left out, too.
    """
    if not IS_FIRST_PASS:
        return
    left_out: list[pytest.Item] = []
    places: Counter[tuple[object, str]] = Counter()
    for item in items:
        path = item.path.relative_to(TESTS).as_posix()
        if path.startswith(SECOND_PASS_ONLY):
            left_out.append(item)
        elif item.get_closest_marker("once"):
            item.add_marker(pytest.mark.skip(reason="runs once, on the compiled build"))
        else:
            mark = item.get_closest_marker("sampled")
            number = SHARES.get(path, 1) if mark is None else mark.args[0]
            key = item.path, item.name.partition("[")[0]
            if places[key] % number:
                left_out.append(item)
            places[key] += 1
    config.hook.pytest_deselected(items=left_out)
    known = set(left_out)
    items[:] = [item for item in items if item not in known]


def pytest_collection_finish() -> None:
    """Keeps the collected tests from the garbage collector: it would look at all of them whenever a test calls it."""
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> str:
    return f"pymosn: {build()} build"
