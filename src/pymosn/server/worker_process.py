"""One worker as a child process of the supervisor."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pymosn
from pymosn.server.channel import Channel
from pymosn.server.messages import REPORTS, Command, Report
from pymosn.server.watchdog import frames, take_stack

#: Seconds in which the channel of a dead worker is read to its end; a process forked by a filter may hold it open.
LAST_WORDS_TIME: Final = 1.0

# The supervisor decides what a signal means: Ctrl-C in a terminal goes to the workers too.
_HELD_BACK: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


class WorkerHandle:
    """A worker as its fleet sees it."""

    def __init__(self, number: int, pid: int) -> None:
        self.number = number
        self.pid = pid

    def send(self, order: Command, descriptors: Sequence[int] = ()) -> None:
        """Sends an order; dropped when the worker is gone."""
        raise NotImplementedError

    def take_stack(self) -> list[str]:
        """Where the worker's loop stands still, the innermost call first; empty when it does not, as far as it is known."""
        raise NotImplementedError

    def kill(self) -> None:
        """Ends the process at once (SIGKILL)."""
        raise NotImplementedError


class WorkerReceiver:
    """Who hears from workers."""

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        """The worker said something."""
        raise NotImplementedError

    def on_exit(self, worker: WorkerHandle, code: int) -> None:
        """The process has ended; the last thing heard of it. `code`: exit code, or minus the signal that killed it."""
        raise NotImplementedError


class WorkerProcess(WorkerHandle):
    """A child process running `pymosn.server.worker`, and the supervisor's end of its channel."""

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, receiver: WorkerReceiver) -> None:
        """Starts the process; OSError when the system refuses."""
        self._loop = loop
        self._receiver = receiver
        self._exit_code: int | None = None
        self._channel_open = True
        self._gone = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stacks = os.memfd_create("pymosn-stacks", os.MFD_CLOEXEC)
        with theirs:
            try:
                self._process = _spawn(theirs.fileno(), self._stacks)
            except BaseException:
                ours.close()
                os.close(self._stacks)
                raise
        super().__init__(number, self._process.pid)
        self._channel: Channel[Report] = Channel(loop, ours, REPORTS, self._on_report, self._on_channel_closed)
        threading.Thread(target=self._wait, name=f"worker {number} watch", daemon=True).start()

    def send(self, order: Command, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(order, descriptors)

    def kill(self) -> None:
        self._process.kill()

    def take_stack(self) -> list[str]:
        return [] if self._gone else [frame.text() for frame in frames(take_stack(self._stacks))]

    def _wait(self) -> None:
        """Runs in a thread of its own: there is no portable way to wait for a process on an event loop."""
        code = self._process.wait()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_process_exit, code)

    def _on_report(self, report: Report, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)  # workers send none; a broken one must not leak them here
        self._receiver.on_report(self, report)

    def _on_channel_closed(self, reason: str) -> None:
        self._channel_open = False
        if self._exit_code is None:
            # It is about to exit, or nobody can reach it any more.
            self._loop.call_later(LAST_WORDS_TIME, self.kill)
        self._finish()

    def _on_process_exit(self, code: int) -> None:
        self._exit_code = code
        self._loop.call_later(LAST_WORDS_TIME, self._give_up_channel)
        self._finish()

    def _give_up_channel(self) -> None:
        self._channel_open = False
        self._finish()

    def _finish(self) -> None:
        """Reports the exit once the process has ended and everything it said has been read."""
        if self._gone or self._channel_open or self._exit_code is None:
            return
        self._gone = True
        self._channel.close()
        os.close(self._stacks)
        self._receiver.on_exit(self, self._exit_code)


def describe_exit(code: int) -> str:
    """`exited with 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _spawn(descriptor: int, stacks: int) -> "subprocess.Popen[bytes]":
    # -P: a file in the current directory must not stand in for a module of the worker.
    command = [sys.executable, "-P", "-m", "pymosn.server.worker", str(descriptor), str(stacks)]
    # Blocked, not ignored: the mask is in force from the first instruction on, before the worker can say what it ignores.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        return subprocess.Popen(
            command, pass_fds=[descriptor, stacks], stdin=subprocess.DEVNULL, env=worker_environment(os.environ)
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for workers: with it they import the same pymosn as this process."""
    result = dict(environment)
    root = str(Path(pymosn.__file__).resolve().parent.parent)
    # An installed package is found anyway; naming its folder would put it before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    return result
