"""The fixtures of the shows."""

from pathlib import Path

import pytest
from process_fixtures import start

__all__ = ["start"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Their figures are those of the compiled build."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.once)
