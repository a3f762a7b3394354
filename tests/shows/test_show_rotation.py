"""Issue 14, show 3: certificates rotated under load: no request fails; a wrong one is refused, and the old one stays."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from process_fixtures import Start
from pymosn_process import PATIENCE, TwoHops
from showing import run, serving, sized, tell
from tests.kit import certificates as made

from load_client import Load, bad, percentile, summary
from show_upstream import ShowUpstream

FULL = 50
CLIENTS = 4
#: Requests of a client on one connection: handshakes go on all the time.
PER_CONNECTION = 20
#: Seconds in which new handshakes get the new certificate.
LIMIT = 1.0


def in_place(folder: Path, issued: made.Issued) -> None:
    (folder / "c.pem").write_bytes(issued.certificate)
    (folder / "c.key").write_bytes(issued.key)


def rename(folder: Path, issued: made.Issued) -> None:
    new = folder / "new"
    new.mkdir(exist_ok=True)
    in_place(new, issued)
    for name in ("c.key", "c.pem"):
        (new / name).chmod(0o600)
        os.replace(new / name, folder / name)


WAYS: tuple[Callable[[Path, made.Issued], None], ...] = (rename, in_place)


async def presented(port: int, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def seconds_until(port: int, context: ssl.SSLContext, wanted: made.Issued) -> float:
    """Seconds until ten new connections in a row, to two workers at random, get a certificate."""
    der = ssl.PEM_cert_to_DER_cert(wanted.certificate.decode())
    began = last = time.monotonic()
    row = 0
    async with asyncio.timeout(PATIENCE):
        while row < 10:
            is_new = await presented(port, context) == der
            row = row + 1 if is_new else 0
            if not is_new:
                last = time.monotonic()
    return last - began


@sized("rotations", 4, FULL)
def test_rotation_under_load(start: Start, tmp_path: Path, rotations: int) -> None:
    async def scenario() -> None:
        folder = tmp_path / "tls"
        folder.mkdir()
        rename(folder, made.server())
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            tls = {"status": True, "cert_chain": f"{folder}/c.pem", "private_key": f"{folder}/c.key"}
            hops.server["listeners"][0]["filter_chains"][0]["tls_context"] = tls
            proxy = await serving(start, hops)
            context = made.client_context()
            load = Load(hops.client_port, CLIENTS, context=context, per_connection=PER_CONNECTION)
            await load.reaches(100)
            times = []
            issued = made.server()
            for number in range(rotations):
                issued = made.issue("server.test", made.ca(), names=("localhost", "127.0.0.1"))
                WAYS[number % len(WAYS)](folder, issued)
                times.append(await seconds_until(hops.client_port, context, issued))
                await load.reaches(len(load.asked) + 50)
            # A certificate whose key is another one's.
            wrong = made.issue("server.test", made.ca(), names=("localhost", "127.0.0.1"))
            (folder / "c.pem").write_bytes(wrong.certificate)
            refused = await asyncio.to_thread(proxy.wait_for, r"what was active before stays, because .*does not.*")
            await load.reaches(len(load.asked) + 100)
            assert await presented(hops.client_port, context) == ssl.PEM_cert_to_DER_cert(issued.certificate.decode())
            load.stop()
            asked = await load.done()
            times.sort()
            tell(
                f"{rotations} rotations under load",
                requests=len(asked),
                connections=len({one.port for one in asked if one.is_first}),
                failed=len(bad(asked)),
                active_median=f"{times[len(times) // 2]:.2f} s",
                most=f"{times[-1]:.2f} s",
                p99=f"{percentile(asked, 0.99):.0f} ms",
                refused=refused[0],
            )
            assert bad(asked) == [], summary(asked)
            # Beside other tests, most of the time is that of their load.
            if rotations == FULL:
                assert times[-1] < LIMIT

    run(scenario())
