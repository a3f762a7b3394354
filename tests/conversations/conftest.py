"""Every conversation is held twice: with whole segments, and one byte at a time; some once more over TLS.

Those that speak of requests and responses rather than of bytes are also held with HTTP/2 on one side or on both (`also_h2`).
"""

from collections.abc import Iterator

import pytest
from tests.kit import Start

#: The protocol of the clients and of the upstreams.
OVER = {"h2-h1": ("Http2", "Http1"), "h1-h2": ("Http1", "Http2"), "h2-h2": ("Http2", "Http2")}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "whole_only: the outcome depends on how the input is cut")
    config.addinivalue_line("markers", "also_tls: held over TLS as well, on the compiled build")
    config.addinivalue_line("markers", "plain_only: what differs over TLS")
    config.addinivalue_line("markers", "also_h2: held over HTTP/2 as well")
    config.addinivalue_line("markers", "http1_only(why, ways): what differs over HTTP/2; in some of the ways, or in all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker
    is_whole = marker("whole_only") is not None
    ways = [pytest.param(False, False, None, id="whole")]
    if not is_whole:
        ways.append(pytest.param(True, False, None, id="bytes"))
    if marker("also_tls") and not marker("plain_only"):
        ways.append(pytest.param(False, True, None, id="tls", marks=pytest.mark.once))
        if not is_whole:
            ways.append(pytest.param(True, True, None, id="tls bytes", marks=pytest.mark.once))
    if marker("also_h2"):
        left_out = {way for mark in metafunc.definition.iter_markers("http1_only") for way in mark.args[1:] or OVER}
        for name in [way for way in OVER if way not in left_out]:
            marks = () if name == "h2-h2" else pytest.mark.once
            ways.append(pytest.param(False, False, OVER[name], id=name, marks=marks))
    metafunc.parametrize(("one_byte", "is_secure", "over"), ways)


@pytest.fixture
def start(one_byte: bool, is_secure: bool, over: tuple[str, str] | None) -> Iterator[Start]:
    """Begins talks; after the test all peers leave, and nothing may have leaked."""
    start = Start(one_byte, is_secure, over)
    yield start
    start.end()
