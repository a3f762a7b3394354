"""Every conversation is held twice: with whole segments, and one byte at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig import Talk


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole_only: what happens depends on how the input is cut")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" in metafunc.fixturenames:
        whole_only = metafunc.definition.get_closest_marker("whole_only") is not None
        metafunc.parametrize(
            "one_byte", [False] if whole_only else [False, True], ids=["whole"] if whole_only else ["whole", "bytes"]
        )


@pytest.fixture
def start(one_byte: bool) -> Iterator[Callable[..., Talk]]:
    """Begins a talk; when the test is over, everybody leaves and nothing may have leaked."""
    talks: list[Talk] = []

    def begin(**wishes: Any) -> Talk:
        talks.append(Talk(one_byte, **wishes))
        return talks[-1]

    yield begin
    for talk in talks:
        talk.end()
