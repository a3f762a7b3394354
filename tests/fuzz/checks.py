"""What must hold for any bytes at all; the fuzzers look for bytes for which it does not."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.comparing import reply_differs, requests_differ, unexplained
from tests.fuzz.second_opinion import h11_reply, h11_requests, llhttp_reply, llhttp_requests
from tests.kit.options import http1_policy, http_limits
from tests.unit.protocol.decoding import Outcome, assert_same, forwarded, one_by_one, pieces, replies, requests

from pymosn.core.uri import DECODE_SLASHES
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import HttpPolicy

SMALL = http_limits(512, 8, 64)
#: Everything forgiven, and the other choices made as well.
COMPATIBLE = http1_policy(is_strict=False, trusts_peer=True, merges_slashes=False, slashes=DECODE_SLASHES)


def lenient_requests(feeds: Iterable[bytes], limits: HttpLimits | None = None) -> Outcome:
    """What a listener that forgives everything makes of `feeds`."""
    return requests(feeds, limits, COMPATIBLE)


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


def check_splits(data: bytes, cuts: list[int], limits: HttpLimits) -> None:
    """Also: nothing but ProtocolError is raised, decoding ends, and little is kept."""
    largest = limits.head + 16 * 1024
    for decode in (requests, replies, lenient_requests):
        whole = decode([data], limits=limits)
        for feed in (pieces(data, cuts), one_by_one(data)):
            outcome = decode(feed, limits=limits)
            assert outcome.largest <= largest
            if whole.failure and not outcome.failure:
                # The fault stands in a line that has not ended, and is found when that does.
                outcome = decode([*feed, b"\n"], limits=limits)
            assert_same(whole, outcome, limits is SMALL)


def check_forwarded(data: bytes, policy: HttpPolicy) -> None:
    """What is passed on is itself good, and means to the next one what it meant to us, whatever was forgiven."""
    for message in requests([data], policy=policy).complete:
        if not message.start[3]:
            continue  # without a host: the proxy adds the upstream's own
        wire = forwarded(message)
        # The next hop is as strict as can be, but for what a path may look like on the way to it.
        again = requests(
            [wire], http_limits(64 * 1024, 200), http1_policy(True, True, False) if policy.is_strict else policy
        )
        assert again.failure is None, (again.detail, wire)
        assert len(again.complete) == 1, wire
        second = again.complete[0]
        # Method, path, query and host; body and trailers.
        assert second.start[:4] == message.start[:4], wire
        assert (second.body, second.trailers) == (message.body, message.trailers), wire
        assert forwarded(second) == wire
