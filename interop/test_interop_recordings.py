"""Java peers communicate through a relay: they work, and the recorded frames are still what they send, byte by byte.

PYMOSN_RECORD=1 rewrites tests/fixtures.
"""

from __future__ import annotations

import os
import re

import pytest

from interop.recording import RECORDINGS, keep, kept

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(180)]


@pytest.mark.parametrize("folder", RECORDINGS)
def test_the_recordings_are_what_the_peers_say(folder: str) -> None:
    frames = RECORDINGS[folder]()
    if os.environ.get("PYMOSN_RECORD"):
        keep(folder, frames)
    known = kept(folder)
    assert set(frames) == set(known)
    for name in frames:
        assert lasting(folder, name, frames[name]) == lasting(folder, name, known[name]), name


def lasting(folder: str, name: str, frame: bytes) -> list[bytes]:
    """What is the same in each run: everything but ids. Stack traces depend on the JDK, so only the exception counts."""
    if folder.startswith("dubbo"):
        frame = frame[:4] + frame[12:]  # Dubbo 3 begins with a random id
    else:
        # Heartbeats take ids between those of calls; the checksum covers them.
        at = 5 if frame[0] == 1 else 6
        end = -4 if folder == "bolt-v2.2" and frame[11] & 1 else len(frame)
        frame = frame[:at] + bytes(4) + frame[at + 4 : end]
    if name == "fail.reply":
        return [frame[:3], *re.findall(rb"interop\.EchoException|[A-Za-z.:\[\] ]*as asked", frame)]
    if folder == "sofarpc" and name.endswith(".request"):
        # The lengths, and the trace ids with theirs: they end with the id of the Java process.
        return re.split(rb"(?s)(?:\0\0\0.|.)[0-9a-f]{24,}", frame[:14] + frame[22:])
    return [frame]
