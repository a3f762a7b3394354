"""Fixtures: the Java peers, built once or skipped where that is not possible, and those of the real program."""

from __future__ import annotations

import pytest
from tests.system.process_fixtures import start, upstream  # noqa: F401 - fixtures

from interop import peers


@pytest.fixture(scope="session")
def java() -> None:
    """Builds the Java peers."""
    try:
        peers.build()
    except peers.NotServed as reason:
        pytest.skip(f"the Java peers cannot be built here: {reason}")
