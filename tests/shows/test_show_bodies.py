"""Issue 2, shows 4: large bodies through both hops leave the workers' memory flat."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest
from process_fixtures import Start
from pymosn_process import TwoHops
from showing import mib, resident, run, serving, sized, tell

from load_client import Asked, Client
from show_upstream import BLOCK, ShowUpstream

GROWTH_LIMIT = 20 << 20
MIB = 1 << 20


class Watch:
    """The largest growth of any of the processes while it is open."""

    def __init__(self, pids: list[int]) -> None:
        self.growth = 0
        self._before = {pid: resident(pid) for pid in pids}

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.ensure_future(self._look())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            for pid, before in self._before.items():
                self.growth = max(self.growth, resident(pid) - before)
            await asyncio.sleep(0.02)


def digest_of(size: int) -> str:
    """SHA-256 of what the upstream sends."""
    digest = hashlib.sha256()
    for start in range(0, size, len(BLOCK)):
        digest.update(BLOCK[: size - start])
    return digest.hexdigest()


async def upload(size: int, chunked: bool) -> AsyncIterator[bytes]:
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
    yield f"POST /upload HTTP/1.1\r\nhost: show\r\n{framing}\r\n\r\n".encode()
    for start in range(0, size, len(BLOCK)):
        piece = BLOCK[: size - start]
        yield b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
    if chunked:
        yield b"0\r\n\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@sized("size", 16 * MIB, 1024 * MIB)
def test_large_bodies_arrive_whole_and_leave_memory_flat(start: Start, framing: str, size: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            proxy = await serving(start, hops, "--workers", "2")
            client = Client(hops.client_port, patience=300)
            assert (await client.ask()).is_good
            expected = digest_of(size)
            chunked = framing == "chunked"
            async with Watch(proxy.worker_pids()) as watch:
                seen = hashlib.sha256()

                async def take(piece: bytes) -> None:
                    seen.update(piece)

                path = f"/{'chunks' if chunked else 'bytes'}/{size}"
                began = time.perf_counter()
                down = await client.send(path, [f"GET {path} HTTP/1.1\r\nhost: show\r\n\r\n".encode()], take)
                middle = time.perf_counter()
                answer = bytearray()

                async def keep(piece: bytes) -> None:
                    answer.extend(piece)

                up = await client.send("/upload", upload(size, chunked), keep)
                ended = time.perf_counter()
            tell(
                f"{mib(size)} {framing}",
                down=f"{size / MIB / (middle - began):.0f} MiB/s",
                up=f"{size / MIB / (ended - middle):.0f} MiB/s",
                worker_growth=mib(watch.growth),
            )
            assert (down.is_good, down.size, seen.hexdigest()) == (True, size, expected)
            assert (up.is_good, answer.decode()) == (True, expected)
            assert watch.growth < GROWTH_LIMIT
            await client.close()

    run(scenario())


@sized("seconds", 3, 60)
def test_a_slow_reader_leaves_memory_flat(start: Start, seconds: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            proxy = await serving(start, hops, "--workers", "2")
            assert (await Client(hops.client_port).ask()).is_good
            client = Client(hops.client_port, patience=seconds)
            taken = 0

            async def take(piece: bytes) -> None:
                nonlocal taken
                taken += len(piece)
                # 10 KiB a second.
                await asyncio.sleep(len(piece) / 10240)

            async with Watch(proxy.worker_pids()) as watch:
                path = f"/bytes/{1024 * MIB}"
                asked: Asked = await client.send(path, [f"GET {path} HTTP/1.1\r\nhost: show\r\n\r\n".encode()], take)
            tell(f"10 KiB/s for {seconds} s", taken=mib(taken), worker_growth=mib(watch.growth))
            # It is the client that has had enough, and others are served as ever.
            assert (asked.status, asked.error) == (200, "timeout")
            assert watch.growth < GROWTH_LIMIT
            assert (await Client(hops.client_port).ask()).is_good

    run(scenario())
