"""A process that is stopped by its pid file: only if it must be the one that has written it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymosn.server.stop_by_pid import PidError, stop_by_pid

# Jobs in the background of a shell, such as these tests may be, inherit that SIGINT is ignored.
READY = """import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.default_int_handler)
print("up", flush=True)
signal.pause()
"""


class Process:
    def __init__(self, name: str) -> None:
        self.popen = subprocess.Popen([sys.executable, "-c", READY, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == b"up\n"

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def end(self) -> None:
        assert self.popen.stdout is not None
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()


@pytest.fixture(params=["mosn"])
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(request.param)
    yield process
    process.end()


def write(tmp_path: Path, process: Process) -> str:
    path = tmp_path / "mosn.pid"
    path.write_text(f"{process.popen.pid}\n")
    return str(path)


def test_it_gets_the_signal_and_is_waited_for(tmp_path: Path, process: Process) -> None:
    assert stop_by_pid(write(tmp_path, process), signal.SIGINT, 20.0) == process.popen.pid
    assert process.popen.wait(0.0 if process.popen.poll() is not None else 20.0) in (-signal.SIGINT, 1)


def test_one_that_does_not_end_in_time_is_an_error(tmp_path: Path, process: Process) -> None:
    with pytest.raises(PidError, match=r"is stopping, but has not ended within 0.05 s"):
        stop_by_pid(write(tmp_path, process), signal.SIGTERM, 0.05)


def test_no_file_and_no_process_are_nothing_to_stop(tmp_path: Path, process: Process) -> None:
    assert stop_by_pid(str(tmp_path / "absent"), signal.SIGINT, 1.0) == 0
    path = write(tmp_path, process)
    process.end()
    assert stop_by_pid(path, signal.SIGINT, 1.0) == 0


def test_a_process_that_has_ended_is_not_running_although_its_parent_has_not_noticed(
    tmp_path: Path, process: Process
) -> None:
    process.popen.kill()
    os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)
    assert stop_by_pid(write(tmp_path, process), signal.SIGINT, 1.0) == 0


@pytest.mark.parametrize("process", ["bystander"], indirect=True)
def test_another_program_is_left_alone(tmp_path: Path, process: Process) -> None:
    with pytest.raises(PidError, match="may be stale: it is "):
        stop_by_pid(write(tmp_path, process), signal.SIGINT, 1.0)
    assert process.is_alive


def test_a_process_that_is_younger_than_the_file_is_left_alone(tmp_path: Path, process: Process) -> None:
    path = write(tmp_path, process)
    os.utime(path, (1e9, 1e9))
    with pytest.raises(PidError, match="may be stale: it was started after the file was written"):
        stop_by_pid(path, signal.SIGINT, 1.0)
    assert process.is_alive


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_trusted(tmp_path: Path, process: Process) -> None:
    path = write(tmp_path, process)
    os.chown(path, 12345, -1)
    with pytest.raises(PidError, match="the file belongs to uid 12345, the process to 0"):
        stop_by_pid(path, signal.SIGINT, 1.0)
    assert process.is_alive


@pytest.mark.parametrize("text", ["", "abc", "-1", "0", "1 2", "99999999999", "1" * 200])
def test_a_file_without_a_process_id(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mosn.pid"
    path.write_text(text)
    with pytest.raises(PidError, match="cannot be used: expected a process id"):
        stop_by_pid(str(path), signal.SIGINT, 1.0)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(PidError, match=r"it is not a regular file|Is a directory"):
            stop_by_pid(str(tmp_path / name), signal.SIGINT, 1.0)
