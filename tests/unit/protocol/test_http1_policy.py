"""What a listener may choose: slashes, underscores, trust, the compatible profile. More of it is in the hostile tables."""

from __future__ import annotations

import pytest
from tests.kit.options import http1_policy
from tests.unit.protocol.decoding import Outcome, forwarded, requests

from pymosn.core.uri import DECODE_SLASHES, REFUSE_SLASHES, normalize_path
from pymosn.protocol.http.policy import DROP_UNDERSCORES, REFUSE_UNDERSCORES, STRICT, HttpPolicy

COMPATIBLE = http1_policy(is_strict=False)
UNMERGED = http1_policy(merges_slashes=False)
DECODING = http1_policy(slashes=DECODE_SLASHES)
REFUSING = http1_policy(slashes=REFUSE_SLASHES)


@pytest.mark.parametrize(
    ("path", "policy", "normal"),
    [
        (b"//a//b//", UNMERGED, b"//a//b//"),
        (b"//", UNMERGED, b"//"),
        (b"/a//../b", UNMERGED, b"/a/b"),
        (b"/a//./b", UNMERGED, b"/a//b"),
        (b"/a//..", UNMERGED, b"/a/"),
        (b"/a/..//", UNMERGED, b"//"),
        (b"/a%2fb", DECODING, b"/a/b"),
        (b"/a%2F..%2fb", DECODING, b"/b"),
        (b"/%2f%2fa", DECODING, b"/a"),
        (b"/%2f..", DECODING, None),
        (b"/a%5cb", DECODING, b"/a/b"),
        (b"/a%252fb", DECODING, b"/a%252fb"),
        (b"/a%2fb", REFUSING, None),
        (b"/a%5Cb", REFUSING, None),
        (b"/a%20b", REFUSING, b"/a%20b"),
        (b"/../a", COMPATIBLE, b"/a"),
        (b"/a/../..", COMPATIBLE, b"/"),
        (b"/%", COMPATIBLE, b"/%25"),
        (b"/%%41", COMPATIBLE, b"/%25A"),
        (b"/%4", COMPATIBLE, b"/%254"),
        (b"/%00", COMPATIBLE, None),
    ],
)
def test_paths(path: bytes, policy: HttpPolicy, normal: bytes | None) -> None:
    assert normalize_path(path, policy) == normal
    if normal is not None:
        assert normalize_path(normal, policy) == normal, "the normal form has a normal form of its own"


def head(fields: bytes, policy: HttpPolicy) -> Outcome:
    return requests([b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"], policy=policy)


def test_underscores() -> None:
    fields = b"X_Mine: 1\r\nX_Forwarded_For: 2\r\nX-Other: 3\r\n"
    assert [name for name, _ in head(fields, STRICT).messages[0].fields] == [b"host", b"x_mine", b"x-other"]
    assert [name for name, _ in head(fields, http1_policy(underscores=DROP_UNDERSCORES)).messages[0].fields] == [
        b"host",
        b"x-other",
    ]
    assert head(fields, http1_policy(underscores=REFUSE_UNDERSCORES)).reason == "bad_request"
    assert head(b"X-Other: 3\r\n", http1_policy(underscores=REFUSE_UNDERSCORES)).failure is None


def test_a_trusted_peer_cannot_send_look_alikes_either() -> None:
    fields = b"X-Real-IP: 1\r\nX_Real_IP: 2\r\nForwarded: 3\r\nx-envoy-a: 4\r\n"
    found = head(fields, http1_policy(trusts_peer=True)).messages[0].fields
    assert found == [(b"host", b"a"), (b"x-real-ip", b"1"), (b"forwarded", b"3"), (b"x-envoy-a", b"4")]
    assert head(fields, STRICT).messages[0].fields == [(b"host", b"a")]


def test_a_line_feed_is_passed_on_as_a_line_end() -> None:
    wire = b"POST / HTTP/1.1\nHost: a\nX: 1\r\nKeep-Alive: 2\nY: 3\nContent-Length: 2\n\nok"
    assert requests([wire]).reason == "bad_request"
    message = requests([wire], policy=COMPATIBLE).messages[0]
    assert forwarded(message) == b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 3\r\ncontent-length: 2\r\n\r\nok"
