"""Telling HTTP/1 from the first bytes of a connection."""

from __future__ import annotations

import pytest

from pymosn.api.protocol import MORE, NO, YES
from pymosn.protocol.http1.spec import Http1Spec


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
