import time
from collections.abc import Iterator

import pytest

#: Seconds; far less than the time for which an exchange may last.
AT_ONCE = 3.0


@pytest.fixture
def at_once() -> Iterator[None]:
    """No mistake is noticed by waiting for it."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < AT_ONCE
