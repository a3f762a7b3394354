"""Telling HTTP/1 from the first bytes of a connection."""

from __future__ import annotations

import pytest

from pymosn.api.protocol import MORE, NO, YES
from pymosn.protocol.http1.spec import Http1Spec, match_any_method, match_registered


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET / HTTP/1.1\r\n", YES),
        (b"OPTIONS *", YES),
        (b"", MORE),
        (b"G", MORE),
        (b"CONNEC", MORE),
        (b"GET", MORE),
        (b"GETX ", NO),
        (b"get / HTTP/1.1", NO),
        (b"PRI * HTTP/2.0", NO),
        (b"\x16\x03\x01", NO),
        (b"\xda\xbb", NO),
        (b"\x01\x01\x00", NO),
    ],
)
def test_match(data: bytes, answer: int) -> None:
    assert Http1Spec().match(data) == answer
    for size in range(len(data)):
        if answer == YES:
            assert Http1Spec().match(data[:size]) in (MORE, YES)


@pytest.mark.parametrize(
    ("data", "registered", "any_method"),
    [
        (b"GET /", YES, YES),
        (b"PROPFIND /", YES, YES),
        (b"PROP", MORE, MORE),
        (b"M-SEARCH *", YES, YES),
        (b"BREW /pot", NO, YES),
        (b"BREW", NO, MORE),
        (b"a" * 32, NO, MORE),
        (b"a" * 33, NO, NO),
        (b"a" * 33 + b" ", NO, NO),
        (b" /", NO, NO),
        (b"SSH-2.0-x\r\n", NO, NO),
        (b"\x16\x03\x01", NO, NO),
        (b"G\x00T /", NO, NO),
    ],
)
def test_methods_that_are_rare(data: bytes, registered: int, any_method: int) -> None:
    assert (match_registered(data), match_any_method(data)) == (registered, any_method)
    for size in range(1, len(data)):
        if any_method == YES:
            assert match_any_method(data[:size]) in (MORE, YES)
