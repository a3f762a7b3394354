"""The hostile tables over TLS: from clients to the first hop, and from that to the second.

All outcomes are those without TLS. Only the scheme of a good request is `https`, and the end of a client that says no more
is a close_notify. A FIN without it differs, since anybody on the way can send one; `test_a_fin_without_close_notify` says
how.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.hostile.cases import ReplyCase, RequestCase
from tests.hostile.conversing import Findings, converse, converse_through_tunnels
from tests.hostile.edge_table import CUT_OFF
from tests.hostile.program import running
from tests.hostile.recorder import Record, Recorder
from tests.hostile.running import ended, reply_trials, request_trials, thinned
from tests.hostile.tables import REPLIES, REQUESTS
from tests.hostile.tunnel_table import TABLE, TunnelCase
from tests.hostile.visitor import PATIENCE, Visit, address
from tests.kit.tls_streams import Truncated

pytestmark = pytest.mark.once


#: Schemes in targets, and what the proxy says about the client's: of a connection with TLS the good one is `https`.
SCHEME = re.compile(rb"(?i)(http)(s?)(://)|(?<=-proto: )(http)(s?)")


def over_tls(text: bytes) -> bytes:
    """A text of the tables, with http and https changed for each other."""
    return SCHEME.sub(_other, text)


def _other(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return found[1] + (b"" if found[2] else b"s") + found[3]
    return found[4] + (b"" if found[5] else b"s")


def secured(case: RequestCase) -> RequestCase:
    """The same member over TLS, whose outcome is that of the plain one."""
    return replace(
        case,
        line=over_tls(case.line),
        fields=tuple(map(over_tls, case.fields)),
        raw=None if case.raw is None else over_tls(case.raw),
        sees=tuple(map(over_tls, case.sees)),
        lacks=tuple(map(over_tls, case.lacks)),
    )


SECURED = [secured(case) for case in REQUESTS]

#: A handshake for each takes time: one of so many variants of every member is run, and the first one always.
SHARE = 20


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    trials = thinned(request_trials(SECURED, (1, 2)), SHARE)
    replies = reply_trials(REPLIES, (1, 2), trials[-1].number + 1)
    return asyncio.run(converse(tmp_path_factory.mktemp("hostile"), trials, replies, tls=True))


@pytest.fixture(scope="module")
def tunnel_findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return asyncio.run(converse_through_tunnels(tmp_path_factory.mktemp("tunnels"), tls=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [*SECURED, *REPLIES], ids=str)
def test_member(findings: Findings, case: RequestCase | ReplyCase) -> None:
    assert not findings.by_case[str(case)]


def test_nothing_else_went_wrong(findings: Findings) -> None:
    assert not findings.common
    assert findings.trials > 2000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_tunnel(tunnel_findings: dict[str, list[str]], case: TunnelCase) -> None:
    assert not tunnel_findings[str(case)]


def test_nothing_else_reached_the_upstream(tunnel_findings: dict[str, list[str]]) -> None:
    assert not tunnel_findings["all"]


@pytest.mark.parametrize("case", CUT_OFF, ids=str)
def test_a_fin_without_close_notify(truncated: dict[str, tuple[Visit, list[Record]]], case: RequestCase) -> None:
    """Without TLS, and with close_notify, the client is told what is wrong with half a request (400); here it is not."""
    made, partial = truncated[str(case)]
    assert (made.answers, made.left) == ([], b"")
    assert made.end == "reset"
    assert all(record.ended.is_set() for record in partial), "the upstream keeps half a request"


@pytest.fixture(scope="module")
def truncated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Visit, list[Record]]]:
    return asyncio.run(_truncate(tmp_path_factory.mktemp("truncated")))


async def _truncate(directory: Path) -> dict[str, tuple[Visit, list[Record]]]:
    """Sends each beginning of a request, and a FIN without close_notify: what the client saw, and the upstream."""
    found: dict[str, tuple[Visit, list[Record]]] = {}
    recorder = Recorder([])
    await recorder.start()
    with running(directory, recorder.port, tls=True) as program:
        for number, case in enumerate(CUT_OFF, 1):
            _, data, _ = next(case.wires())
            made = Visit(address(number).encode())
            reader, writer = await program.connect(program.port(1 + number % 2), address(number))
            writer.write(data)
            writer.cut()
            try:
                async with asyncio.timeout(PATIENCE):
                    made.left = await reader.read(1 << 16)
                made.end = "eof"
            except ConnectionError as error:
                made.end = "truncated" if isinstance(error, Truncated) else "reset"
            writer.close()
            partial = recorder.partial(made.client)
            await ended(partial, PATIENCE)
            found[str(case)] = made, partial
            assert not recorder.by_client.get(made.client), "a truncated request has reached the upstream as a whole one"
    await recorder.stop()
    return found
