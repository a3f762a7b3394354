"""Every conversation is held twice: with whole segments, and one byte at a time; some once more over TLS."""

from collections.abc import Iterator

import pytest
from tests.kit import Start


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole_only: the outcome depends on how the input is cut")
    config.addinivalue_line("markers", "also_tls: held over TLS as well, on the compiled build")
    config.addinivalue_line("markers", "plain_only: what differs over TLS")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker
    is_whole = marker("whole_only") is not None
    ways = [pytest.param(False, False, id="whole")]
    if not is_whole:
        ways.append(pytest.param(True, False, id="bytes"))
    if marker("also_tls") and not marker("plain_only"):
        ways.append(pytest.param(False, True, id="tls", marks=pytest.mark.once))
        if not is_whole:
            ways.append(pytest.param(True, True, id="tls bytes", marks=pytest.mark.once))
    metafunc.parametrize(("one_byte", "is_secure"), ways)


@pytest.fixture
def start(one_byte: bool, is_secure: bool) -> Iterator[Start]:
    """Begins talks; after the test all peers leave, and nothing may have leaked."""
    start = Start(one_byte, is_secure)
    yield start
    start.end()
