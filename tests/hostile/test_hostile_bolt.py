"""The hostile table of Bolt at the codec, whole, cut, and byte by byte."""

from __future__ import annotations

import pytest
from tests.hostile.bolt_table import TABLE, BoltCase

from pymosn.api.protocol import LARGE_REQUEST, LARGE_RESPONSE, NEED_MORE, ProtocolError
from pymosn.api.rpc import MAX_FRAME
from pymosn.core.failure import FRAME_TOO_LARGE
from pymosn.protocol.bolt.codec import BoltDecoder


def outcome(feeds: list[bytes]) -> tuple[int, str]:
    """How many frames were read, and the word of the refusal: of the connection, or of a frame that is skipped."""
    decoder = BoltDecoder(MAX_FRAME)
    count = 0
    try:
        for data in feeds:
            decoder.feed(data)
            while (kind := decoder.decode()) != NEED_MORE:
                if kind in (LARGE_REQUEST, LARGE_RESPONSE):
                    return count, FRAME_TOO_LARGE.reason
                count += 1
    except ProtocolError as error:
        return count, error.failure.reason
    return count, ""


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_case(case: BoltCase) -> None:
    data = case.data
    ways = [[data], [data[: len(data) // 2], data[len(data) // 2 :]]]
    if len(data) < 3000:
        ways.append([data[at : at + 1] for at in range(len(data))])
    for feeds in ways:
        assert outcome(feeds) == (case.frames, case.reason)
