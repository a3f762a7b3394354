import time
from collections.abc import Iterator

import pytest

from pymosn.testing import connections, fakes

#: Seconds for which an exchange may last in these tests, and far less than that, but enough on a busy machine.
LONG, AT_ONCE = 600.0, 60.0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No mistake is noticed by waiting for it."""
    for module in (fakes, connections):
        monkeypatch.setattr(module, "TEST_TIMEOUT", LONG)
    started = time.monotonic()
    yield
    assert time.monotonic() - started < AT_ONCE
