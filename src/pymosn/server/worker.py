"""One worker process: an event loop that serves, controlled by commands from the supervisor.

Run as `python -m pymosn.server.worker CHANNEL STACKS`, both file descriptors.
Import only what serving requires: every import costs memory in each worker.
"""

import asyncio
import contextlib
import gc
import math
import mmap
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Any, Final

import uvloop

from pymosn.assembly.packed_config import PackedConfig
from pymosn.assembly.steps import run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.core.errors import describe, with_traceback
from pymosn.core.foreign import raise_if_cancelled
from pymosn.core.ledger import SIZE as LEDGER_SIZE
from pymosn.core.log import ALERT_PANIC, ERROR
from pymosn.core.redaction import redacted_text
from pymosn.network.listener import Listener
from pymosn.observe.destination import report_to_stderr
from pymosn.server import messages
from pymosn.server.background import BackgroundTasks
from pymosn.server.channel import Channel
from pymosn.server.filter_faults import FaultReport
from pymosn.server.handover import HandoverReceiver, join_siblings
from pymosn.server.listener_end import close_listeners, stop_listening
from pymosn.server.logs import execute_log_command, open_logs
from pymosn.server.messages import Command
from pymosn.server.overload import OverloadManager
from pymosn.server.probes import ProbeReceiver
from pymosn.server.recordings import Recordings
from pymosn.server.resources import keep_freed, raise_open_file_limit, settle, trace_allocations
from pymosn.server.shutdown import SUPERVISOR_SIGNALS
from pymosn.server.stacks import Frame, StackRecorder
from pymosn.server.standard_streams import secure
from pymosn.server.stats_report import StatsReport
from pymosn.server.tap_outbox import TapOutbox
from pymosn.server.trace_report import TraceReport
from pymosn.server.upgrade.arriving import ReceivingQueue, receive_connections
from pymosn.server.upgrade.departure import Departure
from pymosn.server.upgrade.sessions import SessionReceiver
from pymosn.server.watchdog import Watchdog, record_start
from pymosn.server.worker_changes import WorkerChanges, faults_of
from pymosn.server.worker_children import MARK, end_with_supervisor, keep_sockets
from pymosn.server.worker_drain import DrainMode
from pymosn.server.worker_parts import WorkerParts
from pymosn.server.worker_sockets import WorkerSockets

#: Seconds between two periodic reports of the metrics.
STATS_PERIOD: Final = 1.0
#: Seconds for closing pools and filters, and for the last report, before the process exits regardless.
CLOSE_TIME: Final = 1.0


class Worker:
    """Executes the commands received over the channel. On `Stop` it sets `exit_code` and stops the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, stacks: StackRecorder) -> None:
        """`sock`: the channel to the supervisor. `stacks`: records the stacks of this thread."""
        self.exit_code = 0
        self._loop = loop
        self._stacks = stacks
        self._sockets = WorkerSockets()
        self._sessions: SessionReceiver | None = None
        self._runtime: WorkerRuntime | None = None
        self._report: StatsReport | None = None
        self._faults = FaultReport()
        self._traces: TraceReport | None = None
        self._overload: OverloadManager | None = None
        self._taps: TapOutbox | None = None
        # Of `UseLedger`.
        self._ledger: list[int] = []
        # Of `Guard`: the page and the queue that all workers share.
        self._shared: list[int] = []
        # Of `Receive`: the queue of connections from another generation.
        self._moved: list[int] = []
        self._arrivals: ReceivingQueue | None = None
        self._handover: HandoverReceiver | None = None
        self._probes: ProbeReceiver | None = None
        self._departure: Departure | None = None
        self._is_stopping = False
        self._drain_mode = DrainMode(lambda listeners: self._tasks.begin(stop_listening(listeners)))
        # The directories that relative paths of filters and of logs start from.
        self._folders = ("", "")
        self._parts = WorkerParts()
        self._changes: WorkerChanges | None = None
        self._tasks = BackgroundTasks(loop, self._on_command_failed)
        self._channel: Channel[Command] = Channel(loop, sock, messages.COMMANDS, self._execute, self._on_orphaned)
        self._recordings = Recordings(loop, self._channel.send, self._tasks.begin)
        loop.set_exception_handler(self._on_exception)

    def _execute(self, command: Command, descriptors: list[int]) -> None:
        match command:
            case messages.Sockets():
                self._sockets.receive(command, descriptors)
            case messages.Own():
                self._sockets.own(command.kept, [] if self._runtime is None else self._runtime.listeners)
            case messages.ReadDatagrams():
                self._sockets.waiting = set()
                if self._sessions is not None:
                    self._sessions.read_all()
            case messages.Part():
                self._parts.receive(command.digest, command.content)
            case messages.Guard():
                self._shared = descriptors
            case messages.UseLedger():
                self._ledger = descriptors
            case messages.Receive():
                self._moved = descriptors
            case messages.Configure():
                self._configure(command)
            case messages.Probe():
                if self._probes is not None:
                    self._probes.serve(*descriptors)
            case messages.Stop():
                self._tasks.begin(self._stop())
            case _:
                if self._runtime is not None:
                    self._execute_configured(self._runtime, command, descriptors)

    def _execute_configured(self, runtime: WorkerRuntime, command: Command, descriptors: list[int]) -> None:
        runtime.clock.tick()
        match command:
            case messages.Serve():
                self._tasks.begin(self._open(runtime))
            case messages.GetStats():
                if self._report is not None:
                    faults = self._faults.take(runtime.filter_codes(), runtime.logs.without_secrets)
                    if faults:
                        self._channel.send(messages.FilterFaults(faults))
                    self._tasks.begin(self._report.send(command.ticket))
            case messages.RecordCpu() | messages.EndRecording() | messages.RecordHeap() | messages.GetStacks():
                self._recordings.execute(command, descriptors)
            case messages.TraceAllocations():
                self._tasks.begin(self._trace(runtime, command))
            case messages.GetExchanges():
                found = runtime.runtime.stories.report(command.limit)
                self._channel.send(messages.Exchanges(command.ticket, *found))
            case messages.StartTap():
                if self._taps is not None:
                    self._taps.start(command)
            case messages.StopTap():
                if self._taps is not None:
                    self._taps.stop(command.tap)
            case messages.SetTicketSecret():
                runtime.set_ticket_secret(command.secret)
            case messages.SetDrain():
                self._drain_mode.set(command, runtime.listeners)
            case messages.Drain():
                self._tasks.begin(self._drain(runtime, command.group))
            case messages.Depart():
                self._departure = Departure(self._loop, runtime, self._channel)
                self._tasks.begin(self._departure.run(command, descriptors))
            case messages.Finish():
                if self._departure is not None:
                    self._departure.finish()
            case messages.SetLogLevel() | messages.SwitchLog() | messages.ReopenLogs():
                execute_log_command(runtime, command)
            case _:
                if self._changes is not None:
                    self._changes.execute(command)

    def _on_command_failed(self, error: BaseException) -> None:
        self._on_exception(self._loop, {"message": "a command failed", "exception": error})
        self._end(1)

    def _configure(self, command: messages.Configure) -> None:
        packed = self._parts.configure(command.config)
        logs = open_logs(packed.rest, command.base_dir, command.log_ceiling)
        share = command.workers, command.worker_index
        self._runtime = WorkerRuntime(*share, self._loop, logs, command.incarnation)
        for descriptor in self._ledger:
            self._runtime.metrics.ledger.attach(mmap.mmap(descriptor, LEDGER_SIZE))
            os.close(descriptor)
        self._report = StatsReport(self._runtime.metrics, self._channel)
        self._taps = TapOutbox(self._loop, self._runtime.runtime, self._channel, command.worker_index + 1)
        stamps = self._runtime.runtime.stamps
        self._traces = TraceReport(
            self._runtime.traces, self._channel, stamps, self._loop, self._tasks.begin, self._runtime.log
        )
        self._runtime.note_addresses(command.services)
        self._folders = (command.config_dir, command.base_dir)
        self._changes = WorkerChanges(
            self._loop,
            self._runtime,
            self._channel,
            self._tasks,
            self._parts,
            self._sockets,
            self._folders,
            partial(self._start, self._runtime),
        )
        self._tasks.begin(self._serve(self._runtime, packed))

    async def _serve(self, runtime: WorkerRuntime, packed: PackedConfig) -> None:
        try:
            prepared = run_whole(runtime.prepare(packed, *self._folders))
            await prepared.start_filters()
            prepared.open_logs()
        except BaseException as error:
            raise_if_cancelled()
            self._channel.send(messages.Failed(faults_of(self._loop, error)))
            await self._exit(1)
            return
        if self._is_stopping:
            return
        runtime.activate(prepared)
        run_whole(runtime.clean_up())
        gc.collect()
        Watchdog(self._loop, self._stacks, partial(self._on_blocked, runtime)).start()
        self._overload = OverloadManager(runtime)
        if self._changes is not None:
            self._changes.shortage = self._overload.shortage
        self._channel.send(messages.Built(self._overload.shortage("before its first request")))
        self._push_stats(runtime, self._overload)

    async def _open(self, runtime: WorkerRuntime) -> None:
        """Listens, and accepts connections."""
        self._probes = ProbeReceiver(self._loop, runtime.wheel, lambda: runtime.listeners)
        await self._start(runtime, runtime.listeners)
        if self._is_stopping:
            return
        self._handover = join_siblings(self._loop, runtime, self._shared)
        sessions = self._sessions = SessionReceiver(runtime.datagram_readers, runtime.log)
        self._arrivals = receive_connections(self._loop, runtime, self._moved, sessions.receive, sessions.read_all)
        if not self._sockets.waiting:
            sessions.read_all()  # `ReadDatagrams` has come already
        self._channel.send(messages.Ready(len(runtime.active.drain_order), runtime.active.marks))

    async def _start(self, runtime: WorkerRuntime, listeners: list[Listener]) -> None:
        """Starts the listeners for which sockets were received."""
        await self._sockets.start(listeners, runtime.retired.listeners)
        self._drain_mode.apply(runtime.listeners)
        runtime.note_addresses()

    def _on_blocked(self, runtime: WorkerRuntime, seconds: float, stack: list[Frame]) -> None:
        """The event loop was blocked."""
        lines = [frame.text() for frame in stack]
        culprit = runtime.filter_at([(frame.file, frame.line) for frame in stack])
        name = "" if culprit is None else culprit.name
        if culprit is not None:
            culprit.blocked.value += 1
        whose = f" in filter {name!r}" if name else ""
        text = f"event loop blocked for about {seconds:.1f} s{whose}: {' < '.join(lines[:8]) or 'no Python code'}"
        runtime.log.write(ERROR, text, "pymosn.filter.blocked")
        self._channel.send(messages.Blocked(seconds, name, lines))

    def _push_stats(self, runtime: WorkerRuntime, overload: OverloadManager) -> None:
        self._loop.call_later(STATS_PERIOD, self._push_stats, runtime, overload)
        runtime.clock.tick()
        overload.check()
        runtime.logs.count_drops(runtime.metrics)
        runtime.runtime.stories.expire()
        # Reports must not pile up for a supervisor that does not read.
        if self._report is not None and self._channel.is_flushed and not self._report.is_busy:
            self._tasks.begin(self._report.send(0))
            self._push_failures(runtime)
            if runtime.ejections.take_change():
                self._channel.send(messages.Ejections(runtime.ejections.all()))

    def _push_failures(self, runtime: WorkerRuntime) -> None:
        """Reports the last failed handshakes."""
        now, wall = runtime.clock.now, time.time()
        found = [
            (listener, wall - (now - one.at), one.client, one.reason, one.detail)
            for listener, kept in runtime.take_failed_handshakes().items()
            for one in kept
        ]
        if found:
            self._channel.send(messages.HandshakesFailed(found))

    async def _trace(self, runtime: WorkerRuntime, command: messages.TraceAllocations) -> None:
        lines = await trace_allocations(command.seconds, runtime.filter_files())
        self._channel.send(messages.Allocations(command.ticket, lines))

    async def _drain(self, runtime: WorkerRuntime, group: int) -> None:
        await close_listeners(runtime.active.drain_order[group], math.inf)
        self._channel.send(messages.Drained(group))

    async def _stop(self) -> None:
        """Closes everything in bounded time; a second call does no harm."""
        runtime = self._runtime
        code = 0
        self._is_stopping = True
        if runtime is not None:
            if self._handover is not None:
                self._handover.set_accepting(False)
            for listener in [*runtime.listeners, *runtime.retired.listeners]:
                # In this order: without clusters and filters even an existing route could only be answered with an error.
                listener.abort_all()
                listener.stop_accepting()
            try:
                code = 0 if await asyncio.wait_for(runtime.aclose(), CLOSE_TIME) else messages.STOP_FAILED
            except BaseException as error:
                raise_if_cancelled()
                code = messages.STOP_FAILED
                runtime.log.write(ERROR, f"closing failed: {describe(error)}")
            if self._traces is not None and self._report is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._traces.send_all(), CLOSE_TIME)
                    await asyncio.wait_for(self._report.send(0), CLOSE_TIME)
        await self._exit(code)

    async def _exit(self, code: int) -> None:
        deadline = self._loop.time() + CLOSE_TIME
        while not self._channel.is_flushed and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self._end(code)

    def _end(self, code: int) -> None:
        self.exit_code = code
        self._loop.stop()

    def _on_orphaned(self, reason: str) -> None:
        """Exits, because without its supervisor a worker can no longer be drained or replaced."""
        self._end(1)

    def is_interrupted(self) -> bool:
        """Runs the event loop until it is stopped: False; True if code of a filter ended it, which must not end the worker.

        Tasks and callbacks that raise SystemExit or KeyboardInterrupt pass it on to whoever runs the loop. Signals do not:
        workers ignore SIGINT.
        """
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            self._on_exception(
                self._loop, {"message": "ignored the end of the process that a filter asked for", "exception": error}
            )
            return True
        return False

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = "" if error is None else with_traceback(error)
        line = f"{context.get('message', 'error in the event loop')}\n{text}".rstrip()
        if self._runtime is not None:
            self._runtime.log.write(ERROR, line, ALERT_PANIC)
        else:
            report_to_stderr(redacted_text(line))


def run(descriptor: int, stacks: int) -> int:
    """Serves until `Stop` is received on the channel `descriptor`; returns the exit code."""
    # Leaves signals to the supervisor, which blocked them when it started this process.
    for signum in SUPERVISOR_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)
    end_with_supervisor(os.environ.get(MARK, ""))
    keep_sockets((descriptor, stacks))
    raise_open_file_limit()
    keep_freed()
    settle()
    recorder = record_start(stacks)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop, socket.socket(fileno=descriptor), recorder)
    while worker.is_interrupted():
        pass
    return worker.exit_code


if __name__ == "__main__":
    secure()
    code = run(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a filter left running must not keep the process alive.
    os._exit(code)
