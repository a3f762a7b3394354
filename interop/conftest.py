"""Builds the Java peers once for all tests of this folder, or skips the tests where that is not possible."""

from __future__ import annotations

import pytest

from interop import peers


@pytest.fixture(scope="session")
def java() -> None:
    """Builds the Java peers."""
    try:
        peers.build()
    except peers.NotServed as reason:
        pytest.skip(f"the Java peers cannot be built here: {reason}")
