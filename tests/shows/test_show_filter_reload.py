"""Issue 6, shows 3: a hundred edits of a filter's file under load fail no request; each tenth is broken, and refused."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

from process_fixtures import Start
from pymosn_process import PATIENCE, Pymosn, Stopwatch, TwoHops
from showing import run, serving, sized, tell

from load_client import Client, Load, bad, percentile, summary
from show_upstream import ShowUpstream

CLIENTS = 16
#: Seconds within which an edit is in force in all workers, as far as they have a core.
LIMIT = 1.0

FILTER = """
from pymosn.api import Reply, StreamFilter


class Edited(StreamFilter):
    async def start(self):
        self.ready = True{start}

    def on_request(self, exchange):
        if exchange.request.path == "/version":
            return Reply(200, "{version}")

    def on_response(self, exchange):
        exchange.response.headers["x-version"] = "{version}"{end}
"""
#: All texts have the same size, so that an edit in place is one write: nobody can read half of it.
SIZE = 1000
#: What is put into the file, and how the refusal names it: a syntax error, and a start that fails.
BROKEN = (
    ({"end": "\n        if :"}, r"edited\.py:15: invalid syntax"),
    ({"start": '\n        raise OSError("no database")'}, r"edited\.py:8: OSError: no database"),
)


class Edits:
    """Edits the file as editors do, in place and by putting a new one there, and looks at what comes of it."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, path: Path) -> None:
        self._proxy = proxy
        self._hops = hops
        self._path = path
        self._version = "0"
        #: Seconds from each good edit until all workers had it.
        self.times: list[float] = []
        self.refused = 0

    async def turn(self, number: int) -> None:
        """One edit; each tenth is broken."""
        attempt = (await self._last_change())["attempt"]
        watch = Stopwatch([self._proxy.process.pid], self._proxy.worker_pids())
        if number % 10 == 9:
            text, said = BROKEN[number // 10 % 2]
            self._write(number, text)
            outcome = await self._outcome_after(attempt)
            assert not outcome["applied"]
            assert re.search(said, json.dumps(outcome)), outcome
            self.refused += 1
        else:
            self._write(number, {})
            outcome = await self._outcome_after(attempt)
            assert outcome["applied"], outcome
            self._version = str(number)
            self.times.append(watch.seconds())
        # On connections of their own, so that both workers are asked.
        assert {await self._ask() for _ in range(6)} == {self._version}

    def _write(self, number: int, broken: dict[str, str]) -> None:
        text = FILTER.format(**{"start": "", "end": "", "version": number, **broken}).ljust(SIZE, "\n")
        if number % 2:
            with self._path.open("r+b", buffering=0) as file:
                file.write(text.encode())
        else:
            other = self._path.with_suffix(".new")
            other.write_text(text)
            os.replace(other, self._path)

    async def _outcome_after(self, attempt: int) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while (found := await self._last_change())["attempt"] == attempt:
                await asyncio.sleep(0.01)
        return found

    async def _last_change(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self._get(self._hops.admin_port, "/api/v1/last_change"))
        return found

    async def _ask(self) -> str:
        return (await self._get(self._hops.client_port, "/version")).decode()

    async def _get(self, port: int, path: str) -> bytes:
        answer = bytearray()

        async def keep(piece: bytes) -> None:
            answer.extend(piece)

        client = Client(port)
        asked = await client.send(path, [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()], keep)
        await client.close()
        assert asked.status in (200, 400), asked
        return bytes(answer)


@sized("turns", 20, 100)
def test_edits_under_load(start: Start, tmp_path: Path, turns: int) -> None:
    async def scenario() -> None:
        path = tmp_path / "edited.py"
        path.write_text(FILTER.format(version=0, start="", end="").ljust(SIZE, "\n"))
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            entry = {"type": "python", "config": {"path": str(path), "class": "Edited"}}
            hops.server["listeners"][0]["stream_filters"] = [entry]
            proxy = await serving(start, hops, "--workers", "2")
            load = Load(hops.client_port, CLIENTS)
            await load.reaches(200)
            edits = Edits(proxy, hops, path)
            for number in range(1, turns + 1):
                await edits.turn(number)
            await load.reaches(len(load.asked) + 200)
            load.stop()
            asked = await load.done()
            edits.times.sort()
            tell(
                f"{turns} edits of a filter, {edits.refused} of them broken",
                requests=len(asked),
                failed=len(bad(asked)),
                edit_in_force_median=f"{edits.times[len(edits.times) // 2]:.2f} s",
                most=f"{edits.times[-1]:.2f} s",
                p99=f"{percentile(asked, 0.99):.0f} ms",
            )
            assert bad(asked) == [], summary(asked)
            assert edits.refused == turns // 10
            assert edits.times[-1] < LIMIT
            assert len(proxy.worker_pids()) == 2

    run(scenario())
