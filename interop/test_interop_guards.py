"""Requests that try to pass RBAC, JWT and ext_authz: whatever Envoy denies, pymosn denies, too."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
from tests.system.pymosn_process import eventually

from interop.guards_all import GUARDS, count
from interop.guards_explained import HARMLESS, STRICTER
from interop.guards_kit import MIRROR, Guarded, Try, http1
from interop.h2_client import h2_status
from interop.programs import program
from interop.xds_proxies import Pair, both

pytestmark = pytest.mark.timeout(300)

#: Seconds for the response to a request; some get none.
SILENCE = 3.0

_used: set[str] = set()
_compared: set[str] = set()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    envoy = program("envoy")
    pytest.importorskip("grpc", reason="needs the extra `xds`")
    with both(tmp_path_factory.mktemp("guards"), envoy, [one.group for one in GUARDS]) as running:
        yield running


def attempt(port: int, asked: Try, case: str) -> int:
    """The status of the response to a request; 0 without one."""
    if asked.is_h2:
        return h2_status(port, asked.sent, case, SILENCE)
    try:
        with socket.create_connection(("127.0.0.1", port), SILENCE) as connection:
            response = http.client.HTTPResponse(connection, method=asked.sent.method)
            connection.sendall(http1(asked, case))
            response.begin()
            response.read()
    except (http.client.HTTPException, OSError):
        return 0
    return response.status


class Outcome(NamedTuple):
    """The status of a response, and the hosts that have got the request."""

    status: int
    hosts: tuple[str, ...]


def outcomes(pair: Pair, ports: Mapping[str, int], guarded: Guarded, proxy: str) -> list[Outcome]:
    """What becomes of the requests to a listener."""
    name = guarded.group.name
    cases = [f"{proxy}-{name}-{i}" for i in range(len(guarded.tries))]
    statuses = [attempt(ports[name], asked, case) for asked, case in zip(guarded.tries, cases, strict=True)]
    if name == MIRROR:  # what is mirrored at all has arrived
        assert eventually(lambda: any(len(pair.hosts.seen(case)) > 1 for case in cases))
    seen = [tuple(sorted({one.host for one in pair.hosts.seen(case)})) for case in cases]
    return [Outcome(*pairs) for pairs in zip(statuses, seen, strict=True)]


@pytest.mark.parametrize("guarded", GUARDS, ids=lambda guarded: guarded.group.name)
def test_what_envoy_denies_is_denied(guarded: Guarded, pair: Pair) -> None:
    name = guarded.group.name
    passed, stricter = [], []
    theirs, ours = outcomes(pair, pair.envoy, guarded, "envoy"), outcomes(pair, pair.pymosn, guarded, "pymosn")
    for asked, expected, actual in zip(guarded.tries, theirs, ours, strict=True):
        what = f"{name}: {asked.sent.text}: {expected.status} {expected.hosts} -> {actual.status} {actual.hosts}"
        if expected.hosts == actual.hosts:
            continue
        more = bool(set(actual.hosts) - set(expected.hosts))
        reason = next((pattern for pattern in (HARMLESS if more else STRICTER) if re.match(pattern, what)), None)
        if reason is not None:
            _used.add(reason)
        else:
            (passed if more else stricter).append(what)
    assert not passed, "\n".join(passed)
    assert not stricter, "\n".join(stricter)
    _compared.add(name)


def test_every_explanation_is_needed() -> None:
    if _compared != {one.group.name for one in GUARDS}:
        pytest.skip("not all groups were compared")
    assert count() >= 150
    assert [pattern for pattern in (*STRICTER, *HARMLESS) if pattern not in _used] == []
