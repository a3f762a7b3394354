"""The soak of `make soak`, for seconds instead of minutes."""

from pathlib import Path

import pytest
from tests.load.soak import Soak

pytestmark = pytest.mark.once


def test_nothing_is_left_of_mixed_traffic_over_broken_upstreams(tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    soak.run(6.0)
    assert soak.faults == [], soak.figures
