"""Starts the successor: the command line of this process again, with the channel in its environment."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

from pymosn.server.channel import Channel
from pymosn.server.families import STRANGER_MARK, Families
from pymosn.server.shutdown import LATER_SIGNALS
from pymosn.server.upgrade.inheritance import VARIABLE
from pymosn.server.upgrade.messages import FROM_SUCCESSOR, FromSuccessor
from pymosn.server.upgrade.request import UpgradeRequest
from pymosn.server.upgrade.tether import Tether

#: The options of `start` and `envoy` for the number of workers.
_WORKER_OPTIONS: Final = ("--workers", "--concurrency", "-workers", "-concurrency")


class Successor:
    """The process that is going to take over, as its predecessor sees it."""

    pid: int

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Sends a message; the descriptors must stay open until `is_flushed`."""
        raise NotImplementedError

    def is_flushed(self) -> bool:
        """Whether everything sent has reached the kernel."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the channel, which asks the process to exit unless it has taken over."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kills it (SIGKILL)."""
        raise NotImplementedError

    def end_family(self) -> None:
        """Kills what it has started, after its end. Blocks, for seconds at most."""
        raise NotImplementedError


class SuccessorReceiver:
    """Callbacks for what the successor does."""

    def on_message(self, message: FromSuccessor, descriptors: list[int]) -> None:
        """It has sent a message; the descriptors are the receiver's."""
        raise NotImplementedError

    def on_closed(self, reason: str) -> None:
        """The channel has ended."""
        raise NotImplementedError

    def on_exit(self, code: int) -> None:
        """The process has ended. `code`: exit code, or minus the signal that killed it."""
        raise NotImplementedError


class SuccessorProcess(Successor):
    """A child process, and this end of its channel."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        families: Families,
        tether: Tether,
        request: UpgradeRequest,
        receiver: SuccessorReceiver,
    ) -> None:
        """Starts the process; OSError if the system refuses. Signals about files wait until it serves."""
        self._loop = loop
        self._families = families
        self._receiver = receiver
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        inherited, variables = tether.pass_on()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, LATER_SIGNALS)
        with theirs:
            try:
                with families.stranger() as (self._mark, adopt):
                    self._process = subprocess.Popen(
                        command_line(request, sys.orig_argv, sys.argv, sys.executable),
                        pass_fds=[theirs.fileno(), inherited],
                        env={**os.environ, **variables, VARIABLE: str(theirs.fileno()), STRANGER_MARK: self._mark},
                    )
                    self.pid = self._process.pid
                    adopt(self.pid)
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        tether.on_started(self.pid)
        self._channel: Channel[FromSuccessor] = Channel(loop, ours, FROM_SUCCESSOR, receiver.on_message, receiver.on_closed)
        threading.Thread(target=self._wait, name="successor watch", daemon=True).start()

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    def is_flushed(self) -> bool:
        return self._channel.is_flushed

    def close(self) -> None:
        self._channel.close()

    def kill(self) -> None:
        self._process.kill()

    def end_family(self) -> None:
        self._families.end_stranger(self._mark)

    def _wait(self) -> None:
        code = self._process.wait()
        self._families.forget_stranger(self.pid)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._receiver.on_exit, code)


def command_line(request: UpgradeRequest, original: Sequence[str], argv: Sequence[str], executable: str) -> list[str]:
    """The command of the successor. `original`, `argv`, `executable`: those of `sys` in this process."""
    arguments = list(argv[1:])
    if arguments and list(original[-len(arguments) :]) != arguments:
        arguments = arguments[1:]  # the program `pymosn-envoy` adds the first one
        whole = ["envoy", *arguments]
    else:
        whole = arguments
    program = list(original[: len(original) - len(arguments)])
    if program and executable:
        program[0] = executable
    if request.command:
        program, arguments = list(request.command), whole
    if request.workers is not None:
        arguments = with_workers(arguments, request.workers, "--concurrency" if whole[:1] == ["envoy"] else "--workers")
    return [*program, *arguments]


def with_workers(arguments: Sequence[str], workers: int, option: str) -> list[str]:
    """The arguments with another number of workers."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in _WORKER_OPTIONS:
            next(rest, None)
        elif argument.partition("=")[0] not in _WORKER_OPTIONS:
            kept.append(argument)
    return [*kept, option, str(workers)]
