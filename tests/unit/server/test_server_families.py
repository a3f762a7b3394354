"""Processes that workers leave behind, with real processes in the place of workers."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pymosn.server.families import STRANGER_MARK, Families
from pymosn.server.reaper import processes
from pymosn.server.worker_children import give_up_sockets, keep_sockets

#: A worker that leaves a process in another session behind when its standard input ends.
WORKER = """
import os, sys, time
sys.stdin.read()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(1000)
    os._exit(0)
os.wait()
os._exit(0)
"""


def is_alive(pid: int) -> bool:
    return any(process.pid == pid and process.state != "Z" for process in processes())


def soon(path: Path) -> int:
    deadline = time.monotonic() + 20.0
    while not path.exists():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    return int(path.read_text())


def start(families: Families, note: Path) -> "subprocess.Popen[bytes]":
    with families.birth(dict(os.environ)) as (environment, adopt):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WORKER, str(note)],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        adopt(process.pid)
        return process


def in_a_process(scenario: Callable[[Path], None], folder: Path) -> int:
    """The exit code of `scenario(folder)` in a process of its own, which becomes the parent of what is left behind."""
    script = (
        "import os, sys\n"
        "sys.path[:0] = sys.argv[1].split(os.pathsep)\n"
        "from pathlib import Path\n"
        "from tests.unit.server import test_server_families as here\n"
        f"here.{scenario.__name__}(Path(sys.argv[2]))\n"
    )
    path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
    return subprocess.run([sys.executable, "-c", script, path, str(folder)], timeout=60).returncode


def two_workers(folder: Path) -> None:
    families = Families()
    workers = [start(families, folder / str(i)) for i in range(2)]
    for worker in workers:
        worker.communicate(timeout=20)
    first, second = (soon(folder / str(i)) for i in range(2))
    assert is_alive(first)
    families.end(workers[0].pid)
    assert not is_alive(first)
    assert is_alive(second)
    families.end(workers[1].pid)
    assert not is_alive(second)
    families.close()


def test_the_end_of_a_worker_is_that_of_its_processes_only(tmp_path: Path) -> None:
    assert in_a_process(two_workers, tmp_path) == 0


def foreign_child(folder: Path) -> None:
    foreign = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        families = Families()
        worker = start(families, folder / "note")
        worker.communicate(timeout=20)
        left = soon(folder / "note")
        families.end(worker.pid)
        assert not is_alive(left)
        assert is_alive(foreign.pid)
        families.close()
    finally:
        foreign.kill()


def test_a_process_that_a_shell_has_started_before_is_left_alone(tmp_path: Path) -> None:
    assert in_a_process(foreign_child, tmp_path) == 0


def killed(folder: Path) -> None:
    families = Families()
    start(families, folder / "note").communicate(timeout=20)
    soon(folder / "note")
    os.kill(os.getpid(), signal.SIGKILL)


def killed_with_another_reaper(folder: Path) -> None:
    families = Families()
    worker = start(families, folder / "note")
    [reaper] = [process.pid for process in processes() if process.parent == os.getpid() and process.pid != worker.pid]
    os.kill(reaper, signal.SIGKILL)
    deadline = time.monotonic() + 20.0
    while is_alive(reaper):
        assert time.monotonic() < deadline
    families.reap()  # starts another one
    worker.communicate(timeout=20)
    soon(folder / "note")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("scenario", [killed, killed_with_another_reaper])
def test_the_reaper_ends_all_when_the_supervisor_is_killed(scenario: Callable[[Path], None], tmp_path: Path) -> None:
    assert in_a_process(scenario, tmp_path) == -signal.SIGKILL
    left = soon(tmp_path / "note")
    deadline = time.monotonic() + 20.0
    while is_alive(left):
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def orphan(folder: Path) -> None:
    families = Families()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    families.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
    families.close()


def test_orphans_that_end_by_themselves_are_collected(tmp_path: Path) -> None:
    assert in_a_process(orphan, tmp_path) == 0


def grandchild(folder: Path) -> None:
    keep_sockets(())
    inherited = socket.create_server(("127.0.0.1", 0))
    number = inherited.fileno()
    if os.fork() == 0:
        own = socket.create_server(("127.0.0.1", 0))
        address = own.getsockname()
        if os.fork() == 0:
            is_kept = own.getsockname() == address and os.readlink(f"/proc/self/fd/{number}") == "/dev/null"
            os._exit(0 if is_kept else 1)
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


def no_free_descriptor(folder: Path) -> None:
    own, other = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    keep_sockets((own.fileno(),))
    opened = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    if os.fork() == 0:
        os.close(opened.pop())
        os._exit(0 if os.readlink(f"/proc/self/fd/{server.fileno()}") == "/dev/null" else 1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    other.close()


@pytest.mark.parametrize("scenario", [grandchild, no_free_descriptor])
def test_a_fork_of_a_worker(scenario: Callable[[Path], None], tmp_path: Path) -> None:
    assert in_a_process(scenario, tmp_path) == 0


def test_a_forked_child_keeps_socket_pairs_and_files_but_no_other_socket(tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(tmp_path / "socket"))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel, _peer = socket.socketpair()
    pair, other = socket.socketpair()
    given_up = [listening, client, accepted, local, datagrams, channel]
    with (tmp_path / "file").open("w") as file:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                give_up_sockets((channel.fileno(),))
                links = [os.readlink(f"/proc/self/fd/{sock.fileno()}") for sock in given_up]
                pair.sendall(b"x")
                file.write("text")
                file.flush()
                code = 0 if links == ["/dev/null"] * len(links) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert other.recv(1) == b"x"
    assert (tmp_path / "file").read_text() == "text"
    for sock in [*given_up, pair, other, _peer]:
        sock.close()


def test_after_an_upgrade_began_only_what_a_worker_has_left_is_killed(tmp_path: Path) -> None:
    """The successor's successors may become children of this process, too."""
    families = Families()
    with families.stranger() as (_mark, adopt):
        successor = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        adopt(successor.pid)
    later = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    worker = start(families, tmp_path / "note")
    assert worker.stdin is not None
    worker.stdin.close()
    left = soon(tmp_path / "note")
    worker.wait()
    families.end(worker.pid)
    try:
        assert not is_alive(left)
        assert is_alive(successor.pid)
        assert is_alive(later.pid)
    finally:
        for process in (successor, later):
            process.kill()
            process.wait()
        families.close()


@pytest.mark.parametrize(("code", "command"), [(3, "exit 3"), (-signal.SIGKILL, "kill -9 $$")])
def test_the_exit_codes_of_orphans_are_reported(code: int, command: str) -> None:
    ended: list[tuple[int, int]] = []
    families = Families()
    families.on_orphan = lambda pid, code: ended.append((pid, code))
    orphan = subprocess.Popen(["sh", "-c", command])
    os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
    families.reap()
    assert (orphan.pid, code) in ended
    families.close()
    orphan.returncode = code  # collected


def failed_upgrade(folder: Path) -> None:
    families = Families()
    worker = start(families, folder / "worker")
    with families.stranger() as (mark, adopt):
        successor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WORKER, str(folder / "note")],
            stdin=subprocess.DEVNULL,
            env={**os.environ, STRANGER_MARK: mark},
        )
        adopt(successor.pid)
    left = soon(folder / "note")
    successor.wait()
    families.forget_stranger(successor.pid)
    assert is_alive(left)
    families.end_stranger(mark)
    assert not is_alive(left)
    assert is_alive(worker.pid)
    worker.communicate(timeout=20)
    families.end(worker.pid)
    families.close()


def test_what_a_failed_successor_has_started_ends(tmp_path: Path) -> None:
    assert in_a_process(failed_upgrade, tmp_path) == 0
