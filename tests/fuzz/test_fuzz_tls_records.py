"""Fuzzing of an open TLS connection: whatever records come, it goes on or closes; nothing is raised, and little is kept.

Records are made with the keys of the connection, so that what is odd in them gets past the decryption, and then changed,
cut and put in another order on the way.
"""

from __future__ import annotations

import functools
import ssl
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz
from tests.kit import certificates
from tests.kit.tls import TlsBench, secured
from tests.kit.tls_records import ALERT, DATA, HANDSHAKE, Sealer

from pymosn.network.tls import transport as module

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

#: What a connection may keep of a record's beginning, in bytes.
KEPT = 4

CONTENTS = st.binary(max_size=40) | st.integers(0, 1 << 14).map(bytes)
KINDS = st.sampled_from([DATA] * 6 + [HANDSHAKE, ALERT, 20, 24, 0, 255])
HEADERS = st.sampled_from([DATA] * 12 + [20, 21, 22, 24, 99])
#: Content, inner type, padding, outer type.
RECORDS = st.tuples(CONTENTS, KINDS, st.sampled_from([0, 0, 0, 1, 300]), HEADERS)
UPDATES = st.sampled_from([0, 1])
STEPS = st.lists(RECORDS | UPDATES, max_size=12)
CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=2)
CUTS = st.sampled_from([0, 0, 1, 3, 5, 6, 100, 1500, 16 * 1024 + 22])


@functools.cache
def contexts(version: ssl.TLSVersion, key_log: Path | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server and of a client."""
    theirs = certificates.client_context()
    theirs.minimum_version = theirs.maximum_version = version
    if key_log is not None:
        theirs.keylog_filename = str(key_log)
    return certificates.server_context(), theirs


@functools.cache
def key_log() -> Path:
    return Path(tempfile.mkdtemp()) / "keys"


def connected(version: ssl.TLSVersion, log: Path | None = None) -> TlsBench:
    return secured(TlsBench(*contexts(version, log)))


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    copy = bytearray(data)
    for at, value in changes:
        if copy:
            copy[at % len(copy)] = value
    return bytes(copy)


def check_rest(bench: TlsBench, received: int) -> None:
    """Whatever has come, the connection is in a state that it may be in, and other connections are not concerned."""
    assert (module._INCOMING.pending, module._OUTGOING.pending) == (0, 0)
    assert len(bench.filter.data) <= received
    bench.connection.write(b"more")
    bench.tls.eof_received()
    if not bench.raw.is_closing():
        assert "eof" in bench.filter.events
        bench.connection.close(module.TLS_BROKEN)
    bench.lose()
    assert bench.filter.events[0] == "open"
    assert bench.filter.events[-1] in ("tls_truncated", "tls_broken")
    assert len(bench.wheel) == 0
    other = connected(ssl.TLSVersion.TLSv1_3)
    other.send(b"unharmed")
    assert other.filter.data == b"unharmed"


def check_records(steps: list[tuple[bytes, int, int, int] | int], changes: list[tuple[int, int]], piece: int) -> None:
    log = key_log()
    log.write_bytes(b"")
    contexts.cache_clear()  # OpenSSL appends to the log where it stopped
    bench = connected(ssl.TLSVersion.TLSv1_3, log)
    sealer = Sealer(log, bench.peer)
    good = 0
    parts = []
    for step in steps:
        if isinstance(step, int):
            parts.append(sealer.key_update(step))
        else:
            content, kind, padding, outer = step
            good += len(content)
            parts.append(sealer.record(content, kind, padding, outer))
    bench.feed(changed(b"".join(parts), changes), piece)
    check_rest(bench, good)


def check_garbage(data: bytes, version: ssl.TLSVersion, piece: int) -> None:
    bench = connected(version)
    bench.feed(data, piece)
    check_rest(bench, 0)


def check_shaking(changes: list[tuple[int, int]], drops: int, version: ssl.TLSVersion, piece: int, is_server: bool) -> None:
    """Handshakes whose messages are changed: there is at most one result, and nothing is delivered before it."""
    server, client = contexts(version, None)
    ours, theirs = (server, client) if is_server else (client, server)
    bench = TlsBench(ours, theirs, is_server=is_server)
    for step in range(4):
        said = bench.next_step()
        bench.feed(changed(said, changes) if step == drops else said, piece)
        assert (module._INCOMING.pending, module._OUTGOING.pending) == (0, 0)
        assert not (bench.outcome.is_secured and bench.outcome.failure)
    assert bench.filter.data == b""
    bench.lose()
    other = connected(ssl.TLSVersion.TLSv1_3)
    other.send(b"unharmed")
    assert other.filter.data == b"unharmed"


VERSIONS = st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
LENGTHS = st.sampled_from([0, 1, 16, 17, 100, 1 << 14, (1 << 14) + 256, 65535])
RAW = st.builds(
    lambda kind, length, body: bytes((kind, 3, 3)) + length.to_bytes(2, "big") + body,
    st.sampled_from([20, 21, 22, 23, 23, 24, 71]),
    LENGTHS,
    st.binary(max_size=60) | LENGTHS.map(bytes),
)


def test_records_with_the_right_keys() -> None:
    fuzz(check_records, 60, STEPS, CHANGES, CUTS)


def test_records_without_keys() -> None:
    fuzz(check_garbage, 80, st.lists(RAW | st.binary(max_size=20), max_size=5).map(b"".join), VERSIONS, CUTS)


def test_changed_handshakes() -> None:
    fuzz(check_shaking, 80, CHANGES, st.integers(0, 3), VERSIONS, CUTS, st.booleans())
