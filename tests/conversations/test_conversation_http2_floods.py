"""Floods over HTTP/2: named in the process log, counted, and no harm to other connections."""

from __future__ import annotations

import pytest
from tests.kit import h2_frames as wire
from tests.kit.h2_peers import get, h2_client
from tests.kit.talk import Talk

from pymosn.core.log import WARN
from pymosn.protocol.http2 import frames

REQUEST = wire.literals(get())
RAPID_RESETS = b"".join(wire.headers(number, REQUEST, True) + wire.rst_stream(number) for number in range(1, 1801, 2))


@pytest.mark.parametrize(
    ("flood", "reason"),
    [
        (wire.ping(), "ping_flood"),
        (wire.settings(), "settings_flood"),
        (RAPID_RESETS, "reset_flood"),
    ],
)
def test_a_flood_is_named_and_hurts_no_other(flood: bytes, reason: str) -> None:
    talk = Talk(protocols=["Http2"], upstream_protocol="Http1")
    talk.log.level = WARN
    other, attacker = h2_client(talk), h2_client(talk)
    attacker.sends(flood if flood is RAPID_RESETS else flood * 1000)
    attacker.settle()
    assert attacker.goaway() == frames.ENHANCE_YOUR_CALM
    assert attacker.end.debug == reason.encode()
    assert talk.counters()[f"reason_{reason}"] == 1
    assert [line for line in talk.log.lines if f"{reason} (from 192.0.2.7" in line]
    assert other.is_open()
