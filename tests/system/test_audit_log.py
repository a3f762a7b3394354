"""The recipe `audit_log` in the real program: two workers, one file, which is renamed while they write to it."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

from plain_sockets import connect, read_all
from process_fixtures import Start
from pymosn_process import READY, TwoHops, eventually, has_open

RECIPE = Path(__file__).parents[2] / "examples" / "filters" / "recipes" / "audit_log.py"
RAISES = """
import sys
from pymosn.api import StreamFilter

class Exits(StreamFilter):
    def on_reopen(self):
        sys.exit(3)

class Raises(StreamFilter):
    def on_reopen(self):
        raise ValueError("no disk")
"""


def configure(hops: TwoHops, folder: Path, **config: Any) -> dict[str, Any]:
    """The client's listener with the recipe, between filters that fail when they reopen."""
    (folder / "conf").mkdir()
    (folder / "conf" / "raises.py").write_text(RAISES)
    shutil.copy(RECIPE, folder / "conf")
    chain = [("raises.py", "Exits", {}), ("audit_log.py", "AuditLog", config), ("raises.py", "Raises", {})]
    hops.server["listeners"][0]["stream_filters"] = [
        {"type": "python", "config": {"path": path, "class": kind, **more}} for path, kind, more in chain
    ]
    return hops.config


def ask(port: int, target: str, *lines: bytes) -> bytes:
    """A request on a connection of its own, which either worker may get: its response."""
    with connect(port) as sock:
        sock.sendall(b"\r\n".join([f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close".encode(), *lines, b"", b""]))
        return read_all(sock)


def paths_in(*files: Path) -> list[str]:
    """The paths in the lines of files, each of which must be whole."""
    return [json.loads(line)["path"] for file in files for line in file.read_bytes().splitlines()]


def test_a_renamed_file_loses_no_line(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    log = tmp_path / "audit.json"
    proxy = start(configure(two_hops, tmp_path, file=str(log)))
    proxy.wait_for(READY)
    old = [tmp_path / f"audit.json.{number}" for number in range(3)]
    counts = [0, 0]
    is_over = threading.Event()

    def load(number: int) -> None:
        while not is_over.is_set():
            assert ask(two_hops.client_port, f"/{number}-{counts[number]}").startswith(b"HTTP/1.1 200")
            counts[number] += 1

    clients = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for client in clients:
        client.start()
    try:
        for file in old:
            before = sum(counts)
            assert eventually(lambda before=before: sum(counts) >= before + 40)  # type: ignore[misc]
            log.rename(file)
            proxy.send(signal.SIGUSR1)
            assert eventually(log.exists)
            assert eventually(lambda: not any(has_open(pid, path) for pid in proxy.worker_pids() for path in old))
    finally:
        is_over.set()
        for client in clients:
            client.join()
    workers = proxy.worker_pids()
    assert len(workers) == 2
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    expected = [f"/{number}-{at}" for number in range(2) for at in range(counts[number])]
    assert sorted(paths_in(log, *old)) == sorted(expected), "each once, in one of the files"
    assert all(paths_in(file) for file in old)
    for name in ("Exits", "Raises"):
        assert proxy.output.count(f"filter '{name}': `on_reopen` failed") == len(old) * len(workers)


def test_no_bytes_evade_it(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    log = tmp_path / "audit.json"
    proxy = start(configure(two_hops, tmp_path, file=str(log), headers=["x-user", "cookie"], required=True))
    proxy.wait_for(READY)
    values = [b"\xff\xfe", b"\xed\xa0\x80", b'"}\\', "ключ".encode(), b"\xe2\x80\xa8", b"a\tb", b"k" * 5000]
    for number, value in enumerate(values):
        got = ask(two_hops.client_port, f"/%ff{number}", b"X-User: " + value, b"x-user: b", b"Cookie: sid=hunter2")
        assert got.startswith(b"HTTP/1.1 200"), got
    assert eventually(lambda: log.read_bytes().count(b"\n") == len(values))
    lines = sorted((json.loads(line) for line in log.read_bytes().splitlines()), key=lambda line: str(line["path"]))
    assert [line["headers"]["x-user"][0].encode("utf-8", "surrogateescape") for line in lines] == values
    assert all(line["headers"]["cookie"] == ["[redacted]"] for line in lines)
    assert b"hunter2" not in log.read_bytes()


def test_a_disk_that_is_full_rejects_requests_if_the_log_is_required(
    start: Start, two_hops: TwoHops, tmp_path: Path
) -> None:
    log = tmp_path / "audit.json"
    log.symlink_to("/dev/full")
    proxy = start(configure(two_hops, tmp_path, file=str(log), required=True))
    proxy.wait_for(READY)

    def statuses() -> set[bytes]:
        return {ask(two_hops.client_port, "/")[9:12] for _ in range(8)}

    assert eventually(lambda: statuses() == {b"503"})
    log.unlink()
    assert eventually(lambda: statuses() == {b"200"})
    assert all(path == "/" for path in paths_in(log))
