"""Java peers communicate through a relay: they work, and the recorded frames are still what they send.

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
    # Ids and the order of maps and stack traces differ between runs; everything else has the same length.
    for name in frames:
        if not name.startswith(("fail", "generic")):
            assert size(frames[name]) == size(known[name]), name


def size(frame: bytes) -> int:
    """Size of a frame without SOFA's trace ids, which end with the id of the Java process."""
    return len(re.sub(rb"[0-9a-f]{24,}", b"", frame))
