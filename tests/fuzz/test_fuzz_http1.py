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
from tests.fuzz.comparing import reply_differs, requests_differ, unexplained
from tests.fuzz.grammar import PIPELINE, REPLIES, REPLY, mutated
from tests.fuzz.second_opinion import h11_reply, h11_requests, llhttp_reply, llhttp_requests
from tests.unit.protocol.decoding import assert_same, one_by_one, pieces, replies, requests

from pymosn.protocol.http1.decoder import Http1Limits

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
SECONDS = float(os.environ.get("PYMOSN_FUZZ_SECONDS", "0"))
REQUESTS = PIPELINE | mutated(PIPELINE)
ANSWERS = REPLY | REPLIES | mutated(REPLIES)
CUTS = st.lists(st.integers(1, 400), max_size=6)
SMALL = Http1Limits(512, 8, 64)
pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)


def fuzz(check: Callable[..., None], examples: int, *inputs: st.SearchStrategy[object]) -> None:
    """Runs `check` on `examples` inputs, or again and again until the time that the environment gives is over."""
    quiet = list(HealthCheck)
    run = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet)(given(*inputs)(check))
    if not SECONDS:
        seed(1)(run)()
        return
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        seed(random.getrandbits(64))(run)()


def check_requests(data: bytes) -> None:
    ours = requests([data])
    for peer, see in (("llhttp", llhttp_requests), ("h11", h11_requests)):
        view = see(data)
        assert not unexplained(peer, data, view, requests_differ(ours, view))


def check_reply(data: bytes, method: bytes) -> None:
    ours = replies([data], method, eof=True)
    views = [("h11", h11_reply(data, method, True))]
    if method != b"HEAD" and ours.messages and ours.messages[-1].start[4] != -1:
        views.append(("llhttp", llhttp_reply(data)))  # it cannot be told of HEAD, nor of the end of the connection
    for peer, view in views:
        assert not unexplained(peer, data, view, reply_differs(ours, view))


def check_splits(data: bytes, cuts: list[int], limits: Http1Limits) -> None:
    """Also: nothing but ProtocolError is raised, decoding ends, and little is kept."""
    largest = limits.head + 16 * 1024
    for decode in (requests, replies):
        whole = decode([data], limits=limits)
        for feed in (pieces(data, cuts), one_by_one(data)):
            outcome = decode(feed, limits=limits)
            assert outcome.largest <= largest
            if whole.failure and not outcome.failure:
                # The fault stands in a line that has not ended, and is found when that does.
                outcome = decode([*feed, b"\n"], limits=limits)
            assert_same(whole, outcome, limits is SMALL)


def test_requests_are_what_others_see() -> None:
    fuzz(check_requests, 1200, REQUESTS)


def test_replies_are_what_others_see() -> None:
    fuzz(check_reply, 1000, ANSWERS, st.sampled_from([b"GET", b"GET", b"HEAD"]))


def test_splits_of_anything() -> None:
    fuzz(check_splits, 500, REQUESTS | ANSWERS | st.binary(max_size=200), CUTS, st.sampled_from([Http1Limits(), SMALL]))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    data = path.read_bytes()
    check_splits(data, [len(data) // 3, len(data) // 2], Http1Limits())
    check_splits(data, [len(data) // 3], SMALL)
    if data.startswith(b"HTTP/"):
        check_reply(data, b"GET")
        check_reply(data, b"HEAD")
    else:
        check_requests(data)


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 20
