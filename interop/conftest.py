"""Builds the Java peers once for all tests here, or skips them where that cannot be."""

from __future__ import annotations

import pytest

from interop import peers


@pytest.fixture(scope="session")
def java() -> None:
    """The Java peers are built."""
    try:
        peers.build()
    except peers.NotServed as reason:
        pytest.skip(f"the Java peers cannot be built here: {reason}")
