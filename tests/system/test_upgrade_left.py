"""What is left in and after upgrades: several generations that drain at once, and what failed successors have started."""

import http.client
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pymosn_process import PATIENCE, Upstream, eventually, is_alive
from test_upgrade import Upgraded, generations

from pymosn.server.worker_process import worker_environment

__all__ = ["generations"]

pytestmark = pytest.mark.once


def test_all_generations_that_drain_are_shown_and_stop_waits_for_them(generations: Upgraded, upstream: Upstream) -> None:
    """The second generation has nothing to drain, but passes on what the first one reports."""
    main = generations.proxy.process
    connection = http.client.HTTPConnection("127.0.0.1", generations.hops.server_port, timeout=PATIENCE)
    connection.request("GET", "/slow")
    assert upstream.arrived.wait(PATIENCE)
    for _ in range(2):
        assert generations.upgrade().returncode == 0

    def shown() -> list[tuple[int, str, bool]]:
        found = generations.view()["generations"]
        return [(each["generation"], each["state"], bool(each.get("connections"))) for each in found]

    expected = [(1, "leaving", True), (2, "leaving", False), (3, "serving", False)]
    assert eventually(lambda: shown() == expected), generations.view()

    command = [sys.executable, "-m", "pymosn", "stop", "--drain", "-c", str(generations.config)]
    stop = subprocess.Popen(command, env=worker_environment(os.environ), stdout=subprocess.PIPE, text=True)
    assert eventually(lambda: not is_alive(generations.pids[2]))
    assert (stop.poll(), main.poll()) == (None, None)
    upstream.gate.set()
    assert connection.getresponse().read() == b"hello from upstream, /slow\n"
    connection.close()
    assert stop.communicate(timeout=PATIENCE)[0] == f"pymosn: process {main.pid} has ended\n"
    assert generations.proxy.exit_code() == 0
    assert not any(is_alive(pid) for pid in generations.pids)


def test_what_a_failed_successor_has_started_ends_with_it(generations: Upgraded, tmp_path: Path) -> None:
    """It would hold the sockets that it has inherited, among them the one that the main process waits for at the end."""
    note = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {shlex.quote(str(note))}; exit 7"
    done = generations.upgrade("--command", f"sh -c {shlex.quote(script)}")
    assert (done.returncode, "exit code 7" in done.stderr) == (2, True), done.stderr
    assert not is_alive(int(note.read_text()))
    assert generations.upgrade().returncode == 0
    generations.proxy.send(signal.SIGTERM)
    assert generations.proxy.exit_code() == 0


def test_a_socket_file_that_was_removed_is_made_again(generations: Upgraded, tmp_path: Path) -> None:
    paths = [Path(generations.proxy.admin_socket), tmp_path / "unix.sock"]
    for path in paths:
        path.unlink()
    os.kill(generations.proxy.process.pid, signal.SIGUSR2)
    assert eventually(lambda: all(path.exists() for path in paths))
    assert eventually(lambda: generations.upgrade().returncode == 0)
    generations.proxy.send(signal.SIGTERM)
    assert generations.proxy.exit_code() == 0
    assert not any(path.exists() for path in paths)
