"""Which build the tests run on is never left to chance."""

import os
from pathlib import Path

import pytest

from pymosn.version import build

SOURCE = Path(__file__).parent.parent / "src"


def pytest_configure(config: pytest.Config) -> None:
    stale = list(SOURCE.rglob("*.so"))
    if stale:
        pytest.exit(f"compiled modules lie in the source tree, delete them: {stale[0]}", returncode=4)
    wanted = os.environ.get("PYMOSN_EXPECT")
    if wanted and wanted != build():
        pytest.exit(f"these tests were to run on the {wanted} build, but {build()} is what imports", returncode=4)


def pytest_report_header(config: pytest.Config) -> str:
    return f"pymosn: {build()} build"
