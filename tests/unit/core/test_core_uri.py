"""The normal form of paths and the shape of hosts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.passes import one_of
from tests.unit.protocol.decoding import requests

from pymosn.core.authority import is_host
from pymosn.core.chars import QUERY, TARGET
from pymosn.core.uri import (
    DECODE_SLASHES,
    KEEP_SLASHES,
    REFUSE_SLASHES,
    PathPolicy,
    has_dot_segment,
    is_plain_path,
    normalize_path,
    rewritten_path,
)

SEGMENTS = st.lists(
    st.sampled_from(
        [
            b"",
            b".",
            b"..",
            b"...",
            b"a",
            b"B",
            b".a",
            b"a.",
            b"%41",
            b"%2e",
            b"%2E%2e",
            b"%2f",
            b"%5c",
            b"%7E",
            b";x",
            b"%C0%AF",
        ]
    ),
    max_size=8,
)
PATHS = SEGMENTS.map(lambda segments: b"/" + b"/".join(segments))
UNRESERVED_ESCAPE = re.compile(rb"%(2[de]|3\d|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])", re.IGNORECASE)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"),
        (b"/a/b", b"/a/b"),
        (b"//", b"/"),
        (b"///a//b//", b"/a/b/"),
        (b"/.", b"/"),
        (b"/./", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../", b"/a/"),
        (b"/a//../b", b"/b"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/...", b"/..."),
        (b"/a.", b"/a."),
        (b"/%61%2D%7e", b"/a-~"),
        (b"/%2e%2E/..", None),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/a%2fb..%2f...%5c", b"/a%2Fb..%2F...%5C"),
        (b"/a%2f..%2fb", None),
        (b"/%5c..", None),
        (b"/%2e%2e%2Fa", None),
        (b"/..;a/b", None),
        (b"/a/.;/b", None),
        (b"/%2e%2e;/b", None),
        (b"/a;b=../c", b"/a;b=../c"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
        (b"/%c3%a9", b"/%C3%A9"),
        (b"/%c0%ae/", b"/%C0%AE/"),
        (b"/%00", None),
        (b"/%0d%0a", None),
        (b"/%1F", None),
        (b"/%7f", None),
        (b"/%", None),
        (b"/%4", None),
        (b"/%4g", None),
        (b"/%g4", None),
        (b"/%%41", None),
        (b"/..", None),
        (b"/../a", None),
        (b"/a/../../b", None),
    ],
)
def test_paths(path: bytes, normal: bytes | None) -> None:
    assert normalize_path(path) == normal


@given(st.one_of(PATHS, st.binary(max_size=30).map(lambda rest: b"/" + rest)))
@settings(max_examples=500 // one_of(3), deadline=None)
def test_the_normal_form_is_one(path: bytes) -> None:
    normal = normalize_path(path)
    if normal is None:
        return
    assert normalize_path(normal) == normal
    assert normal.startswith(b"/")
    assert b"//" not in normal
    assert not {b".", b".."} & set(normal.split(b"/"))
    assert not UNRESERVED_ESCAPE.search(normal)


@given(PATHS | st.text("/.%2eEaf;-_~?*", max_size=20).map(lambda rest: b"/" + rest.encode()))
@settings(max_examples=500 // one_of(3), deadline=None)
def test_the_route_and_the_upstream_see_the_normal_form(target: bytes) -> None:
    """The decoder skips normal paths unlooked at; what it skips must be normal already."""
    outcome = requests([b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"])
    path, mark, query = target.partition(b"?")
    normal = normalize_path(path)
    if normal is None:
        assert outcome.reason == "bad_target"
    else:
        assert outcome.messages[0].start[1] == normal
        assert outcome.messages[0].start[2] == (query if mark else None)


POLICIES = st.builds(
    PathPolicy,
    st.booleans(),
    st.booleans(),
    st.sampled_from([int(KEEP_SLASHES), int(DECODE_SLASHES), int(REFUSE_SLASHES)]),
)
#: What is left of a path when its slashes are what a server sees that decodes, and removes path parameters.
READINGS = re.compile(rb"/|%2F|%5C")


@given(PATHS | st.text("/.%2eE5cCfF;ax", max_size=20).map(lambda rest: b"/" + rest.encode()), PATHS, POLICIES)
@settings(max_examples=1000 // one_of(3), deadline=None)
def test_a_rewritten_path_is_normal_and_does_not_climb(path: bytes, received: bytes, policy: PathPolicy) -> None:
    before = normalize_path(received, policy)
    if before is None:
        return
    made = rewritten_path(path, before, policy)
    if made is None:
        return
    assert normalize_path(made, policy) == made, "a fixed point"
    assert rewritten_path(made, before, policy) == made
    segments = made.split(b"/")
    assert b".." not in segments
    assert b"." not in segments
    for segment in set(segments) - set(before.split(b"/")):
        readings = [part.partition(b";")[0] for part in READINGS.split(segment)]
        assert not {b".", b".."} & set(readings), "no dot segment for a server that decodes late"
    if policy.is_strict:
        assert made == normalize_path(path, policy), "it only refuses more"


@given(PATHS | st.binary(max_size=12).map(lambda rest: b"/" + rest), POLICIES)
@settings(max_examples=500 // one_of(3), deadline=None)
def test_what_one_scan_accepts_is_normal(path: bytes, policy: PathPolicy) -> None:
    if is_plain_path(path):
        assert normalize_path(path, policy) == path


@pytest.mark.parametrize("path", [b"", b"a", b"*", b"//", b"/.", b"/a/.b", b"/%41", b"/a?b", b"/a b", b"/a\x00", b"/\xe9"])
def test_what_needs_a_closer_look(path: bytes) -> None:
    assert not is_plain_path(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"/site/", False),
        (b"/a/..", True),
        (b"/./a", True),
        (b"/a/%2e%2E/b", True),
        (b"/a/..;x", True),
        (b"/a/..%2fb", True),
        (b"/$1/../x", True),
        (b"..", False),  # joined to what is before it
        (b"../x", False),
        (b"/...", False),
        (b"/.well-known/", False),
        (b"/%zz/..", True),
        (b"/%${1}", False),
    ],
)
def test_dot_segments_in_configured_text(text: bytes, expected: bool) -> None:
    assert has_dot_segment(text) is expected


def _others(table: bytes) -> list[int]:
    return [byte for byte in range(256) if not table[byte] and byte != 32]


@pytest.mark.parametrize(
    ("byte", "target"),
    [*((byte, b"/a%cb") for byte in _others(TARGET)), *((byte, b"/?a%cb") for byte in _others(QUERY))],
)
def test_no_other_byte_is_part_of_a_target(byte: int, target: bytes) -> None:
    outcome = requests([b"GET " + target % byte + b" HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert outcome.failure
    assert outcome.failure.status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a.example",
        b"A-b_c.example:80",
        b"127.0.0.1",
        b"[::1]",
        b"[::ffff:1.2.3.4]:8080",
        b"a:0",
        b"a:65535",
        b"xn--a.b",
    ],
)
def test_hosts(host: bytes) -> None:
    assert is_host(host)
    message = requests([b"GET / HTTP/1.1\r\nHost:\t" + host + b" \r\n\r\n"]).messages[0]
    assert message.start[3] == host.lower()


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b":",
        b"a::",
        b"a:b",
        b"a:-1",
        b"a:+1",
        b"a:65536",
        b"a:999999",
        b"a:80:80",
        b"a,b",
        b"a b",
        b"u@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"[::1",
        b"::1",
        b"[]",
        b"[:]x",
        b"[::1]a",
        b"[::1]::",
        b"[::1]]",
        b"[1.2.3.4]",
        b"[::g]",
        b"a\x80",
        b"a\xa0",
        b"a" * 262,
    ],
)
def test_no_hosts(host: bytes) -> None:
    assert not is_host(host)
    assert requests([b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"]).reason == "bad_host"
    if b"/" not in host and b"?" not in host:
        assert requests([b"GET http://" + host + b"/ HTTP/1.1\r\nHost: a\r\n\r\n"]).failure


def test_encoded_backslashes_are_decoded_as_slashes() -> None:
    policy = PathPolicy(slashes=DECODE_SLASHES)
    assert normalize_path(b"/deny%5Cx%2fy", policy) == b"/deny/x/y"
    assert normalize_path(b"/one%5c..%5cadmin", policy) == b"/admin"
    assert normalize_path(b"/deny%5cx") == b"/deny%5Cx"
