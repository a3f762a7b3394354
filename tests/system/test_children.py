"""Processes that filters start: they hold no socket of the worker, and end with it, however it or the supervisor ends."""

import os
import signal
import socket
from pathlib import Path

import pytest
from plain_sockets import PATIENCE
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually, is_alive

pytestmark = pytest.mark.once

#: Ways of starting a process from a filter. Each leaves one, or more, that sleep; none is waited for.
WAYS = {
    "pool": """
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        self.pool.submit(forever)
    """,
    "fork": """
        if os.fork() == 0:
            forever()
    """,
    "setsid": """
        if os.fork() == 0:
            os.setsid()
            forever()
    """,
    "double_fork": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                forever()
            os._exit(0)
    """,
    "subprocess": """
        self.child = subprocess.Popen(["sleep", "1000"])
        note(self.child.pid)
    """,
    "subprocess_session": """
        self.child = subprocess.Popen(["sleep", "1000"], start_new_session=True, close_fds=False)
        note(self.child.pid)
    """,
    "subprocess_environment": """
        self.child = subprocess.Popen(["sleep", "1000"], env={})
        note(self.child.pid)
    """,
    "shell": """
        os.system("sleep 1000 & echo $! >> '%s'" % NOTES)
    """,
    "spawned": """
        note(os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ, setpgroup=0))
    """,
    "asyncio": """
        self.child = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
        note(self.child.pid)
    """,
    "multiprocessing": """
        self.child = multiprocessing.get_context("fork").Process(target=forever)
        self.child.start()
    """,
}

FILTER = """
import asyncio, multiprocessing, os, signal, subprocess, time
from concurrent.futures import ProcessPoolExecutor
from pymosn.api import StreamFilter

NOTES = {notes!r}

def note(pid):
    with open(NOTES, "a") as file:
        file.write(f"{{pid}}\\n")

def forever():
    note(os.getpid())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)

class Parent(StreamFilter):
    async def on_request(self, exchange):
        path = exchange.request.path
        if path == "/start":
            {way}
        elif path == "/hang":
            open(NOTES + ".hang", "w").close()
            time.sleep(1000)
        elif path == "/exit":
            os._exit(3)
"""


class Family:
    """A pymosn with one worker, whose filter has started processes."""

    def __init__(self, start: Start, two_hops: TwoHops, folder: Path, way: str) -> None:
        self.notes = folder / "notes"
        self.two_hops = two_hops
        (folder / "parent.py").write_text(FILTER.format(notes=str(self.notes), way=_indented(WAYS[way], 12)))
        two_hops.server["listeners"][0]["stream_filters"] = [
            {"type": "python", "config": {"path": str(folder / "parent.py"), "class": "Parent"}}
        ]
        two_hops.server["watch_filters"] = False
        self.proxy: Pymosn = start(two_hops.config, "--workers", "1")
        self.proxy.wait_for(READY)
        self.client = socket.create_connection(("127.0.0.1", two_hops.client_port), PATIENCE)
        self.client.sendall(b"GET /start HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"/start\n"):
            answer += self.client.recv(65536)
        assert eventually(lambda: bool(self.pids()))

    def pids(self) -> list[int]:
        """The processes that the filter has started."""
        return [int(line) for line in self.notes.read_text().split()] if self.notes.exists() else []

    def are_gone(self) -> bool:
        return eventually(lambda: not any(is_alive(pid) for pid in self.pids()), 15.0)

    def port_is_free(self) -> bool:
        """Whether another process could listen on the client port, without SO_REUSEPORT."""
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", self.two_hops.client_port))
                sock.listen()
            except OSError:
                return False
        return True

    def client_sees_the_end(self) -> bool:
        """Whether the connection that was open when the processes began has ended."""
        self.client.settimeout(PATIENCE)
        try:
            return self.client.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def end(self) -> None:
        """Ends what a failed test has left."""
        self.client.close()
        for pid in self.pids():
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def _indented(text: str, spaces: int) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return ("\n" + " " * spaces).join(line[margin:] for line in lines)


@pytest.fixture
def family(request: pytest.FixtureRequest, start: Start, two_hops: TwoHops, tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Family(start, two_hops, tmp_path, request.param)
    yield made
    made.end()


every_way = pytest.mark.parametrize("family", list(WAYS), indirect=True)
some_ways = pytest.mark.parametrize("family", ["pool", "double_fork", "subprocess_session"], indirect=True)


@every_way
def test_sigterm_leaves_no_process_and_a_free_port(family: Family) -> None:
    family.proxy.send(signal.SIGTERM)
    assert family.proxy.exit_code() == 0
    assert family.port_is_free()
    assert family.are_gone()
    assert family.client_sees_the_end()


@every_way
def test_a_killed_supervisor_leaves_no_process_and_a_free_port(family: Family) -> None:
    workers = family.proxy.worker_pids()
    family.proxy.send(signal.SIGKILL)
    family.proxy.process.wait(PATIENCE)
    assert eventually(lambda: not any(is_alive(pid) for pid in workers))
    assert eventually(family.port_is_free, 2.0)  # the last thread of a killed process may still be ending
    assert family.are_gone()
    assert family.client_sees_the_end()


@some_ways
def test_a_supervisor_killed_while_its_worker_hangs(family: Family) -> None:
    workers = family.proxy.worker_pids()
    family.client.sendall(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n")
    assert eventually((family.notes.parent / "notes.hang").exists)
    family.proxy.send(signal.SIGKILL)
    family.proxy.process.wait(PATIENCE)
    assert eventually(lambda: not any(is_alive(pid) for pid in workers), 10.0)
    assert eventually(family.port_is_free, 2.0)  # the last thread of a killed process may still be ending
    assert family.are_gone()


@every_way
def test_a_killed_worker_takes_its_processes_with_it(family: Family) -> None:
    victim = family.proxy.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    family.proxy.wait_for(rf"pid {victim}\) was killed by SIGKILL; replaced by")
    assert family.are_gone()
    assert family.client_sees_the_end()
    assert family.two_hops.get("/")[0] == 200


@some_ways
def test_a_worker_that_exits_takes_its_processes_with_it(family: Family) -> None:
    family.client.sendall(b"GET /exit HTTP/1.1\r\nhost: a\r\n\r\n")
    family.proxy.wait_for("exited with 3; replaced by")
    assert family.are_gone()
    assert family.client_sees_the_end()


@every_way
def test_a_connection_that_the_proxy_closes_ends_while_the_processes_live(family: Family) -> None:
    family.client.sendall(b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    while family.client.recv(65536):
        pass  # TimeoutError if a process still has the connection open
    assert any(is_alive(pid) for pid in family.pids())
