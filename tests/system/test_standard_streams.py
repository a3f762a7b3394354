"""Standard streams that are full, closed or without a reader, and a full disk: only the lines are lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymosn_process import PATIENCE, TwoHops, children, eventually, get

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

#: Redirections of a shell; with `| head -1` the only reader leaves after one line.
REDIRECTIONS = [">/dev/full 2>&1", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 >/dev/full", "2>&1 | head -1"]
#: The program's own process id, which is that of the shell before exec.
PROGRAM = "echo $$ >pid; exec {python} -m pymosn {arguments}"


class Shell:
    """Runs pymosn in a shell, in a folder with its configuration."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        (folder / "conf").mkdir()
        (folder / "conf" / "mosn.json").write_text(json.dumps(config))

    def begin(self, arguments: str, redirection: str) -> "subprocess.Popen[str]":
        program = PROGRAM.format(python=sys.executable, arguments=arguments)
        self._running.append(
            subprocess.Popen(
                ["sh", "-c", f"sh -c '{program}' {redirection}"],
                cwd=self._folder,
                env=worker_environment(os.environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self._running[-1]

    def pid(self) -> int:
        path = self._folder / "pid"
        assert eventually(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def end(self) -> None:
        for shell in self._running:
            if shell.poll() is None:
                os.kill(self.pid(), signal.SIGKILL)
                shell.kill()
            shell.communicate(timeout=10)


@pytest.fixture
def shell(tmp_path: Path, two_hops: TwoHops) -> Iterator[Shell]:
    two_hops.server["processor"] = 1
    made = Shell(tmp_path, two_hops.config)
    yield made
    made.end()


def serves(port: int) -> bool:
    try:
        return get(port, "/")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_the_process_starts_logs_and_replaces_workers_without_its_streams(
    shell: Shell, two_hops: TwoHops, redirection: str
) -> None:
    begun = shell.begin("start -c conf/mosn.json", redirection)
    pid = shell.pid()
    assert eventually(lambda: serves(two_hops.client_port))
    os.kill(pid, signal.SIGUSR1)
    victim = children(pid, "pymosn.server.worker")[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: children(pid, "pymosn.server.worker") not in ([], [victim]))
    assert eventually(lambda: serves(two_hops.client_port))
    os.kill(pid, signal.SIGTERM)
    assert begun.wait(PATIENCE) == 0


@pytest.mark.parametrize("redirection", [">/dev/full", ">/dev/full 2>&1", ">&- 2>&-", "2>&-"])
@pytest.mark.parametrize(
    "arguments",
    [
        "check -c conf/mosn.json",
        "check --json -c conf/mosn.json",
        "explain -c conf/mosn.json GET http://127.0.0.1/",
        "version",
        "--version",
        "--help",
        "filters",
        "check -c missing.json",
    ],
)
def test_other_commands_end_without_a_traceback(shell: Shell, arguments: str, redirection: str) -> None:
    begun = shell.begin(arguments, redirection)
    out, err = begun.communicate(timeout=PATIENCE)
    assert "Traceback" not in out + err
    assert "Exception ignored" not in out + err
    assert begun.returncode in (0, 1, 2)
    if "/dev/full" in redirection:
        assert begun.returncode != 0  # the answer was lost


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without any free space."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    (folder / "filler").write_bytes(b"x" * 4096)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_for_the_logs_and_the_pid_file(shell: Shell, two_hops: TwoHops, full_disk: Path, tmp_path: Path) -> None:
    two_hops.server["default_log_path"] = str(full_disk / "logs" / "mosn.log")
    two_hops.server["listeners"][0]["access_logs"] = [{"log_path": str(full_disk / "access.log")}]
    two_hops.config["pid"] = str(full_disk / "mosn.pid")
    (tmp_path / "conf" / "mosn.json").write_text(json.dumps(two_hops.config))
    begun = shell.begin("start -c conf/mosn.json", "")
    assert eventually(lambda: serves(two_hops.client_port))
    subprocess.run(["mount", "-o", "remount,size=1m,nr_inodes=100", str(full_disk)], check=True)  # now there is room
    log = full_disk / "access.log"
    assert eventually(lambda: serves(two_hops.client_port) and log.exists() and log.stat().st_size > 0)
    os.kill(shell.pid(), signal.SIGTERM)
    assert begun.wait(PATIENCE) == 0
