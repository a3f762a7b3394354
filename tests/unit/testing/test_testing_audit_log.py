"""The recipe `audit_log`: every request is one line, whatever its bytes and whatever the disk does."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit.bare_client import BareClient, head_of

from pymosn.api import UnreadableHeaders
from pymosn.core.failure import UNREADABLE_HEADERS
from pymosn.core.headers import HttpHeaders
from pymosn.filters.loading import load_filter
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.testing import Request, Response, Result, World
from pymosn.testing.fakes import PROTOCOL, TEST_TIMEOUT

RECIPE = Path(__file__).parents[3] / "examples" / "filters" / "recipes" / "audit_log.py"


def audit_log(path: Path | str, **config: Any) -> Any:
    return load_filter(RECIPE, "AuditLog", {"file": str(path), **config})


def talk(audit: Any, requests: list[Request], **options: Any) -> list[Result]:
    async def all_of_them() -> list[Result]:
        world = World(audit, **options)
        await world.start()
        try:
            return [await world.send(request) for request in requests]
        finally:
            await world.stop()

    return asyncio.run(all_of_them())


def lines(path: Path) -> list[dict[str, Any]]:
    """All lines, each of which must be JSON."""
    text = path.read_bytes()
    assert text.isascii()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TEST_TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    talk(
        audit_log(path, headers=["x-user"]),
        [Request("POST", "/a?secret=1", {"x-user": "eve"}, "hello"), Request("GET", "/b")],
    )
    first, second = lines(path)
    assert (first["method"], first["path"], first["headers"], first["status"]) == ("POST", "/a", {"x-user": ["eve"]}, 200)
    assert (first["client"], first["cluster"], first["reason"]) == ("192.0.2.1", "service", "ok")
    assert (first["bytes_in"], first["bytes_out"], second["headers"]) == (5, 2, {"x-user": []})
    assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        "\udcff\udcfe",
        "\udcc3(",
        "\udced\udca0\udc80",
        "ключ 四 \U0001f600",
        '"}\\',
        "\u2028\u2029\x85",
        "a\tb",
        "x" * 6_000,
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_any_bytes_of_a_header(tmp_path: Path, value: str) -> None:
    path = tmp_path / "audit.json"
    (result,) = talk(audit_log(path, headers=["x-a"]), [Request("GET", "/", [("x-a", value), ("X-A", "2")])])
    assert result.status == 200
    (line,) = lines(path)
    assert line["headers"] == {"x-a": [value, "2"]}


@pytest.mark.parametrize(
    ("what", "raw"),
    [
        ("method", b"X\xff\xfe"),
        ("method", b"A\r\nB"),
        ("path", b"/\x00\r\n/x"),
        ("host", b"a\xff\n\x1b[31m"),
    ],
)
def test_any_bytes_of_the_rest(tmp_path: Path, what: str, raw: bytes) -> None:
    """More than the codecs let through."""
    path = tmp_path / "audit.json"

    async def scenario() -> None:
        world = World(audit_log(path))
        await world.start()
        client = BareClient()
        driver = ExchangeDriver(world._runtime, world._options, client, PROTOCOL)
        head = head_of(Request())
        setattr(head, f"raw_{what}", raw)
        driver.on_request(head, b"", True)
        await client.is_over.wait()
        await world.stop()

    asyncio.run(scenario())
    (line,) = lines(path)
    assert line[what].encode("utf-8", "surrogateescape") == raw


class Unreadable(HttpHeaders):
    """As those of an RPC request can be."""

    def get_all(self, name: str) -> list[str]:
        raise UnreadableHeaders(UNREADABLE_HEADERS, "broken")

    def copy(self) -> "Unreadable":
        return self


def test_unreadable_headers(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"

    async def scenario() -> None:
        world = World(audit_log(path, headers=["x-a"]))
        await world.start()
        client = BareClient()
        head = head_of(Request("GET", "/seen"))
        head.headers = Unreadable()
        ExchangeDriver(world._runtime, world._options, client, PROTOCOL).on_request(head, b"", True)
        await client.is_over.wait()
        await world.stop()

    asyncio.run(scenario())
    (line,) = lines(path)
    assert (line["path"], line["headers"]) == ("/seen", {"x-a": ["[unreadable]"]})


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Cookie", "X-Api-Key", "x-auth-token", "X-Session-Id", "my-client-secret"],
)
def test_credentials_are_not_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "audit.json"
    talk(audit_log(path, headers=[name]), [Request("GET", "/", [(name, "hunter2"), (name, "hunter3")])])
    (line,) = lines(path)
    assert line["headers"] == {name: ["[redacted]", "[redacted]"]}


def test_what_earlier_phases_reject_is_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    talk(audit_log(path), [Request()], upstream=Response(503, "no"))
    assert [line["status"] for line in lines(path)] == [503]


# ---- the file


def test_a_renamed_file(tmp_path: Path) -> None:
    """Everything before the signal is in the old file, everything after it in the new one."""
    path, old = tmp_path / "audit.json", tmp_path / "audit.json.1"

    async def scenario() -> None:
        world = World(audit_log(path))
        await world.start()
        for number in range(50):
            await world.send(Request("GET", f"/{number}"))
        path.rename(old)
        world.reopen()
        for number in range(50, 100):
            await world.send(Request("GET", f"/{number}"))
        await world.stop()

    asyncio.run(scenario())
    assert [line["path"] for line in lines(old) + lines(path)] == [f"/{number}" for number in range(100)]


def test_a_file_that_cannot_be_reopened(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()

    async def scenario() -> list[str]:
        world = World(audit_log(folder / "audit.json"))
        await world.start()
        folder.rename(tmp_path / "old")
        world.reopen()
        await world.send(Request("GET", "/late"))
        await world.stop()
        return world.log

    log = asyncio.run(scenario())
    assert [line["path"] for line in lines(tmp_path / "old" / "audit.json")] == ["/late"]
    assert any("cannot be reopened" in line for line in log)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    audit = audit_log(tmp_path / "absent" / "audit.json")
    with pytest.raises(FileNotFoundError):
        asyncio.run(audit.start())
    asyncio.run(audit.stop())


@pytest.mark.parametrize(("required", "statuses"), [(False, {200}), (True, {503})])
def test_a_full_disk(required: bool, statuses: set[int]) -> None:
    async def scenario() -> tuple[set[int], int, list[str]]:
        world = World(audit_log("/dev/full", required=required, waiting=5))
        await world.start()
        await world.send(Request())
        await until(lambda: any("cannot be written" in line for line in world.log))
        later = {(await world.send(Request())).status for _ in range(20)}
        await world.stop()
        return later, world.counter("AuditLog", "lost"), world.log

    later, lost, log = asyncio.run(scenario())
    assert later == statuses
    assert lost == (21 if not required else 1 + 20), "the lines of rejected requests are lost too, which is counted"
    assert sum("No space left" in line for line in log) == 1


def test_a_disk_that_recovers(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.symlink_to("/dev/full")

    async def scenario() -> tuple[int, int]:
        world = World(audit_log(path, required=True))
        await world.start()
        await world.send(Request("GET", "/early"))
        await until(lambda: world.filters[0].writer.is_failing)  # type: ignore[attr-defined]
        rejected = (await world.send(Request("GET", "/rejected"))).status
        path.unlink()
        await until(lambda: not world.filters[0].writer.is_failing)  # type: ignore[attr-defined]
        passed = (await world.send(Request("GET", "/late"))).status
        await world.stop()
        assert any("is written again" in line for line in world.log)
        return rejected, passed

    assert asyncio.run(scenario()) == (503, 200)
    assert [line["path"] for line in lines(path)] == ["/early", "/rejected", "/late"]


SHORT_WRITES = """
import asyncio, resource, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from pymosn.filters.loading import load_filter
from pymosn.testing import Request, World

async def scenario():
    world = World(load_filter(Path(sys.argv[1]), "AuditLog", {"file": sys.argv[2]}))
    await world.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for number in range(20):
        await world.send(Request("GET", f"/{number}"))
    while not any("cannot be written" in line for line in world.log):
        await asyncio.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while not any("is written again" in line for line in world.log):
        await asyncio.sleep(0.01)
    await world.stop()

asyncio.run(asyncio.wait_for(scenario(), 30))
"""


def test_a_line_of_which_only_a_part_was_written(tmp_path: Path) -> None:
    """It is written again as a whole, on a line of its own; the lines before it are not repeated."""
    path = tmp_path / "audit.json"
    command = [sys.executable, "-c", SHORT_WRITES, str(RECIPE), str(path), str(RECIPE.parents[3])]
    subprocess.run(command, check=True, timeout=60, env=os.environ)
    found, torn = [], 0
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line)["path"])
        except ValueError:
            torn += 1
    assert found == [f"/{number}" for number in range(20)]
    assert torn == 1


def test_lines_for_which_there_is_no_room(tmp_path: Path) -> None:
    async def scenario(required: bool) -> tuple[list[int], int]:
        audit = audit_log(tmp_path / "audit.json", waiting=2, required=required)
        world = World(audit)
        await world.start()
        await asyncio.to_thread(audit.writer.close)  # now nothing takes the lines
        audit.writer.lines.get_nowait() if not audit.writer.lines.empty() else None
        found = [(await world.send(Request())).status for _ in range(5)]
        return found, world.counter("AuditLog", "lost")

    assert asyncio.run(scenario(False)) == ([200] * 5, 3)
    statuses, _ = asyncio.run(scenario(True))
    assert statuses == [200, 200, 503, 503, 503]


def test_a_part_of_a_line_that_another_worker_left(tmp_path: Path) -> None:
    """One that was killed, or whose disk was full: the next line is not appended to it."""
    path = tmp_path / "audit.json"
    path.write_text('{"time": 1')
    talk(audit_log(path), [Request("GET", "/a"), Request("GET", "/b")])
    part, *whole = path.read_text().splitlines()
    assert (part, [json.loads(line)["path"] for line in whole]) == ('{"time": 1', ["/a", "/b"])
