"""Fuzzing of the HTTP/1 codec: it never fails but by ProtocolError, never depends on splits, and agrees with its peers.

`make test` runs a bounded number of examples. PYMOSN_FUZZ_SECONDS=600 gives each test that long instead.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.fuzz.checks import COMPATIBLE, SMALL, check_forwarded, check_reply, check_requests, check_splits
from tests.fuzz.grammar import PIPELINE, REPLIES, REPLY, mutated
from tests.kit.options import http_limits
from tests.passes import one_of

from pymosn.protocol.http.policy import STRICT

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SECONDS = float(os.environ.get("PYMOSN_FUZZ_SECONDS", "0"))
SHARE = one_of(3)
REQUESTS = PIPELINE | mutated(PIPELINE)
ANSWERS = REPLY | REPLIES | mutated(REPLIES)
CUTS = st.lists(st.integers(1, 400), max_size=6)
pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)


def fuzz(check: Callable[..., None], examples: int, *inputs: st.SearchStrategy[object]) -> None:
    """Runs `check` on `examples` inputs, or again and again until the time that the environment gives is over."""
    quiet = list(HealthCheck)
    examples = max(10, examples // SHARE)
    run = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet)(given(*inputs)(check))
    if not SECONDS:
        seed(1)(run)()
        return
    end = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < end:
        seed(random.getrandbits(64))(run)()
        rounds += 1
    print(f"{check.__name__}: {rounds} rounds of up to {examples} examples in {SECONDS:.0f} s")


def test_requests_are_what_others_see() -> None:
    fuzz(check_requests, 1200, REQUESTS)


def test_replies_are_what_others_see() -> None:
    fuzz(check_reply, 1000, ANSWERS, st.sampled_from([b"GET", b"GET", b"HEAD"]))


def test_splits_of_anything() -> None:
    fuzz(check_splits, 500, REQUESTS | ANSWERS | st.binary(max_size=200), CUTS, st.sampled_from([http_limits(), SMALL]))


def test_what_is_passed_on_has_one_reading() -> None:
    fuzz(check_forwarded, 1000, REQUESTS, st.sampled_from([STRICT, COMPATIBLE]))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    data = path.read_bytes()
    check_splits(data, [len(data) // 3, len(data) // 2], http_limits())
    check_splits(data, [len(data) // 3], SMALL)
    if data.startswith(b"HTTP/"):
        check_reply(data, b"GET")
        check_reply(data, b"HEAD")
    else:
        check_requests(data)
        check_forwarded(data, STRICT)
        check_forwarded(data, COMPATIBLE)


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 20
