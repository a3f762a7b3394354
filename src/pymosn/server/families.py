"""The supervisor's view of processes that filters start: when a worker has ended, they are killed.

Each worker is the leader of a session and of a process group, and has a mark in its environment, which its children inherit.
The supervisor is the subreaper of all of them: a process whose parent has died becomes its child, also one that left the
session with setsid or a double fork. So after the end of a worker, every child of the supervisor that is not a worker, and
belongs to no other live worker by its mark or session, is killed; the children of that one become the next.

A supervisor that is killed can do nothing. `reaper.py`, a small process, then does it instead.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pymosn.server.prctl import SET_CHILD_SUBREAPER, prctl
from pymosn.server.reaper import marked, processes
from pymosn.server.worker_children import MARK

#: The variable that marks a stranger, and what it starts.
STRANGER_MARK: Final = "PYMOSN_STRANGER"
#: Seconds for which the processes of a dead worker are killed again and again, and between two rounds.
KILL_TIME: Final = 5.0
ROUND_TIME: Final = 0.01
#: Seconds that the reaper gets for its exit.
REAPER_TIME: Final = 2.0


class Families:
    """The workers of this process, each with the processes that descend from it. Its methods may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token = f"{os.getpid()}.{secrets.token_hex(8)}"
        self._count = 0
        # The live workers' process ids with their marks.
        self._workers: dict[int, str] = {}
        # Other children than workers, which outlive them.
        self._strangers: set[int] = set()
        #: Called with the process id and the exit code of each orphan that has ended; -n: by signal n.
        self.on_orphan: Callable[[int, int], None] = lambda pid, code: None
        self._reaper: subprocess.Popen[bytes] | None = None
        # A shell may have started processes before it was replaced by this program, and the first process of a container
        # also gets the orphans of others. Then only processes with the mark or the session of a worker are its own.
        self._has_foreign = os.getpid() == 1 or any(process.parent == os.getpid() for process in processes())
        prctl(SET_CHILD_SUBREAPER, 1)

    @contextmanager
    def birth(self, environment: Mapping[str, str]) -> Iterator[tuple[dict[str, str], Callable[[int], None]]]:
        """For starting a worker: its environment, and a function that takes its process id."""
        with self._lock:
            self._count += 1
            mark = f"{self._token}.{self._count}"

            def adopt(pid: int) -> None:
                self._workers[pid] = mark
                self._tell(f"+{pid}\n")

            yield {**environment, MARK: mark}, adopt

    @contextmanager
    def stranger(self) -> Iterator[tuple[str, Callable[[int], None]]]:
        """For starting another child than a worker, whose exit is collected elsewhere.

        A mark for its environment (`STRANGER_MARK`), by which `end_stranger` finds what it leaves, and a function that takes
        its process id.
        """
        with self._lock:
            self._has_foreign = True  # and so are its descendants, which may become children of this process
            self._count += 1
            yield f"{self._token}.{self._count}", self._strangers.add

    def end_stranger(self, mark: str) -> None:
        """Kills the processes that a stranger that has exited left; returns when they are gone. Blocks like `end`."""
        deadline = time.monotonic() + KILL_TIME
        while self._kill_marked(mark) and time.monotonic() < deadline:
            time.sleep(ROUND_TIME)

    def forget_stranger(self, pid: int) -> None:
        """The exit of a stranger has been collected."""
        with self._lock:
            self._strangers.discard(pid)

    def end(self, pid: int) -> None:
        """Kills the processes of a worker that has exited; returns when they are gone. Blocks, for at most KILL_TIME."""
        deadline = time.monotonic() + KILL_TIME
        while self._kill_strays(pid) and time.monotonic() < deadline:
            time.sleep(ROUND_TIME)
        with self._lock:
            self._workers.pop(pid, None)
            self._tell(f"-{pid}\n")

    def reap(self) -> None:
        """Collects the exit states of orphans that have ended by themselves; call it now and then."""
        if not self._lock.acquire(blocking=False):
            return  # the event loop does not wait for the processes of a dead worker
        try:
            while self._reap_one():
                pass
            if self._reaper is not None and self._reaper.poll() is not None:
                self._reaper = None
                self._tell("".join(f"+{pid}\n" for pid in self._workers))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the reaper."""
        with self._lock:
            reaper, self._reaper = self._reaper, None
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            try:
                reaper.wait(REAPER_TIME)
            except subprocess.TimeoutExpired:
                reaper.kill()

    def _kill_marked(self, mark: str) -> bool:
        """Kills the children of this process with a mark; False if there are none."""
        with self._lock:
            skipped = {*self._workers, *self._strangers}
            found = [each.pid for each in processes() if each.parent == os.getpid() and each.pid not in skipped]
            strays = [pid for pid in found if marked(pid, [mark])]
            for stray in strays:
                _kill(stray)
                _wait(stray)
        return bool(strays)

    def _kill_strays(self, pid: int) -> bool:
        """Kills what the dead worker `pid` has left and is a child of this process; False if there is nothing."""
        with self._lock:
            others = {other: mark for other, mark in self._workers.items() if other != pid}
            own = [self._workers[pid]] if pid in self._workers else []
            skipped = {*others, *self._strangers, pid, 0 if self._reaper is None else self._reaper.pid}
            strays = [
                process.pid
                for process in processes()
                if process.parent == os.getpid()
                and process.pid not in skipped
                and process.session not in others
                and not marked(process.pid, others.values())
                and (not self._has_foreign or process.session == pid or marked(process.pid, own))
            ]
            for stray in strays:
                _kill(stray)
                _wait(stray)
        return bool(strays)

    def _reap_one(self) -> bool:
        """Collects one child that has ended and that no one waits for; False if there is none."""
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        reaper = 0 if self._reaper is None else self._reaper.pid
        if found is None or found.si_pid in {*self._workers, *self._strangers, reaper}:
            return False
        if not _wait(found.si_pid):
            return False
        self.on_orphan(found.si_pid, found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)
        return True

    def _tell(self, text: str) -> None:
        """Informs the reaper, and starts it if there is none. Without one, the workers themselves still end."""
        try:
            if self._reaper is None:
                self._reaper = _start_reaper(self._token)
            assert self._reaper.stdin is not None
            self._reaper.stdin.write(text.encode())
        except OSError:
            pass  # it is dead; `reap` starts another one


def _start_reaper(token: str) -> "subprocess.Popen[bytes]":
    script = Path(__file__).with_name("reaper.py")
    # -I -S: neither the environment nor installed packages affect it, and it needs little memory.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), f"{MARK}={token}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
        cwd="/",
    )


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):  # gone, or of another user
        os.kill(pid, signal.SIGKILL)


def _wait(pid: int) -> bool:
    """Collects the exit state of a child; False if it is still running."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
