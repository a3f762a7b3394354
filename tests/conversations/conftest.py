"""Every conversation is held twice: with whole segments, and one byte at a time."""

from collections.abc import Iterator

import pytest
from tests.kit import Start


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole_only: the outcome depends on how the input is cut")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" in metafunc.fixturenames:
        whole_only = metafunc.definition.get_closest_marker("whole_only") is not None
        metafunc.parametrize(
            "one_byte", [False] if whole_only else [False, True], ids=["whole"] if whole_only else ["whole", "bytes"]
        )


@pytest.fixture
def start(one_byte: bool) -> Iterator[Start]:
    """Begins talks; after the test all peers leave, and nothing may have leaked."""
    start = Start(one_byte)
    yield start
    start.end()
