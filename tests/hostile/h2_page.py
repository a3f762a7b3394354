"""The part of docs/hostile.md about HTTP/2: what proxies do with the members of the table, between HTTP/2 and HTTP/1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.hostile.h2_cases import OK, H2Case
from tests.hostile.h2_conversing import compared, message_of
from tests.hostile.h2_head_table import TABLE
from tests.hostile.h2_visiting import H2Trial, run_trials, trials_of
from tests.hostile.recorder import Recorder, Request, client_of
from tests.hostile.verdicts import AGREES, ODD, PASSES, PATIENCE, REFUSES, Column, table
from tests.kit.http1_text import Http1Text

ROWS = {
    "F2": "content-length and content, trailers",
    "F3": "fields of a connection, `te`",
    "F4": "bytes that break out of a name, a value or a pseudo-header field",
    "F5": "pseudo-header fields, `host`",
    "F6": "cookie crumbs",
    "F7": "CONNECT and extended CONNECT",
    "F12": "heads that are too large",
}


def verdict(trial: H2Trial, recorder: Recorder) -> str:
    """What a proxy did with a variant, by what the client and the upstream saw. Statuses and codes may differ."""
    case = trial.case
    is_broken = any(client_of(record.tail) == trial.client for record in recorder.records if record.broken)
    refused = trial.status >= 400 or trial.code >= 0 or trial.goaway > 0
    if case.outcome == OK:
        if trial.status == 200 and len(trial.requests) == 1 and not is_broken and is_same(case, trial.requests[0]):
            return AGREES
        if refused and not trial.requests:
            return REFUSES
        return PASSES if trial.requests or is_broken else ODD
    passed = bool(trial.requests) and (not case.in_body or trial.status == 200)
    if passed or is_broken or (trial.has_partial and not case.in_body):
        return PASSES
    return AGREES if refused or not trial.good else ODD


def is_same(case: H2Case, request: Request) -> bool:
    """Whether a request in HTTP/1 says what the member does. Proxies may add fields of their own, and the right length."""
    message = message_of(Http1Text(True).feed(request.raw))
    said, found = Counter(compared(case.message())), Counter(compared(message.fields))
    added = found - said
    length = (b"content-length", b"%d" % len(case.content))
    is_known = all(pair[0].startswith(b"x-") or pair == length for pair in added)
    return message.body == case.content and is_known and not said - found


async def measure(title: str, port: int, recorder: Recorder) -> Column:
    """Runs one variant of each member against the proxy at `port`."""
    trials = trials_of(TABLE, 1)
    await run_trials(trials, {1: port}, recorder, PATIENCE)
    column = Column(title)
    for trial in trials:
        column.verdicts[trial.case.row][verdict(trial, recorder)] += 1
    return column


def render(columns: Iterable[Column]) -> str:
    """The section."""
    return HEAD + table(ROWS, Counter(case.row for case in TABLE), list(columns))


HEAD = """
## HTTP/2

What a request in HTTP/2 must not make of a request in HTTP/1. Each member was sent once, in one of its variants (the
order of fields, Huffman coding, indexing, CONTINUATION, cut into bytes), by HTTP/2 without TLS to a proxy whose
upstream speaks HTTP/1. For an invalid message, a bare number means that the stream was reset, the request answered
with a status from 400 on, or the connection ended, and that none of it reached the upstream; for a valid one, that it
was forwarded with the same meaning. Sizes in F12 are about pymosn's default of 8 KiB for a head; those of other
proxies are larger. `test_hostile_h2_program.py` checks what pymosn guarantees, with one hop and two;
`test_hostile_h2.py` all variants, over 8000; those that pass on to upstreams of HTTP/2 too, and the requests of
HTTP/1 above.

The other rows of HTTP/2 are sequences of frames: floods of resets, CONTINUATION, SETTINGS, PING, PRIORITY,
WINDOW_UPDATE and empty DATA, replies that are not read, and header bombs in `test_stream_http2_abuse.py`,
`test_conversation_h2_attacks.py` and, at full rate, `test_show_h2_floods.py`; limits in `test_http2_limits.py`; hosts
that refuse, reset or go away in `test_conversation_h2_upstream.py`; drains in `test_http2_operations.py`.

"""
