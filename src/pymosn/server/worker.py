"""One worker: an event loop that serves, under the orders of its supervisor.

Run as `python -m pymosn.server.worker CHANNEL STACKS`, both file descriptors.
Only what serving needs may be imported from here: memory is counted per worker.
"""

import asyncio
import math
import os
import signal
import socket
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, Final

import uvloop

from pymosn.assembly.packed_config import PackedConfig, decode, decode_cluster
from pymosn.assembly.prepared import BuildError, PreparedConfig
from pymosn.assembly.steps import run_in_slices, run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.core.log import ERROR, WARN
from pymosn.network.listener import Listener
from pymosn.observe.logs import LogSet
from pymosn.server.allocations import trace_allocations
from pymosn.server.channel import Channel
from pymosn.server.garbage import GarbageCollection, settle
from pymosn.server.logs import open_logs
from pymosn.server.messages import (
    COMMANDS,
    Abandon,
    Allocations,
    Blocked,
    ChangeCommand,
    Command,
    Commit,
    Committed,
    Configure,
    Drain,
    Drained,
    Failed,
    GetStats,
    HostHealth,
    Prepare,
    Prepared,
    Ready,
    ReopenLogs,
    Retire,
    SetHosts,
    SetLogLevel,
    Sockets,
    Stats,
    Stop,
    SwitchLog,
    TraceAllocations,
)
from pymosn.server.overload import OverloadManager
from pymosn.server.sizing import raise_open_file_limit
from pymosn.server.watchdog import Frame, Watchdog

#: Seconds between two looks at the timer wheel, while something waits in it and while it is empty.
BUSY_PERIOD: Final = 0.02
EMPTY_PERIOD: Final = 0.2
#: Seconds between two unasked reports of the metrics.
STATS_PERIOD: Final = 1.0
#: Seconds for closing pools and filters, and for the last report, before the process ends regardless.
CLOSE_TIME: Final = 1.0
#: Seconds for which a worker builds a change before it looks after its connections again.
BUILD_SLICE: Final = 0.005
#: Seconds between two looks at how many connections are left while draining.
DRAIN_PERIOD: Final = 0.02


class Worker:
    """Obeys the orders that come over the channel until told to stop; `exit_code` is set then and the loop stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, stacks: int) -> None:
        """`sock`: the channel to the supervisor. `stacks`: a file that the watchdog shares with it."""
        self.exit_code = 0
        self._loop = loop
        self._sockets: dict[str, socket.socket] = {}
        self._runtime: WorkerRuntime | None = None
        self._vitals: OverloadManager | None = None
        self._prepared: tuple[int, PreparedConfig] | None = None
        # The last change that was given up, perhaps while it was still being built.
        self._abandoned = 0
        self._garbage = GarbageCollection(loop)
        self._logs: LogSet | None = None
        # The loop itself holds tasks only weakly.
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchdog = Watchdog(loop, stacks, self._on_blocked)
        self._channel: Channel[Command] = Channel(loop, sock, COMMANDS, self._obey, self._on_orphaned)
        loop.set_exception_handler(self._on_exception)

    def _obey(self, order: Command, descriptors: list[int]) -> None:
        match order:
            case Sockets():
                for name, descriptor in zip(order.listeners, descriptors, strict=True):
                    self._sockets[name] = socket.socket(fileno=descriptor)
            case Configure():
                self._configure(order)
            case Prepare() | Commit() | Abandon() | Retire() | SetHosts() | HostHealth():
                self._obey_change(order)
            case GetStats():
                self._send_stats(order.ticket)
            case TraceAllocations():
                self._begin(self._trace(order))
            case Drain():
                self._begin(self._drain(order.group))
            case Stop():
                self._begin(self._stop(0))
            case _:
                self._obey_log_order(order)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_exception(self._loop, {"message": "a worker's order failed", "exception": error})
            self.exit_code = 1
            self._loop.stop()

    def _configure(self, order: Configure) -> None:
        parcel = decode(order.config)
        self._logs = open_logs(parcel.rest, order.base_dir, order.log_ceiling)
        self._runtime = WorkerRuntime(order.workers, order.worker, self._loop, self._logs)
        self._begin(self._serve(self._runtime, parcel, order))

    async def _serve(self, runtime: WorkerRuntime, parcel: PackedConfig, order: Configure) -> None:
        try:
            made = run_whole(runtime.prepare(parcel, order.config_dir, order.base_dir))
            await made.start_filters()
        except BuildError as error:
            self._channel.send(Failed(error.faults))
            await self._exit(1)
            return
        runtime.activate(made)
        self._vitals = OverloadManager(runtime)
        await self._start(runtime.listeners)
        settle()
        self._tick(runtime)
        self._watchdog.start()
        self._push_stats()
        self._channel.send(Ready(len(runtime.active.drain_order)))

    async def _start(self, listeners: list[Listener]) -> None:
        """Starts those of the listeners that have got a socket."""
        for listener in listeners:
            sock = self._sockets.pop(listener.name, None)
            if sock is not None:
                await listener.start(sock)

    # ---- change

    def _obey_change(self, order: ChangeCommand) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        match order:
            case Prepare():
                self._begin(self._prepare(runtime, order))
            case Commit():
                if self._prepared is not None and self._prepared[0] == order.change:
                    self._begin(self._commit(runtime, *self._prepared))
                self._prepared = None
            case Abandon():
                self._abandoned = order.change
                if self._prepared is not None:
                    self._begin(self._prepared[1].stop_filters())
                self._prepared = None
                while self._sockets:
                    self._sockets.popitem()[1].close()
            case Retire():
                self._begin(self._retire(runtime, order.timeout))
            case SetHosts():
                runtime.set_hosts(decode_cluster(order.cluster))
            case HostHealth():
                runtime.set_health(order.cluster, order.hosts)

    async def _prepare(self, runtime: WorkerRuntime, order: Prepare) -> None:
        """Builds without effect, and tells what is wrong; requests are served meanwhile."""
        self._channel.send(Prepared(order.change, await self._build(runtime, order)))

    async def _build(self, runtime: WorkerRuntime, order: Prepare) -> list[Diagnostic]:
        try:
            steps = runtime.prepare(decode(order.config), order.config_dir, order.base_dir)
            made = await run_in_slices(steps, BUILD_SLICE)
            await made.start_filters()
        except BuildError as error:
            return error.faults
        except Exception as error:
            # Whatever a configuration breaks here, the one in force goes on.
            self._on_exception(self._loop, {"message": "a change cannot be built", "exception": error})
            return [error_at("", f"cannot be built: {error!r}")]
        if order.change <= self._abandoned:
            await made.stop_filters()
        else:
            self._prepared = (order.change, made)
        return []

    async def _commit(self, runtime: WorkerRuntime, change: int, made: PreparedConfig) -> None:
        await self._start(runtime.activate(made))
        self._channel.send(Committed(change, len(runtime.active.drain_order)))
        self._garbage.after_change()

    async def _retire(self, runtime: WorkerRuntime, timeout: float) -> None:
        """Ends what was removed, and then drops what only that needed."""
        listeners = list(runtime.retired.listeners)
        deadline = self._loop.time() + timeout
        if listeners:
            await self._close_listeners(listeners, deadline)
        runtime.retired.listeners = [listener for listener in runtime.retired.listeners if listener not in listeners]
        while runtime.retired.uses_filters and self._loop.time() < deadline:
            await asyncio.sleep(DRAIN_PERIOD)
        await runtime.retired.stop_filters()
        runtime.tidy()

    async def _close_listeners(self, listeners: list[Listener], deadline: float) -> None:
        """Stops accepting and waits until no connection is left; at the deadline cuts those that are."""
        # One round of the loop accepts what waits in the backlog; closing the socket would reset it.
        await asyncio.sleep(0)
        for listener in listeners:
            listener.stop_accepting()
            listener.drain()
        # What was accepted just now becomes a connection in the next round of the loop, and must be told too.
        await asyncio.sleep(DRAIN_PERIOD)
        for listener in listeners:
            listener.drain()
        while any(listener.connection_count for listener in listeners):
            await asyncio.sleep(DRAIN_PERIOD)
            if self._loop.time() > deadline:
                for listener in listeners:
                    listener.abort_all()

    def _tick(self, runtime: WorkerRuntime) -> None:
        self._loop.call_later(BUSY_PERIOD if len(runtime.wheel) else EMPTY_PERIOD, self._tick, runtime)
        runtime.clock.tick()
        runtime.wheel.advance()

    def _on_blocked(self, seconds: float, stack: list[Frame]) -> None:
        """The loop stood still."""
        runtime = self._runtime
        lines = [frame.text() for frame in stack]
        named = runtime.filter_at([(frame.file, frame.line) for frame in stack]) if runtime is not None else None
        if named is not None:
            named.blocked.value += 1
        if runtime is not None:
            whose = "" if named is None else f" in filter {named.name!r}"
            text = f"the loop stood still for about {seconds:.1f} s{whose}: {' < '.join(lines[:8]) or 'no Python code'}"
            runtime.log.write(ERROR, text, "pymosn.filter.blocked")
        self._channel.send(Blocked(seconds, "" if named is None else named.name, lines))

    def _push_stats(self) -> None:
        self._loop.call_later(STATS_PERIOD, self._push_stats)
        if self._vitals is not None:
            self._vitals.look()
        # A supervisor that does not read gets no second report behind the first.
        if self._channel.is_flushed:
            self._send_stats(0)

    def _send_stats(self, ticket: int) -> None:
        if self._runtime is not None:
            self._channel.send(Stats(ticket, self._runtime.metrics.snapshot()))

    def _obey_log_order(self, order: Command) -> None:
        logs = self._logs
        if logs is None:
            return
        try:
            match order:
                case SetLogLevel():
                    logs.set_level(order.path, order.level)
                case SwitchLog():
                    logs.switch(order.path, order.enabled)
                case ReopenLogs():
                    logs.reopen()
        except (KeyError, ValueError) as error:
            logs.process_log.write(WARN, f"log order without effect: {error}")

    async def _trace(self, order: TraceAllocations) -> None:
        lines = await trace_allocations(order.seconds, [] if self._runtime is None else self._runtime.filter_files())
        self._channel.send(Allocations(order.ticket, lines))

    async def _drain(self, group: int) -> None:
        if self._runtime is None:
            return
        await self._close_listeners(self._runtime.active.drain_order[group], math.inf)
        self._channel.send(Drained(group))

    async def _stop(self, code: int) -> None:
        """Ends everything in bounded time; a second call does no harm."""
        runtime = self._runtime
        if runtime is not None:
            for listener in [*runtime.listeners, *runtime.retired.listeners]:
                listener.stop_accepting()
                listener.abort_all()
            try:
                await asyncio.wait_for(runtime.aclose(), CLOSE_TIME)
            except Exception as error:
                runtime.log.write(ERROR, f"closing failed: {error!r}")
            self._send_stats(0)
        await self._exit(code)

    async def _exit(self, code: int) -> None:
        deadline = self._loop.time() + CLOSE_TIME
        while not self._channel.is_flushed and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self.exit_code = code
        self._loop.stop()

    def _on_orphaned(self, reason: str) -> None:
        """The supervisor is gone: nobody could drain, replace or count this worker any more."""
        self.exit_code = 1
        self._loop.stop()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        line = f"{context.get('message', 'error in the event loop')}\n{text}".rstrip()
        if self._runtime is not None:
            self._runtime.log.write(ERROR, line, "mosn.proxy.panic")
        else:
            print(line, file=sys.stderr)


def ignore_signals() -> None:
    """Leaves it to the supervisor what a signal means; it blocked them when it spawned this process."""
    held_back = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
    for number in held_back:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)


def run(descriptor: int, stacks: int) -> int:
    """Serves on the channel `descriptor` until told to stop; returns the exit code."""
    ignore_signals()
    raise_open_file_limit()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop, socket.socket(fileno=descriptor), stacks)
    loop.run_forever()
    return worker.exit_code


if __name__ == "__main__":
    code = run(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a filter left running must not keep the process.
    os._exit(code)
