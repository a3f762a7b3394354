"""One worker as a child process of the supervisor."""

import asyncio
import fcntl
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
from pymosn.config.diagnostics import Diagnostic
from pymosn.core.counters import CODE_KEYS, FAILURE_KEYS, GroupData, GroupKey
from pymosn.core.ledger import SIZE, read_ledger
from pymosn.observe.totals import labels_of
from pymosn.server.channel import Channel
from pymosn.server.families import Families
from pymosn.server.messages import REPORTS, Allocations, Command, Exchanges, Probe, Report, UseLedger
from pymosn.server.notify import VARIABLES
from pymosn.server.probes import ProbeSender
from pymosn.server.shutdown import SUPERVISOR_SIGNALS
from pymosn.server.stacks import frames, read_stacks, request_stack, take_stack

#: Seconds for reading the channel of a dead worker to its end; a process that native code has forked may keep it open.
LAST_REPORTS_TIME: Final = 1.0


class WorkerHandle:
    """One process, and what it has reported. `worker_id`: from 1; a replacement has the id of its predecessor."""

    def __init__(self, worker_id: int, pid: int) -> None:
        self.worker_id = worker_id
        self.pid = pid
        #: Seconds since 1970.
        self.started = 0.0
        self.has_exited = False
        self.is_built = False
        self.probe = ProbeSender(lambda descriptor: self.send(Probe(), [descriptor]), self.is_flushed)
        #: Times on the monotonic clock.
        self.began = 0.0
        self.ready_since: float | None = None
        self.last_report = 0.0
        #: Metrics, and the last ticket that they answered.
        self.stats: dict[GroupKey, GroupData] = {}
        # Groups that were removed and whose counters are in the ledger.
        self._removed: set[GroupKey] = set()
        self.ticket = 0
        self.allocations = Allocations(0, [])
        self.exchanges = Exchanges(0, [], [])
        #: The last changes that it has checked and prepared, with the errors, and activated.
        self.checked = 0
        self.prepared = 0
        self.errors: list[Diagnostic] = []
        self.activated = 0
        self.drained = -1
        #: Connections by kind that it still has after `Depart`; None until it has reported.
        self.departing: dict[str, int] | None = None

    def add_stats(self, groups: list[GroupData], removed: list[GroupKey]) -> list[GroupKey]:
        """Adds a report of changed and of removed groups; returns their keys."""
        changed: list[GroupKey] = []
        for group in groups:
            changed.append((group["type"], labels_of(group["labels"])))
            self.stats[changed[-1]] = group
            self._removed.discard(changed[-1])
        for type_name, labels in removed:
            changed.append((type_name, labels_of(labels)))
            self.stats.pop(changed[-1], None)
            if type_name == "downstream":
                self._removed.add(changed[-1])
        return changed

    def add_ledger(self, page: bytes) -> None:
        """Adds what the worker has counted in its ledger since its last report. `page`: the content of the file."""
        for key, counted in read_ledger(page).items():
            if key in self._removed:
                continue
            empty: GroupData = {"type": key[0], "labels": list(key[1]), "counters": {}, "gauges": {}, "histograms": {}}
            group = self.stats.get(key, empty)
            counters = dict(group["counters"])
            for name, value in counted.items():
                more = max(0, value - counters.get(name, 0))
                counters[name] = counters.get(name, 0) + more
                failure = FAILURE_KEYS.fullmatch(name)
                if failure is not None and more:
                    reason = f"reason_{failure[1]}"
                    counters[reason] = counters.get(reason, 0) + more
            # A request is counted when it begins and when it has ended, and only the latter is in the ledger.
            for total, parts in (("request_total", CODE_KEYS), ("request_failed", FAILURE_KEYS)):
                found = sum([value for name, value in counters.items() if parts.fullmatch(name)])
                counters[total] = max(counters.get(total, 0), found)
            self.stats[key] = {**group, "counters": counters}

    def text(self) -> str:
        """`worker 1 (pid 4711)`."""
        return f"worker {self.worker_id} (pid {self.pid})"

    def send(self, command: Command, descriptors: Sequence[int] = ()) -> None:
        """Sends a command; dropped if the worker is gone."""
        raise NotImplementedError

    def is_flushed(self) -> bool:
        """Whether all commands sent have reached the kernel."""
        return True

    def take_stack(self) -> list[str]:
        """Where the worker's event loop is blocked, innermost call first; empty if it is not known to be blocked."""
        raise NotImplementedError

    def request_stack(self) -> bool:
        """Makes it record where its event loop is, even if that is blocked; False if it cannot."""
        return False

    def read_stacks(self, offset: int) -> tuple[bytes, int]:
        """The text of the stacks recorded after `offset`, and the next offset."""
        return b"", 0

    def kill(self) -> None:
        """Kills the process (SIGKILL)."""
        raise NotImplementedError


class WorkerReceiver:
    """Callbacks for messages from workers."""

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        """The worker sent a report."""
        raise NotImplementedError

    def on_exit(self, worker: WorkerHandle, code: int) -> None:
        """The process has ended; the last call for it. `code`: exit code, or minus the signal that killed it."""
        raise NotImplementedError


class WorkerProcess(WorkerHandle):
    """A child process running `pymosn.server.worker`, and the supervisor's end of its channel."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, families: Families, worker_id: int, receiver: WorkerReceiver
    ) -> None:
        """Starts the process; OSError if the system refuses."""
        self._loop = loop
        self._families = families
        self._receiver = receiver
        self._exit_code: int | None = None
        self._channel_open = True
        self._gone = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stacks = os.memfd_create("pymosn-stacks", os.MFD_CLOEXEC)
        self._ledger = os.memfd_create("pymosn-ledger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._ledger, SIZE)
        # So that it has that size when it is read.
        fcntl.fcntl(self._ledger, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        with theirs:
            try:
                self._process = _spawn(families, theirs.fileno(), self._stacks)
            except BaseException:
                ours.close()
                os.close(self._stacks)
                os.close(self._ledger)
                raise
        super().__init__(worker_id, self._process.pid)
        self._channel: Channel[Report] = Channel(loop, ours, REPORTS, self._on_report, self._on_channel_closed)
        self._channel.send(UseLedger(), [self._ledger])
        threading.Thread(target=self._wait, name=f"worker {worker_id} watch", daemon=True).start()

    def send(self, command: Command, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(command, descriptors)

    def is_flushed(self) -> bool:
        return self._channel.is_flushed

    def kill(self) -> None:
        self._process.kill()

    def take_stack(self) -> list[str]:
        return [] if self._gone else [frame.text() for frame in frames(take_stack(self._stacks))]

    def request_stack(self) -> bool:
        return not self._gone and self._exit_code is None and request_stack(self.pid, self._process.send_signal)

    def read_stacks(self, offset: int) -> tuple[bytes, int]:
        return (b"", 0) if self._gone else read_stacks(self._stacks, offset)

    def _wait(self) -> None:
        """Runs in a thread, because an event loop has no portable way to wait for a process."""
        code = self._process.wait()
        self._families.end(self.pid)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_process_exit, code)

    def _on_report(self, report: Report, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)  # workers send none, but a broken one must not leak them
        self._receiver.on_report(self, report)

    def _on_channel_closed(self, reason: str) -> None:
        self._channel_open = False
        if self._exit_code is None:
            # It is about to exit, or it can no longer be controlled.
            self._loop.call_later(LAST_REPORTS_TIME, self.kill)
        self._finish()

    def _on_process_exit(self, code: int) -> None:
        self._exit_code = code
        self._loop.call_later(LAST_REPORTS_TIME, self._on_channel_closed, "not read any longer")
        self._finish()

    def _finish(self) -> None:
        """Reports the exit when the process has ended and all its reports have been read."""
        if self._gone or self._channel_open or self._exit_code is None:
            return
        self._gone = True
        self._channel.close()
        self.probe.close()
        os.close(self._stacks)
        self.add_ledger(os.pread(self._ledger, SIZE, 0))
        os.close(self._ledger)
        self._receiver.on_exit(self, self._exit_code)


def describe_exit(code: int) -> str:
    """`exited with 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _spawn(families: Families, descriptor: int, stacks: int) -> "subprocess.Popen[bytes]":
    # -P: a file in the current directory must not shadow a module of the worker.
    command = [sys.executable, "-P", "-m", "pymosn.server.worker", str(descriptor), str(stacks)]
    # Blocked, not ignored: the mask is inherited, and so applies before the worker can set up its own handling.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    try:
        with families.birth(worker_environment(os.environ)) as (environment, adopt):
            process = subprocess.Popen(
                command,
                pass_fds=[descriptor, stacks],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            adopt(process.pid)
            return process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for workers, which makes them import the same pymosn as this process.

    Without the variables of the service manager, which would take messages of processes that filters start for its own.
    """
    result = {name: value for name, value in environment.items() if name not in VARIABLES}
    root = str(Path(pymosn.__file__).resolve().parent.parent)
    # An installed package is found anyway; adding its folder would put it before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    return result
